"""Which schemas the two ends of a link use."""

from __future__ import annotations

from collections.abc import Mapping

from slstream.codecs.chain import CodecChain
from slstream.codecs.defaults import DEFAULT_BACKWARD, DEFAULT_EVALUATION, DEFAULT_FORWARD
from slstream.codecs.registry import known_ids
from slstream.errors import CodecError, InvalidSchema, SessionRefused, UnknownSchema
from slstream.frames.header import FrameKind
from slstream.party.registry_log import RegistryLog
from slstream.party.tensor_coder import OnTensor, TensorCoder, not_watched
from slstream.party.times import Times
from slstream.schemas.compatibility import reading_differences
from slstream.schemas.document import ContentSchema, SchemaKind, TensorSchema
from slstream.topology.sections import CodecSection
from slstream.topology.topology import Topology

TENSOR = "cut"
"""Name of the one tensor that crosses a cut."""

_REGISTRY_TIMEOUT_S = 30.0


def chain_for(kind: FrameKind, codec: CodecSection) -> CodecChain:
    """The codec chain of a kind of frame: the topology's, or the default.

    Raises:
        CodecError: the topology asks for a codec or a chain that does not exist.
    """
    chosen, default = {
        FrameKind.ACTIVATION: (codec.forward, DEFAULT_FORWARD),
        FrameKind.GRADIENT: (codec.backward, DEFAULT_BACKWARD),
        FrameKind.EVALUATION: (codec.evaluation, DEFAULT_EVALUATION),
    }[kind]
    return CodecChain.from_config(list(chosen) if chosen is not None else default)


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
        """
        self._on_tensor = on_tensor
        self._party = party
        self._topology = topology
        self._registry = registry
        self._times = times
        self._ids: dict[tuple[str, FrameKind], int] = {}
        self._offered: dict[tuple[str, FrameKind], TensorCoder] = {}
        self._adopted: dict[tuple[str, FrameKind], TensorCoder] = {}
        self._content_ids: dict[FrameKind, int] = {}

    async def open(self) -> None:
        """Register the schemas of frames without a tensor; every link uses the same."""
        for kind in (FrameKind.CONTROL, FrameKind.IDS, FrameKind.MATCH):
            schema = ContentSchema(kind=SchemaKind(kind.label))
            self._content_ids[kind] = await self._registry.register(schema)

    async def offer(self, kind: FrameKind, receiver: str, cut: tuple[int, ...]) -> TensorCoder:
        """Register the schema of what this party will send, and return its coder."""
        chain = chain_for(kind, self._topology.codec)
        schema_id = await self._registry.register(_schema(kind, cut, chain))
        coder = self._coder(kind, chain, cut, sender=self._party, receiver=receiver)
        self._ids[receiver, kind] = schema_id
        self._offered[receiver, kind] = coder
        return coder

    async def adopt(self, sender: str, schemas: Mapping[str, int], cut: tuple[int, ...]) -> None:
        """Check that the schemas a peer offers are those that the topology asks for.

        Args:
            sender: the peer.
            schemas: schema id by frame kind.
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
            schema_id = schemas[kind.label]
            try:
                found = await self._registry.get(schema_id, timeout_s=_REGISTRY_TIMEOUT_S)
            except UnknownSchema as error:
                raise SessionRefused(
                    f"{sender} offers schema {schema_id} for its {kind.label} frames: {error}"
                ) from error
            chain = chain_for(kind, self._topology.codec)
            try:
                expected = _schema(kind, cut, chain)
            except InvalidSchema as error:
                raise SessionRefused(f"{sender} offers a cut of {list(cut)}: {error}") from error
            differences = reading_differences(expected, found, known_codecs=known_ids())
            if differences:
                raise SessionRefused(
                    f"{sender} offers schema {schema_id} for its {kind.label} frames, which "
                    f"differs in {'; '.join(str(d) for d in differences)}"
                )
            if isinstance(found, TensorSchema):
                chain = CodecChain.from_config(found.codec_configs())
            self._ids[sender, kind] = schema_id
            self._adopted[sender, kind] = self._coder(
                kind, chain, cut, sender=sender, receiver=self._party
            )

    def offered(self, receiver: str) -> dict[str, int]:
        """Schema id by frame kind of what this party offers to a peer."""
        return {
            kind.label: self._ids[peer, kind] for peer, kind in self._offered if peer == receiver
        }

    def offered_coder(self, receiver: str, kind: FrameKind) -> TensorCoder:
        """Encodes what this party sends."""
        return self._offered[receiver, kind]

    def adopted(self, sender: str, kind: FrameKind) -> TensorCoder:
        """Decodes what a peer sends."""
        return self._adopted[sender, kind]

    def schema_id(self, peer: str, kind: FrameKind) -> int | None:
        """Schema id of the frames of one kind to or from a peer; ``None`` while it is open."""
        return self._content_ids.get(kind) or self._ids.get((peer, kind))

    def codec_text(self, peer: str, kind: FrameKind) -> str:
        """Short text of the codec of what is sent to a peer; for reports."""
        coder = self._offered.get((peer, kind))
        if coder is not None:
            return str(coder.chain)
        return ContentSchema(kind=SchemaKind(kind.label)).content

    def _coder(
        self,
        kind: FrameKind,
        chain: CodecChain,
        cut: tuple[int, ...],
        *,
        sender: str,
        receiver: str,
    ) -> TensorCoder:
        return TensorCoder(
            chain,
            kind,
            sender=sender,
            receiver=receiver,
            cut=cut,
            seed=self._topology.seed,
            times=self._times,
            on_tensor=self._on_tensor,
        )


def check_codecs(topology: Topology) -> None:
    """Build all codec chains of a topology, so that a wrong one is told before anything starts.

    Raises:
        TopologyError: names the direction and line.
    """
    for direction, kind in (
        ("forward", FrameKind.ACTIVATION),
        ("backward", FrameKind.GRADIENT),
        ("evaluation", FrameKind.EVALUATION),
    ):
        try:
            chain_for(kind, topology.codec)
        except CodecError as error:
            raise topology.error("codec", direction, text=str(error)) from error


def _schema(kind: FrameKind, cut: tuple[int, ...], chain: CodecChain) -> TensorSchema:
    return TensorSchema.build(
        kind=SchemaKind(kind.label), tensor=TENSOR, row_shape=cut, codec=chain.config()
    )
