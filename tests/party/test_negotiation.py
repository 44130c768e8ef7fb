from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from slstream.codecs.chain import CodecChain
from slstream.codecs.defaults import DEFAULT_BACKWARD, DEFAULT_EVALUATION, DEFAULT_FORWARD
from slstream.errors import SessionRefused, TopologyError
from slstream.frames.header import FrameKind
from slstream.party.negotiation import Negotiation, chain_for, check_codecs
from slstream.party.registry_log import RegistryLog
from slstream.party.times import Times
from slstream.schemas.document import ContentSchema, SchemaKind, TensorSchema
from slstream.topology import Topology
from slstream.transport.connect import embedded_url, open_transport
from tests.party.small_session import topology

CUT = (3,)


def negotiate(
    folder: Path,
    body: Callable[[Negotiation, Negotiation, RegistryLog], Awaitable[None]],
    bobs: Topology | None = None,
) -> None:
    """Run ``body`` with the negotiations of alice and bob over one log."""
    alices = topology(folder)

    async def main() -> None:
        async with await open_transport(embedded_url(folder / "log")) as transport:
            registry = RegistryLog(transport, "small")
            await registry.open()
            ends = []
            for name, own in (("alice", alices), ("bob", bobs or alices)):
                end = Negotiation(name, own, registry, Times())
                await end.open()
                ends.append(end)
            await body(ends[0], ends[1], registry)

    asyncio.run(main())


def test_an_offer_is_adopted_with_the_same_ids(tmp_path: Path) -> None:
    async def body(alice: Negotiation, bob: Negotiation, _: RegistryLog) -> None:
        for kind in (FrameKind.ACTIVATION, FrameKind.EVALUATION):
            await bob.offer(kind, "alice", CUT)
        offered = bob.offered("alice")
        assert set(offered) == {"activation", "evaluation"}
        assert alice.schema_id("bob", FrameKind.ACTIVATION) is None
        await alice.adopt("bob", offered, CUT)
        for kind in (FrameKind.ACTIVATION, FrameKind.EVALUATION):
            assert alice.schema_id("bob", kind) == bob.schema_id("alice", kind)
            assert alice.adopted("bob", kind).chain.config() == [{"id": "raw32"}]
        assert bob.offered("carol") == {}
        assert bob.codec_text("alice", FrameKind.ACTIVATION) == "raw32"
        assert bob.codec_text("alice", FrameKind.CONTROL) == "json"

    negotiate(tmp_path, body)


def test_all_agree_on_the_ids_of_frames_without_a_tensor(tmp_path: Path) -> None:
    async def body(alice: Negotiation, bob: Negotiation, registry: RegistryLog) -> None:
        for kind in (FrameKind.CONTROL, FrameKind.IDS, FrameKind.MATCH):
            schema_id = alice.schema_id("bob", kind)
            assert schema_id is not None
            assert schema_id == bob.schema_id("alice", kind)
            assert await registry.get(schema_id, timeout_s=1) == ContentSchema(
                kind=SchemaKind(kind.label)
            )

    negotiate(tmp_path, body)


@pytest.mark.parametrize(
    ("cut", "codec", "text"),
    [((4,), "raw32", "shape"), (CUT, "zipp", "codec"), ((3, 1), "raw32", "shape")],
)
def test_another_cut_or_codec_is_refused_with_its_field(
    tmp_path: Path, cut: tuple[int, ...], codec: str, text: str
) -> None:
    async def body(alice: Negotiation, bob: Negotiation, registry: RegistryLog) -> None:
        schema = TensorSchema.build(
            kind=SchemaKind.ACTIVATION,
            tensor="cut",
            row_shape=cut,
            codec=[{"id": codec}],
        )
        schemas = {"activation": await registry.register(schema)}
        with pytest.raises(SessionRefused) as caught:
            await alice.adopt("bob", schemas, CUT)
        message = str(caught.value)
        assert message.startswith("bob offers schema ")
        assert "for its activation frames, which differs in" in message
        assert text in message
        assert alice.schema_id("bob", FrameKind.ACTIVATION) is None

    negotiate(tmp_path, body)


def test_another_known_codec_is_adopted_as_it_was_offered(tmp_path: Path) -> None:
    # The schema of a frame says how to decode it; the receiver's own choice is for what it sends.
    chains = {"forward": "fp16", "backward": "raw32", "evaluation": "bf16"}

    async def body(alice: Negotiation, bob: Negotiation, _: RegistryLog) -> None:
        for kind in (FrameKind.ACTIVATION, FrameKind.EVALUATION):
            await bob.offer(kind, "alice", CUT)
        await alice.adopt("bob", bob.offered("alice"), CUT)
        assert str(alice.adopted("bob", FrameKind.ACTIVATION).chain) == "fp16"
        assert str(alice.adopted("bob", FrameKind.EVALUATION).chain) == "bf16"

    negotiate(tmp_path, body, topology(tmp_path, codec=chains))


def test_the_label_party_offers_gradients_only(tmp_path: Path) -> None:
    async def body(alice: Negotiation, bob: Negotiation, _: RegistryLog) -> None:
        await alice.offer(FrameKind.GRADIENT, "bob", CUT)
        await bob.adopt("alice", alice.offered("bob"), CUT)
        assert bob.schema_id("alice", FrameKind.GRADIENT) is not None
        with pytest.raises(SessionRefused, match="alice offers no schema for its gradient frames"):
            await bob.adopt("alice", {}, CUT)

    negotiate(tmp_path, body)


def test_without_a_choice_the_default_chains_are_used(tmp_path: Path) -> None:
    codec = topology(tmp_path, codec={}).codec
    for kind, default in (
        (FrameKind.ACTIVATION, DEFAULT_FORWARD),
        (FrameKind.GRADIENT, DEFAULT_BACKWARD),
        (FrameKind.EVALUATION, DEFAULT_EVALUATION),
    ):
        assert chain_for(kind, codec).config() == CodecChain.from_config(default).config()


@pytest.mark.parametrize("direction", ["forward", "backward", "evaluation"])
def test_an_unknown_codec_is_named_with_its_direction(tmp_path: Path, direction: str) -> None:
    check_codecs(topology(tmp_path))
    with pytest.raises(TopologyError, match=rf"codec\.{direction}: .*'raw31'"):
        check_codecs(topology(tmp_path, codec={direction: "raw31"}))
