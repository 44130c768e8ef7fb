"""The tensors of one step of a replay, for whoever debugs a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from slstream.errors import ConfigError
from slstream.party.atomic_file import write_atomically
from slstream.party.device import Values, on_host
from slstream.party.recent_activations import Place


class TensorDump:
    """Keeps what crosses the cut in one step, before coding and after decoding."""

    def __init__(self, place: tuple[int, int] | None) -> None:
        """Keep the tensors of (epoch, step); of none with ``None``."""
        self._place = place
        self.tensors: dict[str, npt.NDArray[np.float32]] = {}
        """By name, as :data:`slstream.party.tensor_coder.OnTensor` says."""
        self._seen: list[tuple[int, int]] = []
        """The first step and the last one."""

    def note(self, name: str, place: Place, tensor: Values) -> None:
        """Keep a tensor when it is of the step that was asked for.

        Those of a batch's further slices have the slice's number behind their name.
        """
        epoch, step, micro_batch = place
        self._seen = [*self._seen[:1], max([*self._seen[-1:], (epoch, step)])]
        if (epoch, step) == self._place:
            self.tensors[f"{name}.{micro_batch}" if micro_batch else name] = on_host(tensor).copy()

    def write(self, path: Path) -> None:
        """Write a safetensors file.

        Raises:
            ConfigError: the replay did not come to the step.
            StorageError: the disk refuses.
        """
        if not self.tensors:
            seen = " to ".join(f"{epoch}/{step}" for epoch, step in self._seen) or "none at all"
            wanted = "{}/{}".format(*self._place) if self._place else "none"
            raise ConfigError(
                f"--dump: expected an EPOCH/STEP that the replay came to ({seen}), found {wanted}"
            )
        write_atomically(path, save(self.tensors))
