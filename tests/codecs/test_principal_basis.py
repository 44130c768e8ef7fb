"""Principal directions: those of the linear algebra library, and always an orthonormal basis."""

from __future__ import annotations

import numpy as np
import pytest

from slstream.codecs.principal_basis import (
    BASIS_BITS,
    SENT_BITS,
    CodeArray,
    DoubleArray,
    complete,
    identity,
    principal_directions,
    solve_symmetric,
)


def correlated(rows: int, width: int, rank: int) -> DoubleArray:
    rng = np.random.default_rng(3)
    factors = rng.standard_normal((rank, width)) * np.exp(-np.arange(rank))[:, None]
    return np.rint(2**20 * rng.standard_normal((rows, rank)) @ factors)


@pytest.mark.parametrize("width", [1, 2, 3, 17, 64])
def test_eigenvectors_are_those_of_the_library(width: int) -> None:
    rng = np.random.default_rng(width)
    for matrix in (
        rng.standard_normal((width, width)),
        np.zeros((width, width)),
        np.ones((width, width)),
        np.diag(rng.standard_normal(width)),
    ):
        symmetric = matrix + matrix.T
        vectors, values = symmetric.copy(), np.zeros(width)
        solve_symmetric(vectors, values)
        scale = 1 + np.abs(symmetric).max()
        assert np.allclose(values, np.linalg.eigvalsh(symmetric), atol=1e-9 * scale)
        assert np.allclose(vectors @ vectors.T, np.eye(width), atol=1e-10)
        assert np.allclose(vectors @ symmetric @ vectors.T, np.diag(values), atol=1e-9 * scale)


def test_directions_above_the_least_energy_are_found_strongest_first() -> None:
    rows = correlated(300, 20, 6)
    energies = np.sort(np.linalg.eigvalsh(rows.T @ rows / 300))[::-1]
    least = float(np.sqrt(energies[2] * energies[3]))
    codes = principal_directions(rows, least)
    assert codes.shape == (3, 20)
    directions = codes * 2.0**-SENT_BITS
    along = ((rows @ directions.T) ** 2).mean(axis=0)
    assert np.allclose(along, energies[:3], rtol=0.1)
    assert principal_directions(rows, float(energies[0]) * 1.1).shape == (0, 20)


def test_a_basis_keeps_the_span_of_what_was_sent() -> None:
    rows = correlated(300, 40, 5)
    codes = principal_directions(rows, 2.0**10)
    basis = complete(codes, 40) * 2.0**-BASIS_BITS
    coordinates = rows @ basis.T
    kept = (coordinates[:, : len(codes)] ** 2).sum() / (rows**2).sum()
    assert kept > 0.99


@pytest.mark.parametrize(
    "codes",
    [
        np.zeros((3, 12), np.int32),
        np.ones((5, 12), np.int32),
        np.full((2, 12), -(1 << 20), np.int32),
        np.eye(12, dtype=np.int32),
        np.random.default_rng(0).integers(-(1 << 20), 1 << 20, (12, 12)).astype(np.int32),
    ],
)
def test_any_directions_are_completed_to_an_orthonormal_basis(codes: CodeArray) -> None:
    basis = complete(codes, 12) * 2.0**-BASIS_BITS
    assert np.allclose(basis @ basis.T, np.eye(12), atol=1e-5)


def test_the_identity_is_a_basis_in_its_units() -> None:
    assert np.array_equal(identity(3), np.diag([1 << BASIS_BITS] * 3))
