"""The decoded activations of a link whose gradients are still to come."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from slstream.errors import LocalProtocolError

MOST = 16
"""Steps whose activations are kept, the latest."""


class RecentActivations:
    """What codecs of gradients are told of the activation of the same step.

    Both ends of a link keep the same bits: the label party what it decoded, the feature party what
    its own encoded bytes decode to. Used by the compute thread only.
    """

    def __init__(self) -> None:
        """Keep nothing, until a codec wants it."""
        self.wanted = False
        """Whether a codec of this link's gradients uses them; set before training begins."""
        self._kept: OrderedDict[tuple[int, int], npt.NDArray[np.float32]] = OrderedDict()

    def keep(self, epoch: int, step: int, activation: npt.NDArray[np.float32]) -> None:
        """Keep the decoded activation of a step, float32 [rows, *cut]; not copied."""
        self._kept[epoch, step] = activation
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)

    def get(self, epoch: int, step: int) -> npt.NDArray[np.float32]:
        """The decoded activation of a step.

        Raises:
            LocalProtocolError: it is not there.
        """
        if (epoch, step) not in self._kept:
            raise LocalProtocolError(f"no activation of epoch {epoch}, step {step} is kept")
        return self._kept[epoch, step]
