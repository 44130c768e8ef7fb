"""Rows as integer coordinates in an orthonormal basis, which is kept and, when it pays, replaced.

What ``klt`` and ``delta`` share. Both remember a :class:`Rotation`: the basis, and what the entropy
coder has learnt (:mod:`slstream.codecs.adaptive_codes`). The body of their frames:

    offset  size  field
    0       4     which state it continues, u32 little-endian
    4       1     m, 16 to 32: the step is ``m * 2**e``
    5       1     e, signed, -127 to 96
    6       2     c, u16 little-endian: coordinates from the c-th on are 0 in all rows
    --- with a new basis only
    8       2     k, u16 little-endian: directions that are sent
    10      4     b, u32 little-endian
    14      b     their entries in units of 2**-6, coded
    --- end
    ...     ...   coordinates of the rows in steps, coded

**Exactness.** A decoded row is a sum of integers times integers, which float64 holds exactly in any
order of adding, and is scaled once: both ends and all machines get the same bits.

**When a basis is replaced.** The sender tries at the first tensor, then after 1, 2, 4, ... tensors
with one basis, and after every ``refresh`` of them. It finds directions in the original tensor:
decoded ones lose directions for ever, which cost 2.5 points of accuracy on digits. It codes with
the old basis and with the new one, and replaces the old if what that saves, times the tensors that
the old one has lasted, is more than the directions take.

**What is sent.** Only directions in which rows have more than an eighth of a squared step. Both
ends complete them to a basis, so that nothing of a tensor is left out, and rounding without bias
stays so.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slstream.codecs import adaptive_codes, quantiser
from slstream.codecs.adaptive_codes import ByteArray, CodeArray, ModelArray
from slstream.codecs.contract import Buffer, CodecContext, FloatArray, TensorSpec
from slstream.codecs.kernel import Scalar, kernel
from slstream.codecs.payload import as_bytes
from slstream.codecs.principal_basis import (
    BASIS_BITS,
    BasisArray,
    DoubleArray,
    complete,
    identity,
    principal_directions,
    product,
)
from slstream.codecs.stateful_payload import check_history
from slstream.errors import DecodeError

WIDEST = 512
"""Wider rows keep the basis of unit vectors: finding another would take seconds. From the
``WIDEST``-th on, columns share what the entropy coder has learnt."""

_HEADER = struct.Struct("<IBbH")
_BASIS_HEADER = struct.Struct("<HI")

_WORTH_SENDING = 0.125
"""Least mean square of a direction that is sent, in squared steps. Half as much sends directions
that save less than they take; twice as much costs 3 to 15 % more bytes."""

_ROUND_UP = 0.6
"""Fraction of a step from which nearest rounding goes away from 0. Above 1/2, as a coordinate of 0
takes far fewer bits: against 1/2, half of the bytes of ``delta``, whose error is sent the next
time."""

_FIRST_LASTS = 8
"""Tensors over which the first basis has to pay."""

_FINE_BITS = 24
_MULTIPLES = (16, 32)
_EXPONENTS = (-127, 96)
"""Decoded values then stay within float32 whatever the coordinates are."""


class Step(NamedTuple):
    """A step of ``multiple * 2**exponent``."""

    multiple: int
    exponent: int

    @classmethod
    def nearest(cls, size: float) -> Step:
        """The step nearest to a size: within 3 %. The size is 0 or within 2**-120 to 2**100."""
        mantissa, exponent = math.frexp(size)
        if size == 0:
            return cls(_MULTIPLES[0], _EXPONENTS[0])
        return cls(round(32 * mantissa), exponent - 5)


class FineRows(NamedTuple):
    """Rows as integers that are fine enough to stand for float32 values."""

    values: DoubleArray
    """float64 [rows, width], whole numbers below ``2**26`` in magnitude."""
    exponent: int
    """A value stands for itself times ``2**exponent``."""

    @classmethod
    def of(cls, tensor: FloatArray, largest: float) -> FineRows:
        """Those of a tensor [rows, width]; 24 bits for ``largest``."""
        exponent = math.frexp(largest)[1] - _FINE_BITS
        scaled = tensor * np.float64(2.0**-exponent)
        return cls(np.rint(scaled, out=scaled), exponent)


class Rotation:
    """The part of a state that rotates rows of one width and codes their coordinates.

    Attributes:
        width: elements of a row.
        basis: int32 [width, width], a direction a row, in units of ``2**-20``; empty above
            ``WIDEST``.
        models: of the entropy coder.
        numbers: int64 [2]: a checksum of all tensors so far; tensors with this basis.
    """

    __slots__ = ("basis", "models", "numbers", "width")

    def __init__(self, width: int) -> None:
        """The rotation before the first tensor: none."""
        self.width = width
        self.basis = identity(width) if 0 < width <= WIDEST else np.zeros((0, 0), np.int32)
        self.models = adaptive_codes.new_models(min(max(width, 1), WIDEST))
        self.numbers = np.zeros(2, np.int64)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it; without the basis where it never changes."""
        arrays: dict[str, npt.NDArray[Any]] = {"models": self.models, "numbers": self.numbers}
        return {**arrays, "basis": self.basis} if self.basis.size else arrays

    @property
    def history(self) -> int:
        """Checksum of all tensors so far: equal on two ends that decoded the same ones."""
        return int(self.numbers[0])

    def remember(self, *parts: Buffer) -> None:
        """Add a tensor to the history, after what else it changed."""
        history = self.history
        for part in parts:
            history = zlib.crc32(part, history)
        self.numbers[0] = history


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinates:
    """What a body holds; nothing of the state has changed yet."""

    step: Step
    values: CodeArray
    """int32 [rows, c], in steps."""
    basis: BasisArray
    """In which they are meant."""
    models: ModelArray
    """After coding them."""
    replaces: bool
    """Whether the basis is a new one."""

    def update(self, rotation: Rotation) -> None:
        """Make the state what it is after this tensor."""
        rotation.models[:] = self.models
        if self.replaces:
            rotation.basis[:] = self.basis
            rotation.numbers[1] = 0
        rotation.numbers[1] += 1

    def floats(self, width: int) -> FloatArray:
        """The rows they stand for: float32 [rows, width]."""
        out = np.empty((len(self.values), width), np.float32)
        factor = math.ldexp(self.step.multiple, self.step.exponent - BASIS_BITS)
        self._rotate_back(factor, out, whole=False)
        return out

    def integers(self, width: int) -> CodeArray:
        """The rows they stand for in units of ``2**exponent``, rounded: int32 [rows, width]."""
        out = np.empty((len(self.values), width), np.int32)
        self._rotate_back(
            math.ldexp(self.step.multiple, -BASIS_BITS), out.view(np.float32), whole=True
        )
        return out

    def _rotate_back(self, factor: float, out: FloatArray, *, whole: bool) -> None:
        flat = out.reshape(-1)
        columns, width = self.values.shape[1], out.shape[1]
        rotate_back(
            self.values.reshape(-1), columns, self.basis.reshape(-1), width, factor, whole,
            flat, flat.view(np.int32),
        )  # fmt: skip


class _Coded(NamedTuple):
    """Coordinates in one basis: how many columns, and their bytes."""

    columns: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyWriter:
    """Codes the rows of one tensor.

    Attributes:
        rotation: the state; stays as it is.
        refresh: tensors after which a new basis is tried, at the latest.
        most: bytes of a body.
        context: key of the noise, to round without bias; ``None``: to nearest.
    """

    rotation: Rotation
    refresh: int
    most: int
    context: CodecContext | None

    def write(self, rows: FineRows, step: Step, check: int) -> tuple[bytes, bool] | None:
        """The body, and whether it brings a new basis.

        Args:
            rows: [rows, width of the state].
            step: of the coordinates.
            check: which state the body continues.

        Returns:
            ``None`` when it would be longer than ``most``.
        """
        scale = math.ldexp(1 / step.multiple, rows.exponent - step.exponent)
        coded, directions = self._code(rows.values, self.rotation.basis, scale), b""
        if self._tries_a_new_basis():
            replaced = self._replace(rows.values, scale, coded)
            if replaced is not None:
                coded, directions = replaced
        if coded is None:
            return None
        body = _HEADER.pack(check, *step, coded.columns) + directions + coded.data
        return (body, bool(directions)) if len(body) <= self.most else None

    def _tries_a_new_basis(self) -> bool:
        lasted = int(self.rotation.numbers[1])
        return self.rotation.basis.size > 1 and (
            lasted & (lasted - 1) == 0 or lasted % self.refresh == 0
        )

    def _replace(
        self, values: DoubleArray, scale: float, old: _Coded | None
    ) -> tuple[_Coded, bytes] | None:
        """The rows in a new basis and the directions to send, if that pays."""
        directions = principal_directions(values, _WORTH_SENDING / scale**2)
        if len(directions) == 0:
            return None
        models = adaptive_codes.new_models(1)
        sent = adaptive_codes.encode(directions.reshape(-1, 1), models, self.most)
        new = self._code(values, complete(directions, values.shape[1]), scale)
        if sent is None or new is None:
            return None
        lasted = int(self.rotation.numbers[1]) or _FIRST_LASTS
        if old is not None and (len(old.data) - len(new.data)) * lasted <= len(sent):
            return None
        return new, _BASIS_HEADER.pack(len(directions), len(sent)) + sent

    def _code(self, values: DoubleArray, basis: BasisArray, scale: float) -> _Coded | None:
        """The rows in a basis; ``None`` when a coordinate or all of them are too large."""
        if basis.size:
            # Sums stay below 2**50.
            values = product(values, basis.T.astype(np.float64))
            scale *= 2.0**-BASIS_BITS
        noise = np.empty(0 if self.context is None else values.size, np.float32)
        if self.context is not None:
            quantiser.fill_noise(noise, 0, *quantiser.noise_keys(self.context))
        codes = np.empty(values.shape, np.int32)
        columns = quantise(
            values.reshape(-1), values.shape[1], scale, noise, _ROUND_UP, codes.reshape(-1)
        )
        if columns < 0 or columns > 0xFFFF:
            return None
        kept = np.ascontiguousarray(codes[:, :columns])
        data = adaptive_codes.encode(kept, self.rotation.models.copy(), self.most)
        return None if data is None else _Coded(columns, data)


def read_body(
    data: Buffer,
    spec: TensorSpec,
    rotation: Rotation,
    check: int,
    codec_id: str,
    *,
    with_basis: bool,
) -> Coordinates:
    """Read the body behind a form byte; the bytes are foreign, the state stays as it is.

    Raises:
        DecodeError: not a body for this state.
    """
    body = as_bytes(data)[1:]
    try:
        return _read_body(body, spec.shape[0], rotation, check, with_basis=with_basis)
    except DecodeError as exc:
        raise DecodeError(f"codec {codec_id!r}: {exc}") from exc


def _read_body(
    body: ByteArray, rows: int, rotation: Rotation, check: int, *, with_basis: bool
) -> Coordinates:
    width = rotation.width
    at = _HEADER.size + (_BASIS_HEADER.size if with_basis else 0)
    if body.size < at:
        raise DecodeError(f"expected a header of {at} bytes, got {body.size}")
    continues, multiple, exponent, columns = _HEADER.unpack_from(body.data)
    check_history(continues, check)
    if not (
        _MULTIPLES[0] <= multiple <= _MULTIPLES[1]
        and _EXPONENTS[0] <= exponent <= _EXPONENTS[1]
        and columns <= width
    ):
        raise DecodeError(
            f"expected a step of 16 to 32 times 2**-127 to 2**96 and at most {width} columns, got "
            f"{multiple}, {exponent} and {columns}"
        )
    basis = rotation.basis
    if with_basis:
        count, size = _BASIS_HEADER.unpack_from(body.data, _HEADER.size)
        if not 0 < count <= width <= WIDEST or size > body.size - at:
            raise DecodeError(
                f"expected 1 to {min(width, WIDEST)} directions, got {count} in {size} of "
                f"{body.size - at} bytes"
            )
        models = adaptive_codes.new_models(1)
        sent = adaptive_codes.decode(body[at : at + size], count * width, 1, models)
        basis = complete(sent.reshape(count, width), width)
        at += size
    models = rotation.models.copy()
    values = adaptive_codes.decode(body[at:], rows, columns, models)
    return Coordinates(
        step=Step(multiple, exponent),
        values=values,
        basis=basis,
        models=models,
        replaces=with_basis,
    )


@kernel("i8(const f8[::1], i8, f8, const f4[::1], f8, i4[::1])")
def quantise(
    values: DoubleArray,
    width: Scalar,
    scale: Scalar,
    noise: FloatArray,
    round_up: Scalar,
    codes: CodeArray,
) -> Scalar:
    """``round(value * scale)`` of rows.

    Args:
        values: float64 [rows * width].
        width: of a row.
        scale: of the values.
        noise: in [0, 1) for each value, to round up with the probability of the fraction; or
            nothing, to round to nearest.
        round_up: fraction from which to round away from 0.
        codes: int32, filled.

    Returns:
        The number of columns up to the last that is not 0 everywhere; -1: some are too large.
    """
    columns = 0
    largest = np.float64(0.0)
    for start in range(0, values.size, max(width, 1)):
        for j in range(width):
            value = values[start + j] * scale
            if noise.size > 0:
                value = np.floor(value + np.float64(noise[start + j]))
            else:
                whole = np.floor(abs(value) + (1.0 - round_up))
                value = whole if value > 0.0 else -whole
            if value != 0.0:
                largest = max(largest, abs(value))
                columns = max(columns, j + 1)
            codes[start + j] = np.int32(min(max(value, -1048576.0), 1048576.0))
    return columns if largest <= 1048576.0 else -1


@kernel("void(const i4[::1], i8, const i4[::1], i8, f8, b1, f4[::1], i4[::1])")
def rotate_back(
    codes: CodeArray,
    columns: Scalar,
    basis: BasisArray,
    width: Scalar,
    factor: Scalar,
    whole: bool,
    floats: FloatArray,
    integers: CodeArray,
) -> None:
    """Rows from their coordinates, times a factor.

    Most coordinates are 0, so each that is not adds its direction.

    Args:
        codes: int32 [rows * columns].
        columns: of the codes.
        basis: int32 [width * width], or nothing for unit vectors of length ``2**20``.
        width: of a row.
        factor: see there.
        whole: write rounded integers, else floats.
        floats: float32 [rows * width], filled if so.
        integers: int32 [rows * width], filled if so; may be the same memory.
    """
    total = np.zeros(width, np.float64)
    for r in range(floats.size // max(width, 1)):
        total[:] = 0.0
        for j in range(columns):
            code = np.float64(codes[r * columns + j])
            if code != 0.0:
                if basis.size > 0:
                    direction = basis[j * width : (j + 1) * width]
                    for i in range(width):
                        total[i] += code * np.float64(direction[i])
                else:
                    total[j] += code * 1048576.0
        first = r * width
        if whole:
            for i in range(width):
                integers[first + i] = np.int32(np.rint(total[i] * factor))
        else:
            for i in range(width):
                floats[first + i] = np.float32(total[i] * factor)
