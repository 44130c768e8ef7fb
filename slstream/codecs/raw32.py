"""``raw32``: the elements as they are. The reference for every other codec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from slstream.codecs.contract import Buffer, CodecContext, FloatArray, TensorCodec, TensorSpec
from slstream.codecs.payload import check_tensor, decode_raw


@dataclass(frozen=True, slots=True)
class Raw32(TensorCodec):
    """float32 little-endian, row-major, without any header: 32 bits per element, exact.

    NaN and Inf round-trip with their bits. Needs a session whose results must equal those of one
    process to the last bit.
    """

    id: ClassVar[str] = "raw32"
    exact: ClassVar[bool] = True

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        """Four bytes per element."""
        return check_tensor(tensor, self.id).tobytes()

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        """The same bits; refuses any other length than four bytes per element."""
        return decode_raw(data, spec, self.id, offset=0)
