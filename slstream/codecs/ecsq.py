"""``ecsq``: entropy-coded scalar quantisation, the best rate of the stateless codecs.

Every element becomes the nearest, or a stochastically rounded, multiple of one step; the integers
are entropy coded with a model of row and column scales (:mod:`slstream.codecs.scale_context`,
:mod:`slstream.codecs.rans`). A uniform quantiser with an entropy coder is within 0.25 bit of the
rate-distortion bound of a memoryless source at high rate (H. Gish, J. Pierce, 1968).

Forms after the raw one (:mod:`slstream.codecs.payload`):

    offset  size  field
    0       1     1 (CODED)
    1       4     step, float32 little-endian, finite and above 0
    5       1     the sum of classes of context 0
    6       ...   frequency tables of the 10 contexts, bits, filled up to a byte
    ...     32    the 8 coder states, u32 little-endian
    ...     2w    w words of the coder, u16 little-endian
    ...     ...   one LEB128 number for every escaped symbol, in order: symbol - 255

    0       1     2 (ZERO): every element is 0; nothing follows

    0       1     3 (SIGNED): as CODED; a class is sent as 2 * class + sign of its row or column,
                  an element times both signs (:mod:`slstream.codecs.sign_product`)
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from slstream.codecs import quantiser, rans, scale_context, sign_product
from slstream.codecs.contract import Buffer, CodecContext, FloatArray, TensorCodec, TensorSpec
from slstream.codecs.parameters import require_choice, require_number
from slstream.codecs.payload import (
    RAW,
    as_bytes,
    check_tensor,
    decode_raw,
    encode_raw,
    expect_length,
    form_of,
    holds_not_finite,
    not_finite,
)
from slstream.codecs.scale_context import BoolArray, Layout
from slstream.errors import DecodeError

_CODED = 1
_ZERO = 2
_SIGNED = 3
_HEADER = struct.Struct("<BfB")

SMALLEST_RMS = 2.0**-100
LARGEST = 2.0**100
"""Tensors outside of this go raw: inside, no step, inverse or product leaves float32."""

_LARGEST_STEP = 2.0**104
_LARGEST_SYMBOL = 1 << 24
"""An ``abs(k)`` is at most ``sqrt(n) / step``: half of this for 10**11 elements."""

_NUMBER_BYTES = 4
"""Most bytes of an escaped value."""

_FEWEST_PER_ESCAPE = 32
"""An escape is above 127 steps, 6.35 times the rms: at most one element in 40 is."""

ByteArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Ecsq(TensorCodec):
    """Multiples of one step, entropy coded.

    Bits per element follow the data: about 1.1 for activations at ``step=1``, 0.4 to 1.0 for
    gradients at ``step=2``.

    The error of an element is at most half a step with ``nearest``, below one step with
    ``stochastic``, which is unbiased: the mean over many contexts is the element, to 2**-16 steps.
    In an all-zero tensor and in tensors outside of 2**-100 to 2**100 every element is exact.

    Attributes:
        step: step in units of the tensor's root mean square, 0.05 to 16.
        rounding: ``nearest`` for activations, ``stochastic`` for gradients.
    """

    id: ClassVar[str] = "ecsq"
    finite: ClassVar[bool] = True
    predicts_signs: ClassVar[bool] = False
    """Whether the encoder looks for signs that follow from rows and columns."""

    step: float = 1.0
    rounding: str = "nearest"

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        require_number(self, "step", 0.05, 16.0)
        require_choice(self, "rounding", ("nearest", "stochastic"))

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        """See the class; refuses NaN and Inf."""
        return self.encode_masked(tensor, None, context)

    def encode_masked(
        self, tensor: FloatArray, mask: BoolArray | None, context: CodecContext
    ) -> bytes:
        """Encode the elements that a mask does not leave out; the step follows from their rms.

        Args:
            tensor: as in :meth:`encode`; 0 where the mask leaves it out.
            mask: of the tensor's shape; the decoder needs it. ``None``: all elements.
            context: key of the noise.

        Raises:
            EncodeError: as :meth:`encode`.
        """
        array = check_tensor(tensor, self.id)
        flat = array.reshape(-1)
        largest, squares = quantiser.magnitudes(flat, flat.view(np.int32))
        if not math.isfinite(largest):
            raise not_finite(array, self.id)
        if largest == 0:
            return bytes([_ZERO])
        layout = Layout.of(TensorSpec(shape=array.shape), mask)
        rms = math.sqrt(squares / layout.elements)
        if rms >= SMALLEST_RMS and largest <= LARGEST:
            coded = self._encode_flat(flat, layout, rms, largest, context)
            if len(coded) <= layout.raw_bytes:
                return coded
        return encode_raw(flat if layout.mask is None else flat[layout.mask])

    def _encode_flat(
        self,
        flat: FloatArray,
        layout: Layout,
        rms: float,
        largest: float,
        context: CodecContext,
    ) -> bytes:
        step = np.float32(self.step * rms)
        inverse = np.float32(1.0) / step
        stochastic = self.rounding == "stochastic"
        key_0, key_1 = quantiser.noise_keys(context) if stochastic else (0, 0)

        symbols = np.empty(layout.classes + flat.size, np.uint8)
        classes, elements = symbols[: layout.classes], symbols[layout.classes :]
        quantiser.quantise_step(flat, inverse, stochastic, key_0, key_1, elements)
        contexts, lowest = layout.fit(symbols)

        escapes = b""
        if largest * inverse > rans.ESCAPE // 2 - 1:
            where = np.flatnonzero(elements == rans.ESCAPE)
            values = np.empty(where.size, np.int64)
            quantiser.quantise_at(flat, inverse, stochastic, key_0, key_1, where, values)
            escapes = _write_numbers(((values << 1) ^ (values >> 63)) - rans.ESCAPE)
        form = _CODED
        if self.predicts_signs:
            signs = sign_product.find(elements, layout, classes)
            if signs is not None:
                sign_product.turn(elements, *layout.split(signs))
                form, classes[:] = _SIGNED, classes << np.uint8(1) | signs
        coded = rans.encode(
            layout.coded(symbols),
            layout.coded(contexts),
            (layout.classes, layout.elements),
            scale_context.ALL_CONTEXTS,
        )
        return b"".join((_HEADER.pack(form, step, lowest), coded, escapes))

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        """See the class."""
        return self.decode_masked(data, spec, None)

    def decode_masked(self, data: Buffer, spec: TensorSpec, mask: BoolArray | None) -> FloatArray:
        """Undo :meth:`encode_masked`: elements that the mask leaves out are 0.

        Args:
            data: foreign bytes.
            spec: of the whole tensor.
            mask: of this shape; ``None``: all elements.

        Raises:
            DecodeError: as :meth:`decode`.
        """
        layout = Layout.of(spec, mask)
        form = form_of(data, self.id)
        if form == RAW:
            if mask is None:
                out = decode_raw(data, spec, self.id)
            else:
                expect_length(data, 1 + layout.raw_bytes, spec, self.id)
                out = np.zeros(spec.shape, np.float32)
                out[mask] = np.frombuffer(data, "<f4", offset=1)
            if not np.isfinite(out).all():
                raise holds_not_finite(self.id)
            return out
        if form == _ZERO:
            expect_length(data, 1, spec, self.id)
            return np.zeros(spec.shape, np.float32)
        if form not in (_CODED, _SIGNED):
            raise DecodeError(f"codec {self.id!r}: expected form 0, 1, 2 or 3, got {form}")
        if form == _SIGNED and not (layout.row_classes and layout.column_classes):
            raise DecodeError(
                f"codec {self.id!r}: expected form 0, 1 or 2 for shape {spec.shape}, as only rows "
                f"and columns of at least {scale_context.FEWEST} elements have signs, got 3"
            )
        if not _HEADER.size <= len(data) <= layout.raw_bytes:
            raise DecodeError(
                f"codec {self.id!r}: expected {_HEADER.size} to {layout.raw_bytes} bytes for shape "
                f"{spec.shape}, got {len(data)}"
            )
        _, step, lowest = _HEADER.unpack_from(data)
        if not 0.0 < step <= _LARGEST_STEP:
            raise DecodeError(
                f"codec {self.id!r}: expected a step above 0 and at most {_LARGEST_STEP:g}, "
                f"got {step}"
            )
        body = as_bytes(data)[_HEADER.size :]
        symbols, used, escaped = _decode_symbols(body, layout, lowest, form == _SIGNED)
        out = np.empty(spec.elements, np.float32)
        quantiser.dequantise_step(symbols, step, out)
        if escaped or used < body.size:
            most = layout.elements // _FEWEST_PER_ESCAPE
            _restore_escapes(self.id, body[used:], symbols, step, most, out)
        return out.reshape(spec.shape)


def _decode_symbols(
    body: ByteArray, layout: Layout, lowest: int, signed: bool
) -> tuple[ByteArray, int, bool]:
    """Symbols of the elements, how many bytes of ``body`` they took, whether some are escaped."""
    decoder = rans.Decoder(body, scale_context.ALL_CONTEXTS, layout.classes + layout.elements)
    classes = decoder.decode(layout.class_contexts())
    signs = classes
    if signed:
        signs, classes = classes & np.uint8(1), classes >> np.uint8(1)
    row_classes, column_classes = layout.split(classes)
    contexts = np.empty(layout.rows * layout.width, np.uint8)
    scale_context.fill_contexts(row_classes, column_classes, layout.width, lowest, contexts)
    symbols = layout.restore(decoder.decode(layout.select(contexts)))
    if signed:
        sign_product.turn(symbols, *layout.split(signs))
    return symbols, decoder.finish(), decoder.has_escapes


def _restore_escapes(
    codec: str, data: ByteArray, symbols: ByteArray, step: float, most: int, out: FloatArray
) -> None:
    """Put the values of at most ``most`` escaped symbols where they belong.

    Raises:
        DecodeError: not exactly one number for each escaped symbol, or more than any tensor has.
    """
    escaped = symbols == rans.ESCAPE
    count = int(np.count_nonzero(escaped))
    if count > most:
        raise DecodeError(
            f"codec {codec!r}: expected at most {most} escaped values in {symbols.size} elements, "
            f"got {count}"
        )
    # Told before they are copied: foreign bytes do not decide how much is kept.
    if not count <= data.size <= _NUMBER_BYTES * count:
        raise _bad_escapes(codec, count, data.size)
    where = np.flatnonzero(escaped)
    zigzag = _read_numbers(codec, data.tobytes(), count) + rans.ESCAPE
    out[where] = ((zigzag >> 1) ^ -(zigzag & 1)).astype(np.float32) * np.float32(step)


def _write_numbers(values: npt.NDArray[np.int64]) -> bytes:
    """LEB128: seven bits a byte, lowest first, the top bit set on all bytes but the last."""
    out = bytearray()
    for number in values.tolist():
        rest = number
        while rest >= 0x80:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def _read_numbers(codec: str, data: bytes, count: int) -> npt.NDArray[np.int64]:
    """Exactly ``count`` numbers, at most ``_LARGEST_SYMBOL``, that fill ``data``.

    Raises:
        DecodeError: more or fewer, or a number that is too large.
    """
    values = np.empty(count, np.int64)
    found = number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if found < count:
                values[found] = number
            found += 1
            number = shift = 0
        elif shift == 7 * _NUMBER_BYTES:
            break
    if found != count or shift != 0 or np.any(values > _LARGEST_SYMBOL):
        raise _bad_escapes(codec, count, len(data))
    return values


def _bad_escapes(codec: str, count: int, size: int) -> DecodeError:
    return DecodeError(
        f"codec {codec!r}: expected {count} escaped values of at most {_LARGEST_SYMBOL}, "
        f"got {size} bytes that do not hold them"
    )
