"""Writing checkpoints beside the training."""

from __future__ import annotations

import asyncio

from slstream.frames.topics import consumer_group, link_topic
from slstream.party.checkpoint import Checkpoint, Standing
from slstream.party.doing import doing
from slstream.party.incarnation import Incarnation
from slstream.party.party_files import PartyFiles
from slstream.transport.contract import Transport

LEAVE_S = 0.5
"""How long a party that ends waits for its last checkpoint: it saves the next process steps."""


class CheckpointWriter:
    """Forces the log to the disk and then writes a checkpoint, while the party goes on.

    One at a time. What fails is raised by the next call of any method, so a party learns of it
    within one checkpoint's distance at the latest, and before it ends.
    """

    def __init__(self, transport: Transport, incarnation: Incarnation, files: PartyFiles) -> None:
        """Write nothing yet."""
        self._transport = transport
        self._incarnation = incarnation
        self._files = files
        self._writing: asyncio.Task[None] | None = None

    async def write(self, checkpoint: Checkpoint) -> None:
        """Begin to write a checkpoint, once the one before is done.

        Args:
            checkpoint: of everything that this process has sent and received up to now; a copy
                that training does not change.

        Raises:
            SlstreamError: see :meth:`finish`.
        """
        await self.finish()
        self._writing = asyncio.create_task(self._write(checkpoint))

    def raise_if_failed(self) -> None:
        """Tell of a failure as soon as it is known.

        Raises:
            SlstreamError: see :meth:`finish`.
        """
        if self._writing is not None and self._writing.done():
            self._writing.result()

    async def finish(self) -> None:
        """Wait until what was begun is on the disk.

        Raises:
            Fenced: a newer process of this party runs.
            TransportError: the log could not be forced to the disk.
            StorageError: the disk refuses; the older checkpoints stand.
        """
        if self._writing is not None:
            await self._writing

    async def leave(self) -> None:
        """End, whatever has happened: what is nearly done is done, all else is given up.

        A file that is being written becomes whole or stays what it was.
        """
        if self._writing is None:
            return
        await asyncio.wait({self._writing}, timeout=LEAVE_S)
        self._writing.cancel()
        await asyncio.wait({self._writing})
        # What it failed of, if it did, has no bearing on how this party ends now.
        if not self._writing.cancelled():
            self._writing.exception()
        self._writing = None

    async def _write(self, checkpoint: Checkpoint) -> None:
        await self._incarnation.require_newest()
        # A checkpoint must never be ahead of the log that led to it.
        epochs, steps = checkpoint.standing.place
        place = f"{epochs} epochs and {steps} steps"
        with doing(f"force the log to the disk before the checkpoint after {place}"):
            await self._transport.flush()
        # Again, as that may have taken long: a successor's checkpoints are not to be removed.
        await self._incarnation.require_newest()
        await asyncio.to_thread(self._files.save_checkpoint, checkpoint)
        await self._show_progress(checkpoint.standing)

    async def _show_progress(self, standing: Standing) -> None:
        """Let the log's own tools see how far this party is behind its peers."""
        federation, party, session = standing.federation, standing.party, standing.session
        read = {
            link_topic(federation, peer, party, session): mark.offset
            for peer, mark in standing.inbound.items()
        }
        await self._transport.commit(consumer_group(federation, party), read)
