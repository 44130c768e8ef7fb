"""What crossed the cut last for each training row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from slstream.party.device import CPU, Device, Values


class RowCache:
    """float32 [training rows, *cut], zero where nothing crossed yet. Used by one thread."""

    def __init__(self, rows: int, cut: tuple[int, ...], device: Device = CPU) -> None:
        """Allocate it on a device."""
        self._device = device
        self._values = torch.zeros((rows, *cut), dtype=torch.float32, device=device.torch)

    def put(self, rows: npt.NDArray[np.int64], values: Values) -> None:
        """Keep the values of some rows; they are copied."""
        self._values[self._device.tensor(rows)] = self._device.tensor(values)

    def get(self, rows: npt.NDArray[np.int64]) -> Values:
        """A copy of the values of some rows."""
        return self._device.values(self._values[self._device.tensor(rows)])

    def kept(self) -> Mapping[str, torch.Tensor]:
        """All of it, for a checkpoint; not copied."""
        return {"values": self._values}

    def restore_kept(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Set it to what :meth:`kept` gave.

        Raises:
            KeyError: there is nothing.
            RuntimeError: it has another shape.
        """
        self._values.copy_(tensors["values"])
