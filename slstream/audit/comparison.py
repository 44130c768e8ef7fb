"""Comparing what a replay computes with what the log holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slstream.errors import Diverged, RemoteProtocolError
from slstream.frames.frame import Frame
from slstream.frames.header import FrameKind
from slstream.party.divergences import differs, same_place
from slstream.party.link_reader import Place
from slstream.party.outbound import Outgoing
from slstream.party.tensor_coder import TensorCoder

TENSORS = (FrameKind.ACTIVATION, FrameKind.GRADIENT, FrameKind.EVALUATION)


class RangeDone(Exception):
    """The replay has passed the last step that was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRange:
    """Up to which step a replay goes; ``None``: to the end."""

    epoch: int | None = None
    step: int | None = None
    """Of that epoch; ``None``: all of it, with its evaluation."""

    def ends_by(self, begin: tuple[int, int]) -> bool:
        """Whether nothing of it lies behind (epochs done, steps done of the next)."""
        if self.epoch is None:
            return False
        epochs, steps = begin
        if self.step is None:
            return self.epoch <= epochs
        return (self.epoch, self.step) <= (epochs + 1, steps)

    def ends_before(self, frame: Outgoing) -> bool:
        """Whether a frame comes after the range."""
        if self.epoch is None or not frame.epoch:
            return False
        if frame.epoch != self.epoch or self.step is None:
            return frame.epoch > self.epoch
        return frame.kind is FrameKind.EVALUATION or frame.step > self.step


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """How far one tensor that was computed again is from the one in the log."""

    kind: str
    receiver: str
    epoch: int
    step: int
    largest: float
    """Largest absolute difference of two elements, both as the receiver decodes them."""
    relative: float
    """Euclidean norm of the difference over that of the logged tensor; 0 when both are 0."""


CoderFor = Callable[[str, FrameKind, int], TensorCoder]


class ReplayComparison:
    """Counts equal frames; tells the first that differs, or measures how far each does."""

    def __init__(
        self,
        *,
        bound: float | None,
        until: StepRange,
        coder: CoderFor,
        on_frame: Callable[[Outgoing], None],
    ) -> None:
        """Compare one party's frames.

        Args:
            bound: largest relative deviation that is tolerated; ``None``: none at all.
            until: where to stop.
            coder: of what is sent to a peer.
            on_frame: called with each frame that was compared.
        """
        self._bound = bound
        self._until = until
        self._coder = coder
        self._on_frame = on_frame
        self.frames = 0
        self.equal = 0
        self.deviations: list[Deviation] = []
        """Of each tensor, in order; only with a bound."""
        self.differing_messages: list[str] = []
        """Control frames that differ; only with a bound."""
        self.last_message = b""
        """Payload of the last control frame, as the log holds it."""

    async def compare(
        self, session: str, receiver: str, computed: Outgoing, logged: Frame, place: Place
    ) -> None:
        """See :class:`~slstream.party.divergences.Comparison`.

        Raises:
            Diverged: the frames differ and no bound tolerates it.
            RangeDone: the frame lies behind the last step that was asked for.
        """
        del session
        if self._until.ends_before(computed):
            raise RangeDone
        self.frames += 1
        if logged.kind is FrameKind.CONTROL:
            self.last_message = logged.payload
        if not differs(computed, logged):
            self.equal += 1
            if self._bound is not None and computed.kind in TENSORS:
                self.deviations.append(_deviation(receiver, computed, 0.0, 0.0))
        elif not same_place(computed, logged):
            raise Diverged(
                f"{place}: the log holds {logged.kind.label} of epoch {logged.epoch}, step "
                f"{logged.step} where the replay computes {computed} for {receiver}"
            )
        elif computed.kind not in TENSORS:
            self._message_differs(receiver, computed, logged, place)
        else:
            self._tensor_differs(receiver, computed, logged, place)
        self._on_frame(computed)

    def _message_differs(
        self, receiver: str, computed: Outgoing, logged: Frame, place: Place
    ) -> None:
        text = (
            f"{computed.kind.label} frame for {receiver} ({place}): the log holds "
            f"{_shown(logged.payload)}, the replay computes {_shown(computed.payload)}"
        )
        if self._bound is None:
            raise Diverged(f"the replay differs from the log first in a {text}")
        self.differing_messages.append(text)

    def _tensor_differs(
        self, receiver: str, computed: Outgoing, logged: Frame, place: Place
    ) -> None:
        coder = self._coder(receiver, computed.kind, computed.schema_id)
        at = (computed.epoch, computed.step, computed.micro_batch)
        try:
            ours, theirs = (
                coder.decode_aside(payload, coder.encoded_rows, at, place).astype(np.float64)
                for payload in (computed.payload, logged.payload)
            )
        except RemoteProtocolError as error:
            raise Diverged(
                f"the replay differs from the log first in the {computed} for {receiver}: what the "
                f"log holds is no tensor of its schema: {error}"
            ) from error
        difference, norm = ours - theirs, float(np.linalg.norm(theirs))
        largest = float(np.max(np.abs(difference), initial=0.0))
        length = float(np.linalg.norm(difference))
        relative = 0.0 if length == 0.0 else length / norm if norm else float("inf")
        if self._bound is None:
            raise Diverged(
                f"the replay differs from the log first in the {computed} for {receiver} "
                f"({place}): {np.count_nonzero(difference)} of {difference.size} elements, by at "
                f"most {largest:.3g}, relative to the tensor {relative:.3g}"
            )
        self.deviations.append(_deviation(receiver, computed, largest, relative))


def _deviation(receiver: str, frame: Outgoing, largest: float, relative: float) -> Deviation:
    return Deviation(
        kind=frame.kind.label,
        receiver=receiver,
        epoch=frame.epoch,
        step=frame.step,
        largest=largest,
        relative=relative,
    )


def _shown(payload: bytes) -> str:
    text = payload[:200].decode(errors="replace")
    return text if len(payload) <= 200 else f"{text}... ({len(payload)} bytes)"
