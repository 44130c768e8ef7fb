"""A party's rows, from its table to the session's order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slstream.errors import LocalProtocolError
from slstream.frames.header import FrameKind
from slstream.party.alignment import Alignment, Mask, SortedDigests, align, id_digests, sort_digests
from slstream.party.batches import evaluation_batches, slices, steps_per_epoch, train_batches
from slstream.party.recent_activations import Place
from slstream.party.scaling import PreparedTable, prepare
from slstream.party.tables import PartyTable
from slstream.protocol.actions import Rows
from slstream.topology.topology import Party, Topology

RowArray = npt.NDArray[np.int64]


class PartyData:
    """Digests the ids, then holds the matched rows and names the rows of each batch."""

    def __init__(self, party: Party, topology: Topology, table: PartyTable, id_key: bytes) -> None:
        """Take over a loaded table.

        Args:
            party: whose rows they are.
            topology: seed, batch size and validation part.
            table: the party's own rows.
            id_key: key of the id digests, shared by all parties.
        """
        self._party = party
        self._topology = topology
        self._table = table
        self.digests: SortedDigests = sort_digests(id_digests(table.ids, id_key))
        self._alignment: Alignment | None = None
        self._epoch_batches: tuple[int, tuple[RowArray, ...]] = (0, ())
        self._evaluation: tuple[RowArray, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of the party's own table."""
        return self._table.rows

    @property
    def largest_batch(self) -> int:
        """Rows of the largest batch.

        Raises:
            LocalProtocolError: the rows are not aligned yet.
        """
        if self._alignment is None:
            raise LocalProtocolError("the rows are not aligned yet")
        train = min(self._alignment.train_rows, self._topology.training.batch_size)
        return max(train, *(len(rows) for rows in self._evaluation), 0)

    def align(self, matched: Mask) -> tuple[Rows, PreparedTable]:
        """Select and order the matched rows; scale the features.

        Args:
            matched: bool [rows], over the sorted digests.

        Raises:
            DataError: too few rows, or a column that cannot be filled.
        """
        topology = self._topology
        self._alignment = alignment = align(
            self._table.ids,
            self.digests,
            matched,
            seed=topology.seed,
            validation=topology.training.validation,
        )
        batch_size = topology.training.batch_size
        self._evaluation = evaluation_batches(
            first=alignment.train_rows, rows=alignment.validation_rows, batch_size=batch_size
        )
        prepared = prepare(
            self._table, self._party.data, rows=alignment.rows, train_rows=alignment.train_rows
        )
        rows = Rows(
            alignment=alignment.digest,
            train_rows=alignment.train_rows,
            validation_rows=alignment.validation_rows,
            steps=steps_per_epoch(rows=alignment.train_rows, batch_size=batch_size),
            evaluation_steps=len(self._evaluation),
        )
        return rows, prepared

    def train_batch(self, epoch: int, step: int) -> RowArray:
        """Rows of a training batch, in session order; both numbers count from 1."""
        if self._alignment is None:
            raise LocalProtocolError("the rows are not aligned yet")
        if self._epoch_batches[0] != epoch:
            batches = train_batches(
                rows=self._alignment.train_rows,
                batch_size=self._topology.training.batch_size,
                seed=self._topology.seed,
                epoch=epoch,
            )
            self._epoch_batches = (epoch, batches)
        return self._epoch_batches[1][step - 1]

    def train_slice(self, epoch: int, step: int, micro_batch: int) -> RowArray:
        """Rows of a slice of a training batch, in session order; slices count from 0."""
        batch = self.train_batch(epoch, step)
        return slices(batch, self._topology.training.micro_batch_size)[micro_batch]

    def rows_at(self, kind: FrameKind, place: Place) -> RowArray:
        """Rows of a tensor: of a validation batch, or of a slice of a training batch."""
        if kind is FrameKind.EVALUATION:
            return self.evaluation_batch(place[1])
        return self.train_slice(*place)

    def evaluation_batch(self, step: int) -> RowArray:
        """Rows of a validation batch, in session order; steps count from 1."""
        return self._evaluation[step - 1]


def rows_of(rows: Rows | None) -> Rows:
    """The matched rows of a session that has ended.

    Raises:
        LocalProtocolError: it never matched any.
    """
    if rows is None:
        raise LocalProtocolError("the session ended without matching rows")
    return rows
