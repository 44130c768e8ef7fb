"""Encodes with the chain that suits the link, or with the one that the log names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from slstream.adaptive.controller import Controller
from slstream.codecs.contract import RowArray
from slstream.errors import SessionAborted
from slstream.party.recent_activations import Place
from slstream.party.tensor_coder import TensorCoder
from slstream.party.times import Times
from slstream.protocol.actions import Payload


class AdaptiveEncoder:
    """One sender's frames of one kind on one link.

    :meth:`expect` is called while nothing is encoded; all else is the compute thread's.
    """

    def __init__(
        self,
        coders: Mapping[int, TensorCoder],
        *,
        seconds_per_byte: Callable[[], float | None],
        floor_db: Callable[[], float],
        times: Times,
    ) -> None:
        """Begin with nothing known.

        Args:
            coders: by schema id, in the order of the ladder.
            seconds_per_byte: of the link.
            floor_db: of the direction.
            times: gets the seconds of choosing.
        """
        self._coders = list(coders.values())
        self._ids = list(coders)
        self._times = times
        self._logged: tuple[int, str] | None = None
        chains = [coder.chain for coder in self._coders]
        self._controller = Controller(chains, seconds_per_byte=seconds_per_byte, floor_db=floor_db)

    def expect(self, logged: tuple[int, str] | None) -> None:
        """Say what the log holds in the place of the next frame.

        Args:
            logged: its schema id, and why it was chosen, if so; ``None``: it holds none.
        """
        self._logged = logged

    def encode(self, tensor: npt.NDArray[np.float32], rows: RowArray, place: Place) -> Payload:
        """As :meth:`TensorCoder.encode`."""
        if self._logged is not None:
            schema_id, reason = self._logged
            if schema_id not in self._ids:
                raise SessionAborted(
                    f"the log has schema {schema_id} on an own frame of epoch {place[0]}, step "
                    f"{place[1]}; this party chooses among {', '.join(map(str, self._ids))}"
                )
            rung = self._ids.index(schema_id)
            self._controller.follow(rung)
        else:
            with self._times.measure("codec_s"):
                choice = self._controller.choose(tensor)
            rung, reason = choice.rung, choice.reason
        return replace(self._coders[rung].encode(tensor, rows, place), choice=reason)
