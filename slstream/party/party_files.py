"""What a party keeps on its disk: weights, scaling, checkpoints; each file whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from slstream.errors import CheckpointError, StorageError
from slstream.party.atomic_file import write_atomically
from slstream.party.checkpoint import Checkpoint, Standing, decode_checkpoint, encode_checkpoint
from slstream.party.scaling import Scaling
from slstream.party.summary import Summary
from slstream.party.weights import encode_weights

MAPPED_BYTES = 2**26
"""From this size on what codecs remember lies in a file: the system may write it out when memory
is short."""

WEIGHTS = "model.safetensors"
SCALING = "scaling.json"
MODEL_FILES = (WEIGHTS, SCALING)
"""What a party needs to use its part of the model."""

KEPT = 2
"""Newest checkpoints of a session that are kept whatever they are."""

_logger = logging.getLogger(__name__)


class PartyFiles:
    """A party's own folder.

    It holds ``model.safetensors``, ``scaling.json``, ``summary.json`` and, by session and place,
    ``checkpoints/SESSION/EPOCHS-STEPS.safetensors``.
    """

    def __init__(
        self,
        directory: Path,
        *,
        federation: str,
        party: str,
        keep_every_epochs: int = 0,
        writable: bool = True,
    ) -> None:
        """Use a folder, which is created with the first file.

        Args:
            directory: ``<run>/<party>``.
            federation: whose model it is.
            party: whose part it is.
            keep_every_epochs: of which epochs the checkpoints are kept for good; 0: none.
            writable: whether files are written at all; a replay only computes what they would be.
        """
        self.directory = directory
        self._federation = federation
        self._party = party
        self._keep_every_epochs = keep_every_epochs
        self.writable = writable
        """Whether files are written at all."""

    def allocate(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of zeros; a large one lies in a file that is gone with this process.

        Raises:
            StorageError: the disk refuses.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size < MAPPED_BYTES or not self.writable:
            return np.zeros(shape, dtype)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.directory) as file:
                os.posix_fallocate(file.fileno(), 0, size)
                return np.memmap(file, dtype, "r+", shape=shape)
        except OSError as error:
            raise StorageError(
                f"cannot make a file of {size} bytes in {self.directory}, for what a codec "
                f"remembers: {error}"
            ) from error

    def save_weights(self, modules: Mapping[str, nn.Module]) -> str:
        """Write the final weights; returns the file's SHA-256 in hex.

        Raises:
            StorageError: the disk refuses.
        """
        data = encode_weights(modules, federation=self._federation, party=self._party)
        self._write(self.directory / WEIGHTS, data)
        return hashlib.sha256(data).hexdigest()

    def save_scaling(self, scaling: Scaling) -> None:
        """Write what new rows must go through before the base model sees them.

        Raises:
            StorageError: the disk refuses.
        """
        self._write(self.directory / SCALING, scaling.to_json().encode())

    def save_summary(self, summary: Summary) -> None:
        """Write ``summary.json``: from now on the session is over for this party.

        Raises:
            StorageError: the disk refuses.
        """
        self._write(self.directory / "summary.json", summary.to_json().encode())

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove those that are not kept.

        The log that it refers to must be on the disk before (see ``Transport.flush``).

        Raises:
            StorageError: the disk refuses; the older checkpoints stand.
        """
        epochs, steps = checkpoint.standing.place
        folder = self._folder(checkpoint.standing.session)
        path = folder / f"{epochs:05}-{steps:07}.safetensors"
        self._write(path, encode_checkpoint(checkpoint))
        if self.writable:
            try:
                for other in self._removable(path):
                    other.unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(f"cannot remove old checkpoints: {error}") from error

    def checkpoints(self, session: str) -> Iterator[Checkpoint]:
        """This party's whole checkpoints of a session, newest first.

        Damaged ones, and another party's, are logged and skipped.

        Raises:
            StorageError: the disk cannot be read.
        """
        folder = self._folder(session)
        try:
            paths = self._paths(folder)
        except OSError as error:
            raise StorageError(f"cannot read {folder}: {error}") from error
        for path in reversed(paths):
            try:
                yield self._read(path)
            except CheckpointError as error:
                _logger.warning("checkpoint skipped", extra={"path": str(path), "why": str(error)})
            except FileNotFoundError:
                # An older process of this party has written a last one and removed this.
                _logger.warning("checkpoint skipped", extra={"path": str(path), "why": "removed"})
            except OSError as error:
                raise StorageError(f"cannot read {path}: {error}") from error

    def _read(self, path: Path) -> Checkpoint:
        checkpoint = decode_checkpoint(path.read_bytes())
        if checkpoint.standing.party != self._party:
            raise CheckpointError(f"it is of party {checkpoint.standing.party}")
        return checkpoint

    def newest_session(self) -> str | None:
        """The session of which a checkpoint was written last.

        Raises:
            StorageError: the disk cannot be read.
        """
        folder = self.directory / "checkpoints"
        written = []
        try:
            for path in folder.iterdir():
                with suppress(FileNotFoundError):  # another process has removed it meanwhile
                    if path.is_dir():
                        written.append((path.stat().st_mtime_ns, path.name))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read {folder}: {error}") from error
        return max(written)[1] if written else None

    def _folder(self, session: str) -> Path:
        return self.directory / "checkpoints" / session

    def _paths(self, folder: Path) -> list[Path]:
        # Not glob, which takes a folder that cannot be read for an empty one.
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return []
        return sorted(folder / name for name in names if name.endswith(".safetensors"))

    def _removable(self, written: Path) -> list[Path]:
        """What is not kept beside a checkpoint that was just written.

        Later ones could not be used, or this would not have been written now; once the log has
        grown past them again they must not be taken for its own.
        """
        paths = self._paths(written.parent)
        later = [path for path in paths if path.name > written.name]
        older = [path for path in paths if path.name <= written.name][:-KEPT]
        return [*later, *(path for path in older if not self._is_barrier(path))]

    def _is_barrier(self, path: Path) -> bool:
        """Whether a checkpoint lies between two epochs that are kept apart for good."""
        every = self._keep_every_epochs
        epochs, _, steps = path.stem.partition("-")
        if not (every and epochs.isdigit() and steps.isdigit()):
            return False
        return int(steps) == 0 and int(epochs) % every == 0

    def _write(self, path: Path, data: bytes) -> None:
        if self.writable:
            write_atomically(path, data)


def mismatch(standing: Standing, *, session: str, digest: str) -> str | None:
    """Why a checkpoint cannot continue a session; ``None`` when it can."""
    if standing.session != session:
        return f"it is of session {standing.session}"
    if standing.digest != digest:
        return "it was written under another topology"
    return None
