"""What crossed the cut last for each training row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch


class RowCache:
    """float32 [training rows, *cut], zero where nothing crossed yet. Used by one thread."""

    def __init__(self, rows: int, cut: tuple[int, ...]) -> None:
        """Allocate it."""
        self._values = torch.zeros((rows, *cut), dtype=torch.float32)

    def put(self, rows: npt.NDArray[np.int64], values: npt.NDArray[np.float32]) -> None:
        """Keep the values of some rows; they are copied."""
        self._values[torch.from_numpy(rows)] = torch.from_numpy(values)

    def get(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """A copy of the values of some rows."""
        found: npt.NDArray[np.float32] = self._values[torch.from_numpy(rows)].numpy()
        return found

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
