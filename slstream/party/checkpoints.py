"""A party's weights after each of the last epochs: what is left when a run does not end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from slstream.errors import StorageError
from slstream.party.weights import save_weights

KEPT = 2
"""Checkpoints that are kept; the newest one never replaces the only one."""


class Checkpoints:
    """Writes ``epoch-NNNNN.safetensors`` files, each whole or not at all."""

    def __init__(self, directory: Path, *, federation: str, party: str) -> None:
        """Write to ``directory``, which is created with the first checkpoint.

        Args:
            directory: ``<run>/<party>/checkpoints``.
            federation: whose model it is.
            party: whose part it is.
        """
        self._directory = directory
        self._federation = federation
        self._party = party

    def write(self, epoch: int, modules: Mapping[str, nn.Module]) -> Path:
        """Write the weights after an epoch, then remove all but the newest :data:`KEPT`.

        The log that led to these weights must be on disk before (see ``Transport.flush``).

        Args:
            epoch: from 1.
            modules: as in :func:`slstream.party.weights.save_weights`.

        Raises:
            StorageError: the disk refuses; the older checkpoints stand.
        """
        path = self._directory / f"epoch-{epoch:05}.safetensors"
        save_weights(path, modules, federation=self._federation, party=self._party)
        try:
            written = sorted(self._directory.glob("epoch-*.safetensors"))
            for old in written[: written.index(path)][: 1 - KEPT]:
                old.unlink()
        except OSError as error:
            raise StorageError(f"cannot remove old checkpoints: {error}") from error
        return path
