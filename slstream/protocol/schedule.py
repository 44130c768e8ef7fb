"""Which exchanges a training step is made of, and in which order: never in which timing.

=============  =====================================================================================
``sync``       One exchange at a time: activation up, gradient back. Without lossy codecs the same
               arithmetic as training the joined model in one process, to the bit.
``microbatch`` The slices of a batch are all sent before the first gradient is awaited (GPipe,
               arXiv 1811.06965): the same weights as ``sync`` with the same slices.
``pipeline``   A gradient is awaited when ``pipeline_size`` batches are under way, each computed
               with the weights of its time (weight stashing: PipeDream, arXiv 1806.03377;
               SecretFlow's ``pipeline``). An epoch ends with none under way.
``local``      Several optimiser steps for each exchange, on the same activation and gradient
               (FedBCD, arXiv 1912.11187); and of the exchanges, after the first epoch, only every
               n-th: the others use what crossed for the same rows before (CELU-VFL, arXiv
               2207.14628).
=============  =====================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LEAST_ROWS = 2
"""Of a slice of a batch, because batch normalisation cannot be trained on one row."""


class Order(StrEnum):
    """The schedules' names."""

    SYNC = "sync"
    MICROBATCH = "microbatch"
    PIPELINE = "pipeline"
    LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule with its parameters; those of other schedules keep their defaults."""

    order: Order = Order.SYNC
    batch_size: int = 1
    micro_batch_size: int | None = None
    """Most rows of a slice of a batch; ``None``: batches are not sliced."""
    pipeline_size: int = 1
    """Batches under way."""
    base_steps: int = 1
    """Optimiser steps of a base model for each gradient."""
    fuse_steps: int = 1
    """Optimiser steps of the label party's models for each set of activations."""
    exchange_every: int = 1
    """After the first epoch every n-th step is exchanged."""

    def micro_batches(self, step: int, train_rows: int) -> int:
        """Number of slices of a step's batch.

        Args:
            step: from 1.
            train_rows: of the session.
        """
        rows = min(self.batch_size, train_rows - (step - 1) * self.batch_size)
        return count_slices(rows, self.micro_batch_size)

    def is_exchanged(self, epoch: int, step: int) -> bool:
        """Whether activations and gradients of a step cross; both numbers count from 1."""
        return epoch == 1 or step % self.exchange_every == 0


def count_slices(rows: int, most: int | None) -> int:
    """Into how many slices a batch is cut: as few as keep to ``most`` rows each."""
    return 1 if most is None else min(-(-rows // most), max(1, rows // LEAST_ROWS))
