"""Orthonormal bases: the principal directions of a tensor's rows, found and written as integers.

Everything is computed with integers that float64 holds exactly, or in one fixed order of IEEE
additions, multiplications, divisions and square roots. So a basis is the same on every machine:
the sender's when it is found, and both ends' when it is completed from what was sent.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from slstream.codecs.kernel import Scalar, kernel

BasisArray = npt.NDArray[np.int32]
CodeArray = npt.NDArray[np.int32]
DoubleArray = npt.NDArray[np.float64]

BASIS_BITS = 20
"""Entries of a basis are multiples of ``2**-BASIS_BITS``."""

SENT_BITS = 6
"""Entries of sent directions are multiples of ``2**-SENT_BITS``: completing a basis makes them
orthonormal again, and what a direction misses its neighbours take."""

_COVARIANCE_BITS = 15
"""Bits of an element, relative to the largest, of which products are summed: 2**22 rows fit."""


def identity(width: int) -> BasisArray:
    """The basis that changes nothing: int32 [width, width]."""
    return np.eye(width, dtype=np.int32) << BASIS_BITS


def principal_directions(rows: DoubleArray, least: float) -> CodeArray:
    """The directions in which rows have more than some energy, as integers to send.

    Not centred: a common mean is a direction like any other.

    Args:
        rows: float64 [rows, width], whole numbers, at least one row.
        least: what a direction's mean square over the rows exceeds.

    Returns:
        int32 [k, width] in units of ``2**-SENT_BITS``, by falling energy; k may be 0.
    """
    largest = max(float(rows.max()), -float(rows.min()))
    scale = 2.0 ** min(_COVARIANCE_BITS - math.frexp(largest)[1], 0)
    coarse = np.rint(rows * scale)
    covariance = product(coarse.T, coarse)
    energies = np.zeros(len(covariance), np.float64)
    solve_symmetric(covariance, energies)  # leaves the directions in its rows
    chosen = np.flatnonzero(energies > least * scale * scale * len(rows))[::-1]
    return np.rint(covariance[chosen] * 2.0**SENT_BITS).astype(np.int32)


def complete(codes: CodeArray, width: int) -> BasisArray:
    """The orthonormal basis that begins with the span of sent directions, whatever they are.

    Returns:
        int32 [width, width] in units of ``2**-BASIS_BITS``; a direction a row.
    """
    basis = np.eye(width)
    complete_basis(codes.astype(np.float64), basis)
    basis *= 2.0**BASIS_BITS
    return np.rint(basis, out=basis).astype(np.int32)


def product(a: DoubleArray, b: DoubleArray) -> DoubleArray:
    """``a @ b`` of whole numbers whose sums stay below ``2**53``: exact.

    Not by the linear algebra library: with its threads it waits for cores that others have, which
    took 60 times as long as the product where both parties train on one machine.
    """
    out = np.zeros((a.shape[0], b.shape[1]), np.float64)
    add_product(np.ascontiguousarray(a), np.ascontiguousarray(b), out)
    return out


@kernel("void(f8[:,::1], f8[:,::1], f8[:,::1])")
def add_product(a: DoubleArray, b: DoubleArray, out: DoubleArray) -> None:
    """Add ``a @ b`` to ``out``, four rows of ``b`` at a time."""
    inner = b.shape[0]
    whole = inner - inner % 4
    for r in range(a.shape[0]):
        row = out[r]
        for i in range(0, whole, 4):
            x0, x1, x2, x3 = a[r, i], a[r, i + 1], a[r, i + 2], a[r, i + 3]
            b0, b1, b2, b3 = b[i], b[i + 1], b[i + 2], b[i + 3]
            for j in range(row.size):
                row[j] += (x0 * b0[j] + x1 * b1[j]) + (x2 * b2[j] + x3 * b3[j])
        for i in range(whole, inner):
            for j in range(row.size):
                row[j] += a[r, i] * b[i, j]


@kernel("void(f8[::1], f8[::1], f8, i8)")
def _reflect(x: DoubleArray, v: DoubleArray, factor: Scalar, first: Scalar) -> None:
    if factor == 0.0:
        return
    along = np.float64(0.0)
    for i in range(first, x.size):
        along += x[i] * v[i]
    along *= factor
    for i in range(first, x.size):
        x[i] -= along * v[i]


@kernel("void(f8[:,::1], f8[:,::1])")
def complete_basis(directions: DoubleArray, basis: DoubleArray) -> None:
    """Householder reflections (1958) that triangularise the directions, applied to unit vectors.

    Args:
        directions: [k, n], overwritten by the reflections' vectors.
        basis: the unit matrix [n, n], replaced by the basis, a vector a row.
    """
    n = basis.shape[0]
    count = min(directions.shape[0], n)
    factors = np.zeros(count, np.float64)
    for j in range(count):
        v = directions[j]
        norm = np.float64(0.0)
        for i in range(j, n):
            norm += v[i] * v[i]
        norm = np.sqrt(norm)
        for i in range(j):
            v[i] = 0.0
        if norm < 1e-3:  # depends on those before it: reflects nothing
            continue
        v[j] += norm if v[j] >= 0.0 else -norm
        square = np.float64(0.0)
        for i in range(j, n):
            square += v[i] * v[i]
        factors[j] = 2.0 / square
        for r in range(j + 1, count):
            _reflect(directions[r], v, factors[j], j)
    for i in range(n):
        for j in range(count - 1, -1, -1):
            _reflect(basis[i], directions[j], factors[j], j)


@kernel("void(f8[:,::1], f8[::1], f8[::1])")
def _reduce(v: DoubleArray, d: DoubleArray, e: DoubleArray) -> None:
    """Reduce ``v`` to the diagonal ``d`` and ``e`` beside it; ``v`` becomes the transform.

    With ``v[j][k]`` for what the published ``tred2`` calls ``v[k][j]``.
    """
    n = d.size
    for j in range(n):
        d[j] = v[j, n - 1]
    for i in range(n - 1, 0, -1):
        scale = np.float64(0.0)
        h = np.float64(0.0)
        for k in range(i):
            scale += abs(d[k])
        if scale == 0.0:
            e[i] = d[i - 1]
            for j in range(i):
                d[j] = v[j, i - 1]
                v[j, i] = 0.0
                v[i, j] = 0.0
        else:
            for k in range(i):
                d[k] /= scale
                h += d[k] * d[k]
            f = d[i - 1]
            g = np.sqrt(h)
            if f > 0.0:
                g = -g
            e[i] = scale * g
            h -= f * g
            d[i - 1] = f - g
            for j in range(i):
                e[j] = 0.0
            for j in range(i):
                f = d[j]
                v[i, j] = f
                column = v[j]
                g = e[j] + column[j] * f
                for k in range(j + 1, i):
                    g += column[k] * d[k]
                    e[k] += column[k] * f
                e[j] = g
            f = np.float64(0.0)
            for j in range(i):
                e[j] /= h
                f += e[j] * d[j]
            hh = f / (h + h)
            for j in range(i):
                e[j] -= hh * d[j]
            for j in range(i):
                f = d[j]
                g = e[j]
                column = v[j]
                for k in range(j, i):
                    column[k] -= f * e[k] + g * d[k]
                d[j] = column[i - 1]
                column[i] = 0.0
        d[i] = h
    for i in range(n - 1):
        v[i, n - 1] = v[i, i]
        v[i, i] = 1.0
        h = d[i + 1]
        following = v[i + 1]
        if h != 0.0:
            for k in range(i + 1):
                d[k] = following[k] / h
            for j in range(i + 1):
                column = v[j]
                g = np.float64(0.0)
                for k in range(i + 1):
                    g += following[k] * column[k]
                for k in range(i + 1):
                    column[k] -= g * d[k]
        for k in range(i + 1):
            following[k] = 0.0
    for j in range(n):
        d[j] = v[j, n - 1]
        v[j, n - 1] = 0.0
    v[n - 1, n - 1] = 1.0
    e[0] = 0.0


@kernel("void(f8[:,::1], f8[::1], f8[::1])")
def _iterate(v: DoubleArray, d: DoubleArray, e: DoubleArray) -> None:
    """Eigenvalues of the three diagonals into ``d``, ascending; the vectors into rows of ``v``."""
    n = d.size
    for i in range(1, n):
        e[i - 1] = e[i]
    if n > 0:
        e[n - 1] = 0.0
    f = np.float64(0.0)
    # Against all of the matrix, not what was seen of it as published: where most of it is 0, as in
    # covariances of few directions, rotations would divide by what underflows.
    largest = np.float64(0.0)
    for i in range(n):
        largest = max(largest, abs(d[i]) + abs(e[i]))
    tiny = 2.0**-52
    for l in range(n):  # noqa: E741 - as published
        m = l
        while m < n - 1 and abs(e[m]) > tiny * largest:
            m += 1
        if m > l:
            for _ in range(60):
                g = d[l]
                p = (d[l + 1] - g) / (2.0 * e[l])
                r = np.sqrt(p * p + 1.0)
                if p < 0.0:
                    r = -r
                d[l] = e[l] / (p + r)
                d[l + 1] = e[l] * (p + r)
                dl1 = d[l + 1]
                h = g - d[l]
                for i in range(l + 2, n):
                    d[i] -= h
                f += h
                p = d[m]
                c = np.float64(1.0)
                c2 = c
                c3 = c
                el1 = e[l + 1]
                s = np.float64(0.0)
                s2 = np.float64(0.0)
                for i in range(m - 1, l - 1, -1):
                    c3 = c2
                    c2 = c
                    s2 = s
                    g = c * e[i]
                    h = c * p
                    r = np.sqrt(p * p + e[i] * e[i])
                    e[i + 1] = s * r
                    s = e[i] / r
                    c = p / r
                    p = c * d[i] - s * g
                    d[i + 1] = h + s * (c * g + s * d[i])
                    low, high = v[i], v[i + 1]
                    for k in range(n):
                        h = high[k]
                        high[k] = s * low[k] + c * h
                        low[k] = c * low[k] - s * h
                p = -s * s2 * c3 * el1 * e[l] / dl1
                e[l] = s * p
                d[l] = c * p
                if not abs(e[l]) > tiny * largest:
                    break
        d[l] += f
        e[l] = 0.0
    for i in range(n - 1):
        k = i
        for j in range(i + 1, n):
            if d[j] < d[k]:
                k = j
        if k != i:
            d[i], d[k] = d[k], d[i]
            for j in range(n):
                v[i, j], v[k, j] = v[k, j], v[i, j]


@kernel("void(f8[:,::1], f8[::1])")
def solve_symmetric(a: DoubleArray, values: DoubleArray) -> None:
    """Eigenvalues, ascending, of a symmetric matrix, whose rows become the eigenvectors.

    Householder's reduction to three diagonals and the QL iteration with implicit shifts:
    ``tred2`` and ``tql2`` of J. Wilkinson and C. Reinsch (1971), laid out by rows.
    """
    n = values.size
    beside = np.zeros(n, np.float64)
    _reduce(a, values, beside)
    _iterate(a, values, beside)
