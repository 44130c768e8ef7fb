"""What a codec on a device promises, and the way between its memory and the host's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from slstream.codecs.contract import Buffer, CodecContext, TensorCodec, TensorSpec
from slstream.codecs.payload import MAX_DIMENSIONS

CodecT = TypeVar("CodecT", bound=TensorCodec)


class DeviceCodec(ABC, Generic[CodecT]):
    """Runs where the tensor lives, with the bytes, values and errors of a codec on the host.

    What is empty, refused or goes raw is left to the codec on the host.
    """

    def __init__(self, codec: CodecT) -> None:
        """Stand in for a codec."""
        self._codec = codec

    def encode(self, tensor: torch.Tensor, context: CodecContext) -> bytes:
        """As :meth:`TensorCodec.encode`, of a tensor on any device without a graph."""
        packed = None
        plain = tensor.dtype == torch.float32 and 1 <= tensor.ndim <= MAX_DIMENSIONS
        if plain and tensor.numel():
            packed = self._pack(tensor.contiguous(), context)
        if packed is None:
            return self._codec.encode(to_host(tensor), context)
        return to_host(packed).tobytes()

    def decode(
        self, data: Buffer, spec: TensorSpec, context: CodecContext, device: torch.device
    ) -> torch.Tensor:
        """As :meth:`TensorCodec.decode`, to a tensor on ``device``."""
        tensor = self._unpack(data, spec, device) if spec.elements else None
        if tensor is None:
            decoded = self._codec.decode(data, spec, context)
            return to_device(decoded, device).view(torch.float32).view(spec.shape)
        return tensor

    @abstractmethod
    def _pack(self, tensor: torch.Tensor, context: CodecContext) -> torch.Tensor | None:
        """All bytes of the encoding; ``None``: the host knows what to do.

        Args:
            tensor: float32, contiguous, not empty.
            context: key of the noise.
        """

    @abstractmethod
    def _unpack(self, data: Buffer, spec: TensorSpec, device: torch.device) -> torch.Tensor | None:
        """The tensor; ``None``: the host knows what to do.

        Raises:
            DecodeError: the bytes are not an encoding of a tensor of this shape.
        """


def to_host(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    """A tensor's values as an array of its shape and type: copied once, to pinned memory."""
    if tensor.is_cuda:
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        tensor = pinned.copy_(tensor)
    array: npt.NDArray[np.float32] = tensor.numpy()
    return array


def to_device(array: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """The bytes of a contiguous array, uint8 [array.nbytes], through pinned memory."""
    staged = torch.empty(array.nbytes, dtype=torch.uint8, pin_memory=device.type == "cuda")
    staged.numpy()[...] = array.reshape(-1).view(np.uint8)
    return staged.to(device, non_blocking=True)
