"""Codecs of tensors that live on a GPU, run there: only packed bytes cross to the host.

For codecs whose loops are a few operations on whole tensors. They give the bytes of the codecs
beside them in :mod:`slstream.codecs`, so which one runs is no part of a config or schema. torch is
imported when :func:`device_codec` finds one, and not before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slstream.codecs.contract import TensorCodec
    from slstream.codecs.on_device.contract import DeviceCodec

PAYS_FROM_BYTES = 1_048_576
"""Of float32: smaller tensors are copied and coded on the host. An estimate, not yet measured: the
20 to 30 operations of a codec take some 5 microseconds each to start, in which a megabyte is copied
and coded as well."""

_ON_DEVICE = {
    "bf16": ("slstream.codecs.on_device.casts", "DeviceBf16"),
    "fp16": ("slstream.codecs.on_device.casts", "DeviceFp16"),
    "q2row": ("slstream.codecs.on_device.row_integers", "DeviceRowIntegers"),
    "q4row": ("slstream.codecs.on_device.row_integers", "DeviceRowIntegers"),
    "q8row": ("slstream.codecs.on_device.row_integers", "DeviceRowIntegers"),
}
"""id -> (module, class)."""


def device_codec(codec: TensorCodec) -> DeviceCodec[Any] | None:
    """The codec that gives the same bytes on a device; ``None``: there is none."""
    found = _ON_DEVICE.get(codec.id)
    if found is None:
        return None
    module, name = found
    made: DeviceCodec[Any] = getattr(import_module(module), name)(codec)
    return made
