"""The decoded activations of a link whose gradients are still to come."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from slstream.errors import LocalProtocolError

Place = tuple[int, int, int]
"""Epoch, step and micro-batch."""


class RecentActivations:
    """What codecs of gradients are told of the activation that a gradient belongs to.

    Both ends of a link keep the same bits: the label party what it decoded, the feature party what
    its own encoded bytes decode to. Gradients come in the order of the activations, so what lies
    before the one that was asked for last is dropped. Used by the compute thread only.
    """

    def __init__(self) -> None:
        """Keep nothing, until a codec wants it."""
        self.wanted = False
        """Whether a codec of this link's gradients uses them; set before training begins."""
        self._kept: deque[tuple[Place, npt.NDArray[np.float32]]] = deque()

    def keep(self, place: Place, activation: npt.NDArray[np.float32]) -> None:
        """Keep a decoded activation, float32 [rows, *cut]; not copied."""
        self._kept.append((place, activation))

    def kept(self) -> dict[str, npt.NDArray[np.float32]]:
        """All of them, for a checkpoint, by the numbers of their places; not copied."""
        return {".".join(map(str, place)): activation for place, activation in self._kept}

    def restore(self, kept: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Keep what :meth:`kept` gave, and nothing else."""
        self._kept.clear()
        for key, activation in kept.items():
            epoch, step, micro_batch = map(int, key.split("."))
            self._kept.append(((epoch, step, micro_batch), activation))
        self._kept = deque(sorted(self._kept, key=lambda each: each[0]))

    def get(self, place: Place) -> npt.NDArray[np.float32]:
        """The decoded activation of a place.

        Raises:
            LocalProtocolError: it is not there.
        """
        while self._kept and self._kept[0][0] < place:
            self._kept.popleft()
        if not self._kept or self._kept[0][0] != place:
            epoch, step, micro_batch = place
            raise LocalProtocolError(
                f"no activation of epoch {epoch}, step {step}, micro-batch {micro_batch} is kept"
            )
        return self._kept[0][1]
