"""Tensors of one kind on one link, to payloads and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import CodecContext, CodecState, RowArray, StateSpec, TensorSpec
from slstream.codecs.on_device import PAYS_FROM_BYTES, device_codec
from slstream.errors import (
    DecodeError,
    EncodeError,
    ModelError,
    RemoteProtocolError,
    SessionAborted,
)
from slstream.frames.header import FrameKind
from slstream.party.device import CPU, Device, Values, all_finite, on_host
from slstream.party.recent_activations import Place, RecentActivations
from slstream.party.times import Times
from slstream.protocol.actions import Payload
from slstream.seeds import derive_seed

ValuesT = TypeVar("ValuesT", npt.NDArray[np.float32], torch.Tensor)

OnTensor = Callable[[str, Place, Values], None]
"""Called in the compute thread with name, place and values of a tensor that crosses the cut:
``activation.bob-to-alice.computed`` before it is encoded, ``....decoded`` at its receiver."""


def not_watched(name: str, place: Place, tensor: Values) -> None:
    """The :data:`OnTensor` of live training."""


MAX_TENSOR_BYTES = 1_073_741_824
"""Largest batch of activations, as float32, that a session handles."""


def require_tensor(party: str, cut: tuple[int, ...], batch_rows: int) -> None:
    """Refuse a cut whose batches are too large, before anything of its size is made.

    Args:
        party: whose cut it is; for messages.
        cut: shape of one row, maybe a peer's claim.
        batch_rows: of the largest batch.

    Raises:
        ModelError: it is too large.
    """
    found = 4 * batch_rows * math.prod(cut)
    if found > MAX_TENSOR_BYTES:
        raise ModelError(
            f"{party}: expected batches of at most {MAX_TENSOR_BYTES} bytes, found {found}: "
            f"{batch_rows} rows with a cut of {list(cut)}; make the batches or the cut smaller"
        )


class TensorCoder:
    """One codec chain with its schema and the key of its noise. Used by the compute thread only."""

    def __init__(
        self,
        chain: CodecChain,
        kind: FrameKind,
        *,
        sender: str,
        receiver: str,
        schema_id: int,
        cut: tuple[int, ...],
        seed: int,
        times: Times,
        recent: RecentActivations,
        on_tensor: OnTensor = not_watched,
        device: Device = CPU,
    ) -> None:
        """Fix all that both ends know before the first tensor.

        Args:
            chain: negotiated for this kind and link.
            kind: of the frames.
            sender: party id.
            receiver: party id.
            schema_id: of its frames.
            cut: shape of one row.
            seed: the session's seed.
            times: gets the seconds spent.
            recent: the link's activations, for its gradients.
            on_tensor: is shown each tensor.
            device: of this party's models.
        """
        self.chain = chain
        self.kind = kind
        self.schema_id = schema_id
        self._sender = sender
        self.cut = cut
        """Shape of one row."""
        self._seed = derive_seed(seed, "codec", sender, receiver, kind.label, "cut")
        self._times = times
        self.name = f"{kind.label}.{sender}-to-{receiver}"
        """Kind and link, as in :data:`OnTensor`."""
        self._on_tensor = on_tensor
        self._recent = recent
        self.state: CodecState | None = None
        """What the chain's codec remembers of the link, once it was begun."""
        self.encoded_rows: RowArray = np.empty(0, np.int64)
        """Of the tensor that was encoded last."""
        self._device = device
        self._on_device = device_codec(chain.tensor) if device.apart else None
        if chain.needs_forward:
            recent.wanted = True

    def begin(self, spec: StateSpec) -> None:
        """Make the codec's state, before the first tensor."""
        self.state = self.chain.new_state(spec)

    def encode(self, tensor: Values, rows: RowArray, place: Place) -> Payload:
        """Encode a tensor, float32 [batch, *cut].

        Args:
            tensor: of this party.
            rows: which of the session's rows they are.
            place: epoch and step, from 1, and micro-batch, from 0.

        Raises:
            SessionAborted: it holds NaN or infinite values, or others that the codec refuses:
                training has diverged.
        """
        self._on_tensor(f"{self.name}.computed", place, tensor)
        self.encoded_rows = rows
        with self._times.measure("codec_s"):
            if not (self.chain.finite or all_finite(tensor)):  # raw32 would send them
                raise self._diverged(place, "holds NaN or infinite values")
            try:
                data = self._encoded(tensor, self._context(rows, place, self.state))
            except EncodeError as error:
                why = f"cannot be encoded by {self.chain}: {error}"
                raise self._diverged(place, why) from error
        return Payload(data=data, raw_bytes=4 * math.prod(tensor.shape), schema_id=self.schema_id)

    def _encoded(self, tensor: Values, context: CodecContext) -> bytes:
        if isinstance(tensor, np.ndarray):
            return self.chain.encode(tensor, context)
        if self._on_device is None or tensor.nbytes < PAYS_FROM_BYTES:
            return self.chain.encode(on_host(tensor), context)
        return self.chain.compress(self._on_device.encode(tensor, context))

    @property
    def follows(self) -> bool:
        """Whether the sender has to :meth:`follow` what it has sent."""
        return self.state is not None or self._is_kept()

    def follow(self, payload: bytes, rows: RowArray, place: Place) -> None:
        """Decode what this party has sent, so that it knows what its receiver does.

        Args:
            payload: what stands in the log, which may be an earlier process's.
            rows: as encoded.
            place: as encoded.

        Raises:
            RemoteProtocolError: it is not such a tensor.
        """
        with self._times.measure("codec_s"):
            tensor = self._decoded(payload, rows, place, "the own link", self.state)
            if self._is_kept():
                self._recent.keep(place, tensor)

    def decode(self, payload: bytes, rows: RowArray, place: Place, where: object) -> Values:
        """Decode a peer's tensor, float32 [rows, *cut].

        Args:
            payload: foreign bytes.
            rows: which of the session's rows it must have.
            place: epoch and step, from 1, and micro-batch, from 0.
            where: it lies in the log, for messages.

        Raises:
            RemoteProtocolError: not such a tensor, or its values are not finite.
        """
        with self._times.measure("codec_s"):
            values: Values | None = self._decoded_there(payload, rows, place, where)
            if values is None:
                values = tensor = self._decoded(payload, rows, place, where, self.state)
                if self._is_kept():
                    self._recent.keep(place, tensor)
        self._on_tensor(f"{self.name}.decoded", place, values)
        return values

    def decode_aside(
        self, payload: bytes, rows: RowArray, place: Place, where: object
    ) -> npt.NDArray[np.float32]:
        """As :meth:`decode`, for a look at a tensor: nothing is changed by it."""
        return self._decoded(payload, rows, place, where, deepcopy(self.state))

    def _decoded(
        self,
        payload: bytes,
        rows: RowArray,
        place: Place,
        where: object,
        state: CodecState | None,
    ) -> npt.NDArray[np.float32]:
        spec = TensorSpec(shape=(len(rows), *self.cut))
        context = self._context(rows, place, state)
        return self._accepted(lambda: self.chain.decode(payload, spec, context), place, where)

    def _decoded_there(
        self, payload: bytes, rows: RowArray, place: Place, where: object
    ) -> torch.Tensor | None:
        """A tensor on this party's device; ``None`` where it is to be decoded on the host."""
        codec = self._on_device
        # What is kept for the codecs of gradients is theirs, on the host.
        if codec is None or self._is_kept():
            return None
        spec = TensorSpec(shape=(len(rows), *self.cut))
        if spec.raw_bytes < PAYS_FROM_BYTES:
            return None
        context, device = self._context(rows, place, self.state), self._device.torch

        def decode() -> torch.Tensor:
            return codec.decode(self.chain.decompress(payload, spec), spec, context, device)

        return self._accepted(decode, place, where)

    def _accepted(self, decode: Callable[[], ValuesT], place: Place, where: object) -> ValuesT:
        try:
            values = decode()
        except DecodeError as error:
            raise self._refusal(place, where, str(error)) from error
        if not (self.chain.finite or all_finite(values)):
            raise self._refusal(place, where, "it holds NaN or infinite values")
        return values

    def _is_kept(self) -> bool:
        return self._recent.wanted and self.kind is FrameKind.ACTIVATION

    def _context(self, rows: RowArray, place: Place, state: CodecState | None) -> CodecContext:
        epoch, step, micro_batch = place
        return CodecContext(
            seed=self._seed,
            counter=epoch << 40 | step << 8 | micro_batch,
            forward=self._recent.get(place) if self.chain.needs_forward else None,
            rows=rows,
            state=state,
        )

    def _diverged(self, place: Place, why: str) -> SessionAborted:
        return SessionAborted(
            f"{self._sender}'s {self._words(place)} {why}: training "
            "diverged; a lower learning rate may help"
        )

    def _refusal(self, place: Place, where: object, why: str) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"{self._sender}'s {self._words(place)} ({where}) was refused: {why}"
        )

    def _words(self, place: Place) -> str:
        epoch, step, micro_batch = place
        words = f"{self.kind.label} of epoch {epoch}, step {step}"
        return f"{words}, micro-batch {micro_batch}" if micro_batch else words
