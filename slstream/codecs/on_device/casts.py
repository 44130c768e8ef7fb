"""``fp16`` and ``bf16`` on a device: the integer arithmetic of :mod:`slstream.codecs.casts`."""

from __future__ import annotations

import torch

from slstream.codecs.casts import (
    BFLOAT_INFINITE,
    CAST,
    HALF_INFINITE,
    Bf16,
    Fp16,
    shift_for,
)
from slstream.codecs.contract import Buffer, CodecContext, TensorSpec
from slstream.codecs.on_device.contract import DeviceCodec, to_device
from slstream.codecs.payload import holds_not_finite
from slstream.codecs.quantiser import INFINITE

_MAGNITUDE = 0x7FFFFFFF
_SIGN = -0x80000000


class DeviceFp16(DeviceCodec[Fp16]):
    """See :class:`Fp16`."""

    def _pack(self, tensor: torch.Tensor, context: CodecContext) -> torch.Tensor | None:
        bits, magnitude, largest = _bits(tensor)
        if 2 + 2 * tensor.numel() > 4 * tensor.numel() or largest >= INFINITE:
            return None
        shift = shift_for(largest)
        rebased = magnitude - ((112 - shift) << 23)
        half = (rebased + 0xFFF + ((magnitude >> 13) & 1)) >> 13
        half = torch.where(rebased >= 1 << 23, half, 0)
        return _behind([CAST, shift & 0xFF], ((bits >> 16) & 0x8000) | half)

    def _unpack(self, data: Buffer, spec: TensorSpec, device: torch.device) -> torch.Tensor | None:
        parts = self._codec.read(data, spec)
        if parts is None:
            return None
        shift, halves = parts
        bits = to_device(halves, device).view(torch.int16).to(torch.int32)
        magnitude = bits & 0x7FFF
        if int(magnitude.amax()) >= HALF_INFINITE:
            raise holds_not_finite(self._codec.id)
        value = ((magnitude << 13) + ((112 - shift) << 23)).clamp(max=0x7F7FFFFF)
        value = torch.where(magnitude >= 1 << 10, value, 0) | (bits & _SIGN)
        return value.view(torch.float32).view(spec.shape)


class DeviceBf16(DeviceCodec[Bf16]):
    """See :class:`Bf16`."""

    def _pack(self, tensor: torch.Tensor, context: CodecContext) -> torch.Tensor | None:
        bits, magnitude, largest = _bits(tensor)
        if 1 + 2 * tensor.numel() > 4 * tensor.numel() or largest >= INFINITE:
            return None
        rounded = (magnitude + 0x7FFF + ((magnitude >> 16) & 1)) >> 16
        return _behind([CAST], ((bits >> 16) & 0x8000) | rounded.clamp(max=BFLOAT_INFINITE - 1))

    def _unpack(self, data: Buffer, spec: TensorSpec, device: torch.device) -> torch.Tensor | None:
        halves = self._codec.read(data, spec)
        if halves is None:
            return None
        bits = to_device(halves, device).view(torch.int16).to(torch.int32)
        if int((bits & 0x7FFF).amax()) >= BFLOAT_INFINITE:
            raise holds_not_finite(self._codec.id)
        return (bits << 16).view(torch.float32).view(spec.shape)


def _bits(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Bits and magnitudes of all elements, int32 [elements], and the largest magnitude."""
    bits = tensor.view(-1).view(torch.int32)
    magnitude = bits & _MAGNITUDE
    return bits, magnitude, int(magnitude.amax())


def _behind(header: list[int], halves: torch.Tensor) -> torch.Tensor:
    """The header, then the lower 16 bits of each number: uint8."""
    body = halves.to(torch.int16).view(torch.uint8)
    return torch.cat((torch.tensor(header, dtype=torch.uint8, device=body.device), body))
