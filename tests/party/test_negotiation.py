from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from slstream.errors import SessionRefused
from slstream.frames.header import FrameKind
from slstream.party.negotiation import Negotiation
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
        assert not alice.schema_ids("bob", FrameKind.ACTIVATION)
        await alice.adopt("bob", offered, CUT)
        for kind in (FrameKind.ACTIVATION, FrameKind.EVALUATION):
            (schema_id,) = alice.schema_ids("bob", kind)
            assert [*bob.schema_ids("alice", kind)] == [schema_id]
            assert alice.coder("bob", kind, schema_id).chain.config() == [{"id": "raw32"}]
            assert bob.codec_text("alice", kind, schema_id) == "raw32"
        assert bob.offered("carol") == {}
        control = bob.content_id(FrameKind.CONTROL)
        assert bob.codec_text("alice", FrameKind.CONTROL, control) == "json"

    negotiate(tmp_path, body)


def test_all_agree_on_the_ids_of_frames_without_a_tensor(tmp_path: Path) -> None:
    async def body(alice: Negotiation, bob: Negotiation, registry: RegistryLog) -> None:
        for kind in (FrameKind.CONTROL, FrameKind.IDS, FrameKind.MATCH):
            schema_id = alice.content_id(kind)
            assert [*alice.schema_ids("bob", kind)] == [*bob.schema_ids("alice", kind)]
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
        schemas = {"activation": [await registry.register(schema)]}
        with pytest.raises(SessionRefused) as caught:
            await alice.adopt("bob", schemas, CUT)
        message = str(caught.value)
        assert message.startswith("bob offers schema ")
        assert "for its activation frames, which differs in" in message
        assert text in message
        assert not alice.schema_ids("bob", FrameKind.ACTIVATION)

    negotiate(tmp_path, body)


def test_another_known_codec_is_adopted_as_it_was_offered(tmp_path: Path) -> None:
    # The schema of a frame says how to decode it; the receiver's own choice is for what it sends.
    chains = {"forward": "fp16", "backward": "raw32", "evaluation": "bf16"}

    async def body(alice: Negotiation, bob: Negotiation, _: RegistryLog) -> None:
        for kind in (FrameKind.ACTIVATION, FrameKind.EVALUATION):
            await bob.offer(kind, "alice", CUT)
        await alice.adopt("bob", bob.offered("alice"), CUT)
        for kind, codec in ((FrameKind.ACTIVATION, "fp16"), (FrameKind.EVALUATION, "bf16")):
            (schema_id,) = alice.schema_ids("bob", kind)
            assert str(alice.coder("bob", kind, schema_id).chain) == codec

    negotiate(tmp_path, body, topology(tmp_path, codec=chains))


def test_the_label_party_offers_gradients_only(tmp_path: Path) -> None:
    async def body(alice: Negotiation, bob: Negotiation, _: RegistryLog) -> None:
        await alice.offer(FrameKind.GRADIENT, "bob", CUT)
        await bob.adopt("alice", alice.offered("bob"), CUT)
        assert len(bob.schema_ids("alice", FrameKind.GRADIENT)) == 1
        with pytest.raises(SessionRefused, match="alice offers no schema for its gradient frames"):
            await bob.adopt("alice", {}, CUT)

    negotiate(tmp_path, body)


def test_a_link_whose_codec_changes_has_a_schema_for_each(tmp_path: Path) -> None:
    rules = [{"last_epoch": 2, "forward": "fp16"}]
    chains = {"forward": "q8row", "backward": "raw32", "rules": rules}

    async def body(alice: Negotiation, bob: Negotiation, _: RegistryLog) -> None:
        for kind in (FrameKind.ACTIVATION, FrameKind.EVALUATION):
            await bob.offer(kind, "alice", CUT)
        offered = bob.offered("alice")
        assert [len(offered[kind]) for kind in ("activation", "evaluation")] == [2, 1]
        await alice.adopt("bob", offered, CUT)
        for epoch, codec in ((1, "fp16"), (2, "fp16"), (3, "q8row"), (900, "q8row")):
            tensor, rows = np.ones((2, *CUT), np.float32), np.arange(2)
            sent = bob.encode("alice", FrameKind.ACTIVATION, tensor, rows, (epoch, 1, 0))
            assert sent.schema_id is not None
            reader = alice.coder("bob", FrameKind.ACTIVATION, sent.schema_id)
            assert str(reader.chain) == codec

    negotiate(tmp_path, body, topology(tmp_path, codec=chains))


def test_a_codec_of_gradients_is_refused_for_activations(tmp_path: Path) -> None:
    async def body(alice: Negotiation, _: Negotiation, registry: RegistryLog) -> None:
        mask: dict[str, object] = {"id": "mask", "values": {"id": "ecsq"}}
        schema = TensorSchema.build(
            kind=SchemaKind.ACTIVATION, tensor="cut", row_shape=CUT, codec=[mask]
        )
        schemas = {"activation": [await registry.register(schema)]}
        with pytest.raises(SessionRefused, match=r"codec mask.* for its activation frames"):
            await alice.adopt("bob", schemas, CUT)

    negotiate(tmp_path, body)
