"""``q8row``, ``q4row`` and ``q2row`` on a device, as :mod:`slstream.codecs.row_integers`.

Each operation on floats is one of torch's own on tensors, and rounds once as the kernels of
:mod:`slstream.codecs.quantiser` do: nothing is fused, and nothing is divided by a Python number,
which torch may turn into a product with its inverse.
"""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from slstream.codecs.contract import Buffer, CodecContext, TensorSpec
from slstream.codecs.on_device.contract import DeviceCodec, to_device
from slstream.codecs.quantiser import noise_keys
from slstream.codecs.row_integers import FINITE_BOUND, SIGNED, TINY, UNSIGNED, RowIntegers

_MAGNITUDE = 0x7FFFFFFF
_NEGATIVE_ZERO = -0x80000000
_MASK_32 = 0xFFFFFFFF


class DeviceRowIntegers(DeviceCodec[RowIntegers]):
    """See :class:`RowIntegers`."""

    def _pack(self, tensor: torch.Tensor, context: CodecContext) -> torch.Tensor | None:
        codec, n = self._codec, tensor.numel()
        rows, width = codec.rows_of(TensorSpec(shape=tuple(tensor.shape)))
        x = pad(tensor.view(-1), (0, rows * width - n)).view(rows, width)
        bits = x.view(torch.int32)
        maxima = (bits & _MAGNITUDE).amax(dim=1)
        below_zero = ((bits < 0) & (bits != _NEGATIVE_ZERO)).any()
        largest, negative = torch.stack((maxima.amax(), below_zero.to(torch.int32))).tolist()
        if codec.encoded_bytes(rows, width) > 4 * n or largest > int(FINITE_BOUND):
            return None  # NaN and Inf are larger, too

        zero = 1 << (codec.bits - 1) if negative else 0
        top = (1 << codec.bits) - 1
        scales = _scales(maxima, top - zero)
        inverses = torch.where(scales > 0, torch.ones_like(scales) / scales, 0)
        if codec.rounding == "stochastic":
            offset = (_noise(x.numel(), context, x.device) + zero).view(rows, width)
        else:
            offset = torch.full_like(x, zero + 0.5)
        codes = (x * inverses[:, None] + offset).to(torch.int32).clamp_(0, top).to(torch.uint8)
        codes.view(-1)[n:] = 0
        form = torch.full(
            (1,), SIGNED if negative else UNSIGNED, dtype=torch.uint8, device=x.device
        )
        bfloats = (scales.view(torch.int32) >> 16).to(torch.int16)
        return torch.cat((form, bfloats.view(torch.uint8), _in_planes(codes, codec.bits)))

    def _unpack(self, data: Buffer, spec: TensorSpec, device: torch.device) -> torch.Tensor | None:
        parts = self._codec.read(data, spec)
        if parts is None:
            return None
        zero, scales, packed = parts
        bits = self._codec.bits
        rows, width = self._codec.rows_of(spec)
        shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=device)[None, :, None]
        planes = to_device(packed, device).view(rows, 1, -1) >> shifts & ((1 << bits) - 1)
        codes = planes.view(rows, -1)[:, :width].to(torch.float32)
        values = (codes - zero) * to_device(scales, device).view(torch.float32)[:, None]
        return values.reshape(-1)[: spec.elements].view(spec.shape)


def _scales(maxima: torch.Tensor, levels: int) -> torch.Tensor:
    """Scales, float32 [rows], rounded up to a bfloat16."""
    largest = maxima.view(torch.float32)
    scales = torch.where(largest > float(TINY), largest / torch.full_like(largest, levels), 0)
    return ((scales.view(torch.int32) + 0xFFFF) & -0x10000).view(torch.float32)


def _noise(n: int, context: CodecContext, device: torch.device) -> torch.Tensor:
    """The noise of elements 0 to n - 1, float32: see :func:`slstream.codecs.quantiser.fill_noise`.

    32-bit arithmetic in int64, which no product leaves: the second factor is taken modulo 2**32.
    """
    key_0, key_1 = noise_keys(context)
    x = (torch.arange(n, dtype=torch.int64, device=device) + key_0) & _MASK_32
    x ^= x >> 16
    x = (x * 0x7FEB352D) & _MASK_32
    x = (x + key_1) & _MASK_32
    x ^= x >> 15
    x = (x * (0x846CA68B - (1 << 32))) & _MASK_32
    return (x >> 16).to(torch.float32) * 2.0**-16


def _in_planes(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes, uint8 [rows, width], packed: uint8 [bytes], row by row."""
    planes = 8 // bits
    stride = -(-codes.shape[1] // planes)
    codes = pad(codes, (0, stride * planes - codes.shape[1])).view(-1, planes, stride)
    packed = codes[:, 0]
    for plane in range(1, planes):
        packed = packed | codes[:, plane] << (plane * bits)
    return packed.reshape(-1)
