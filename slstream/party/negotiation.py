"""Which schemas the two ends of a link use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import torch

from slstream.adaptive.quality import QualityFloor
from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import RowArray, StateSpec
from slstream.codecs.registry import readable_ids
from slstream.errors import InvalidSchema, SessionRefused, UnknownSchema
from slstream.frames.header import FrameKind
from slstream.party.adaptive_encoder import AdaptiveEncoder
from slstream.party.codec_choice import DIRECTIONS, CodecChoice
from slstream.party.device import Values, on_host, open_device
from slstream.party.link_speed import LinkSpeed
from slstream.party.recent_activations import Place, RecentActivations
from slstream.party.registry_log import RegistryLog
from slstream.party.tensor_coder import OnTensor, TensorCoder, not_watched
from slstream.party.times import Times
from slstream.protocol.actions import Payload
from slstream.schemas.compatibility import reading_differences
from slstream.schemas.document import ContentSchema, SchemaKind, TensorSchema
from slstream.topology.topology import Topology

TENSOR = "cut"
"""Name of the one tensor that crosses a cut."""

_REGISTRY_TIMEOUT_S = 30.0

_RECENT = "recent"
"""Begins the names of decoded activations in a checkpoint."""


Allocate = Callable[[tuple[int, ...], npt.DTypeLike], npt.NDArray[Any]]
"""Makes an array of zeros."""


class Negotiation:
    """The schemas that this party offers to its peers, and those that it has adopted of them."""

    def __init__(
        self,
        party: str,
        topology: Topology,
        registry: RegistryLog,
        times: Times,
        on_tensor: OnTensor = not_watched,
    ) -> None:
        """Start with nothing offered.

        Args:
            party: this party.
            topology: codecs and seed.
            registry: opened.
            times: gets the seconds that coding takes.
            on_tensor: is shown each tensor that crosses a cut.

        Raises:
            TopologyError: the party's device is not there.
        """
        self._on_tensor = on_tensor
        self._party = party
        self._device = open_device(topology.party(party), topology)
        self._topology = topology
        self._registry = registry
        self._times = times
        self._choices: dict[tuple[str, FrameKind], CodecChoice] = {}
        self._coders: dict[tuple[str, FrameKind], dict[int, TensorCoder]] = {}
        self._content_ids: dict[FrameKind, int] = {}
        self._recent: dict[str, RecentActivations] = {}
        self._adaptive: dict[tuple[str, FrameKind], AdaptiveEncoder] = {}
        self._link_speeds: dict[str, LinkSpeed] = {}
        self.quality = self._new_quality()
        """What adaptive choices keep to."""

    def forget_measures(self) -> None:
        """Begin anew with what adaptive choices rest on, for another session."""
        self.quality = self._new_quality()
        self._link_speeds.clear()

    def _new_quality(self) -> QualityFloor:
        budget = self._topology.codec.budget
        return QualityFloor(max_metric_loss=budget.max_metric_loss, floor_db=budget.floor_db)

    async def open(self) -> None:
        """Register the schemas of frames without a tensor; every link uses the same."""
        for kind in (FrameKind.CONTROL, FrameKind.IDS, FrameKind.MATCH):
            schema = ContentSchema(kind=SchemaKind(kind.label))
            self._content_ids[kind] = await self._registry.register(schema)

    async def offer(self, kind: FrameKind, receiver: str, cut: tuple[int, ...]) -> None:
        """Register the schemas of what this party will send.

        Args:
            kind: of a tensor.
            receiver: party id.
            cut: shape of one row.
        """
        codec, feature_party = self._topology.codec, self._feature_party(receiver)
        adaptive = codec.chooses(DIRECTIONS[kind], feature_party)
        choice = CodecChoice.adaptive(kind, codec) if adaptive else self._choice(kind, receiver)
        coders: dict[int, TensorCoder] = {}
        for chain in choice.chains:
            schema_id = await self._registry.register(_schema(kind, cut, chain))
            coders[schema_id] = self._coder(
                kind, chain, schema_id, cut, sender=self._party, receiver=receiver
            )
        self._choices[receiver, kind] = choice
        self._coders[receiver, kind] = coders
        if adaptive:
            direction = DIRECTIONS[kind]
            self._adaptive[receiver, kind] = AdaptiveEncoder(
                coders,
                seconds_per_byte=lambda: self.link_speed(receiver).seconds_per_byte,
                floor_db=lambda: self.quality.floor_db(direction),
                times=self._times,
            )

    async def adopt(
        self, sender: str, schemas: Mapping[str, Sequence[int]], cut: tuple[int, ...]
    ) -> None:
        """Check that this party can read what a peer offers.

        Args:
            sender: the peer.
            schemas: schema ids by frame kind.
            cut: shape of one row.

        Raises:
            SessionRefused: a schema is missing, or differs; names the field.
            TransportError: the registry's log cannot be read.
        """
        label_party = self._topology.label_party.id
        kinds = (
            (FrameKind.GRADIENT,)
            if sender == label_party
            else (FrameKind.ACTIVATION, FrameKind.EVALUATION)
        )
        for kind in kinds:
            if kind.label not in schemas:
                raise SessionRefused(f"{sender} offers no schema for its {kind.label} frames")
            coders = {
                schema_id: await self._reader(sender, kind, schema_id, cut)
                for schema_id in schemas[kind.label]
            }
            self._coders[sender, kind] = coders

    async def _reader(
        self, sender: str, kind: FrameKind, schema_id: int, cut: tuple[int, ...]
    ) -> TensorCoder:
        try:
            found = await self._registry.get(schema_id, timeout_s=_REGISTRY_TIMEOUT_S)
        except UnknownSchema as error:
            raise SessionRefused(
                f"{sender} offers schema {schema_id} for its {kind.label} frames: {error}"
            ) from error
        chain = self._choice(kind, sender).chains[0]
        try:
            expected = _schema(kind, cut, chain)
        except InvalidSchema as error:
            raise SessionRefused(f"{sender} offers a cut of {list(cut)}: {error}") from error
        differences = reading_differences(expected, found, known_codecs=readable_ids())
        if differences:
            raise SessionRefused(
                f"{sender} offers schema {schema_id} for its {kind.label} frames, which "
                f"differs in {'; '.join(str(d) for d in differences)}"
            )
        if isinstance(found, TensorSchema):
            chain = CodecChain.from_config(found.codec_configs())
        if chain.needs_forward and kind is not FrameKind.GRADIENT:
            raise SessionRefused(
                f"{sender} offers codec {chain} for its {kind.label} frames; it is for gradients"
            )
        return self._coder(kind, chain, schema_id, cut, sender=sender, receiver=self._party)

    def begin(self, rows: int, allocate: Allocate) -> None:
        """Make the states of all codecs, once every link is negotiated.

        Args:
            rows: of the session.
            allocate: makes their arrays.
        """
        for coders in self._coders.values():
            for coder in coders.values():
                spec = StateSpec(rows=rows, row_shape=coder.cut, allocate=allocate)
                coder.begin(spec)

    def kept(self) -> dict[str, torch.Tensor]:
        """The states of all codecs, for checkpoints; not copied."""
        arrays = self._arrays()
        for peer, recent in self._recent.items():
            arrays |= {f"{_RECENT}.{peer}.{key}": value for key, value in recent.kept().items()}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def restore_kept(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Set all states to what :meth:`kept` gave.

        Raises:
            ValueError: they are other codecs' states.
        """
        arrays = self._arrays()
        for peer, recent in self._recent.items():
            begins = f"{_RECENT}.{peer}."
            recent.restore(
                {
                    n.removeprefix(begins): t.numpy()
                    for n, t in tensors.items()
                    if n.startswith(begins)
                }
            )
        found = {
            name: (tuple(tensor.shape), tensor.numpy().dtype)
            for name, tensor in tensors.items()
            if not name.startswith(f"{_RECENT}.")
        }
        expected = {name: (array.shape, array.dtype) for name, array in arrays.items()}
        if found != expected:
            raise ValueError(f"expected states of codecs {expected}, found {found}")
        for name, array in arrays.items():
            array[...] = tensors[name].numpy()

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {
            f"{coder.name}.{coder.schema_id}.{name}": array
            for coders in self._coders.values()
            for coder in coders.values()
            if coder.state is not None
            for name, array in coder.state.arrays().items()
        }

    def offered(self, receiver: str) -> dict[str, tuple[int, ...]]:
        """Schema ids by frame kind of what this party offers to a peer."""
        return {
            kind.label: tuple(self._coders[peer, kind])
            for peer, kind in self._choices
            if peer == receiver
        }

    def encode(
        self,
        receiver: str,
        kind: FrameKind,
        tensor: Values,
        rows: RowArray,
        place: Place,
    ) -> Payload:
        """Encode what this party sends; see :meth:`TensorCoder.encode`."""
        adaptive = self._adaptive.get((receiver, kind))
        if adaptive is not None:
            # What it chooses by are measures of the host's codecs.
            return adaptive.encode(on_host(tensor), rows, place)
        chain = self._choices[receiver, kind].at(place[0])
        coders = self._coders[receiver, kind].values()
        return next(c for c in coders if c.chain == chain).encode(tensor, rows, place)

    def link_speed(self, peer: str) -> LinkSpeed:
        """Of the link to a peer."""
        if peer not in self._link_speeds:
            from_peer, to_peer = FrameKind.ACTIVATION, FrameKind.GRADIENT
            if peer == self._topology.label_party.id:
                from_peer, to_peer = to_peer, from_peer
            codec, party = self._topology.codec, self._feature_party(peer)
            self._link_speeds[peer] = LinkSpeed(
                chooses=codec.chooses(DIRECTIONS[to_peer], party),
                tells=codec.chooses(DIRECTIONS[from_peer], party),
            )
        return self._link_speeds[peer]

    def chooses(self, receiver: str, kind: FrameKind) -> bool:
        """Whether this party chooses the codec of each of these frames."""
        return (receiver, kind) in self._adaptive

    def expect(self, receiver: str, kind: FrameKind, logged: tuple[int, str] | None) -> None:
        """See :meth:`AdaptiveEncoder.expect`."""
        self._adaptive[receiver, kind].expect(logged)

    def coder(self, peer: str, kind: FrameKind, schema_id: int) -> TensorCoder:
        """Decodes what was written with a schema that was negotiated with a peer."""
        return self._coders[peer, kind][schema_id]

    def schema_ids(self, peer: str, kind: FrameKind) -> Collection[int]:
        """Schema ids of the frames of one kind to or from a peer; empty while they are open."""
        if kind in self._content_ids:
            return (self._content_ids[kind],)
        return self._coders.get((peer, kind), ())

    def content_id(self, kind: FrameKind) -> int:
        """Schema id of frames without a tensor."""
        return self._content_ids[kind]

    def codec_text(self, peer: str, kind: FrameKind, schema_id: int) -> str:
        """Short text of the codec of what is sent to a peer; for reports."""
        if kind in self._content_ids:
            return ContentSchema(kind=SchemaKind(kind.label)).content
        return str(self.coder(peer, kind, schema_id).chain)

    def _choice(self, kind: FrameKind, peer: str) -> CodecChoice:
        return CodecChoice.of(kind, self._topology, self._feature_party(peer))

    def _feature_party(self, peer: str) -> str:
        """The end of the link to a peer that holds features."""
        return self._party if peer == self._topology.label_party.id else peer

    def _coder(
        self,
        kind: FrameKind,
        chain: CodecChain,
        schema_id: int,
        cut: tuple[int, ...],
        *,
        sender: str,
        receiver: str,
    ) -> TensorCoder:
        peer = receiver if sender == self._party else sender
        return TensorCoder(
            chain,
            kind,
            sender=sender,
            receiver=receiver,
            schema_id=schema_id,
            cut=cut,
            seed=self._topology.seed,
            times=self._times,
            recent=self._recent.setdefault(peer, RecentActivations()),
            on_tensor=self._on_tensor,
            device=self._device,
        )


def _schema(kind: FrameKind, cut: tuple[int, ...], chain: CodecChain) -> TensorSchema:
    return TensorSchema.build(
        kind=SchemaKind(kind.label), tensor=TENSOR, row_shape=cut, codec=chain.config()
    )
