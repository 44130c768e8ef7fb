"""A session that is cut anywhere goes on in a new process as if nothing had happened."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from slstream.errors import CheckpointError, SlstreamError
from slstream.frames.header import FrameKind
from slstream.frames.topics import divergences_topic, link_topic
from slstream.party.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from slstream.party.checkpoint_writer import CheckpointWriter
from slstream.party.driver import Driver
from slstream.party.feature_actions import FeatureActions
from slstream.party.link_reader import LinkReader
from slstream.party.party_files import PartyFiles
from slstream.party.times import Times
from slstream.protocol.actions import Action, Forward, Payload
from slstream.topology import Topology
from slstream.transport.connect import embedded_url, open_transport
from slstream.transport.embedded.transport import EmbeddedTransport
from tests.party.small_session import (
    Outcome,
    compute_alone,
    document,
    summary_of,
    take_part,
    topology,
)

PARTIES = ("alice", "bob", "carol")
TRAINING = {"batch_size": 18, "epochs": 2, "validation": 0.25}  # two steps and one evaluation
Key = tuple[object, ...]


class Cut(SlstreamError):
    """The process ends here, without a word to anybody."""

    ends_session: ClassVar[bool] = False


def key_of(driver: Driver, action: Action) -> Key:
    """Which action of the whole session this is, whatever process performs it."""
    names = ("peer", "kind", "epoch", "step", "types", "micro_batch")
    found = [getattr(action, name, None) for name in names]
    message = getattr(action, "message", None)
    epochs = len(driver._cursor.history)
    return (type(action).__name__, *found, message and message.type, epochs)


@dataclass
class Watcher:
    """Sees every action of every party, and ends processes after chosen ones."""

    done: dict[str, list[Key]] = field(default_factory=lambda: {name: [] for name in PARTIES})
    cuts: dict[str, Key] = field(default_factory=dict)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        original = Driver._perform

        async def perform(driver: Driver, action: Action) -> object:
            party, key = driver._context.party.id, key_of(driver, action)
            result = await original(driver, action)
            self.done[party].append(key)
            if self.cuts.get(party) == key:
                del self.cuts[party]
                # So that it is known which checkpoint the next process finds.
                await driver._checkpoints.finish()
                raise Cut(f"after {key}")
            return result

        monkeypatch.setattr(Driver, "_perform", perform)


@dataclass(frozen=True)
class Result:
    """What a session has come to, without what differs from run to run."""

    weights: dict[str, str]
    files: dict[str, str]
    history: list[dict[str, float]]
    frames: dict[str, list[tuple[object, ...]]]
    traffic: dict[str, list[object]]


class Sessions:
    """Sessions of one federation, one after another on one log."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        (tmp_path / "ids.key").write_text("the same digests in every session")
        alignment = {"min_rows": 10, "key_file": "ids.key"}
        fields: dict[str, Any] = {"training": TRAINING, "alignment": alignment, **changes}
        self.topology: Topology = topology(tmp_path, features=2, **fields)
        self.directory = tmp_path / "run"
        self.watcher = Watcher()
        self.watcher.install(monkeypatch)
        compute_alone(monkeypatch)

    def run(self, cuts: Mapping[str, Sequence[Key]] | None = None) -> dict[str, Outcome]:
        """Run a session; each party is cut after these actions, and started again each time."""

        async def live(name: str, own: Sequence[Key]) -> Outcome:
            for key in own:
                self.watcher.cuts[name] = key
                outcome = await take_part(name, self.topology, self.directory)
                if not isinstance(outcome, Cut):
                    return outcome if isinstance(outcome, Exception) else AssertionError(key)
            return await take_part(name, self.topology, self.directory)

        async def main() -> list[Outcome]:
            wanted: Mapping[str, Sequence[Key]] = cuts or {}
            return await asyncio.gather(*(live(name, wanted.get(name, ())) for name in PARTIES))

        return dict(zip(PARTIES, asyncio.run(asyncio.wait_for(main(), 55)), strict=True))

    def until_it_ends(self, name: str) -> Outcome:
        """Run all parties until one has ended; the others are stopped then."""

        async def main() -> Outcome:
            others = [
                asyncio.create_task(take_part(other, self.topology, self.directory))
                for other in PARTIES
                if other != name
            ]
            try:
                return await take_part(name, self.topology, self.directory)
            finally:
                for other in others:
                    other.cancel()
                await asyncio.gather(*others, return_exceptions=True)

        return asyncio.run(asyncio.wait_for(main(), 50))

    def one_process(self, name: str) -> Outcome:
        return asyncio.run(take_part(name, self.topology, self.directory))

    def undisturbed(self) -> tuple[Result, dict[str, list[Key]]]:
        """A session of which each party's actions are noted."""
        for done in self.watcher.done.values():
            done.clear()
        result = self.result(self.run())
        return result, {name: list(done) for name, done in self.watcher.done.items()}

    def result(self, outcomes: dict[str, Outcome]) -> Result:
        summaries = {name: summary_of(outcome) for name, outcome in outcomes.items()}
        session = summaries["alice"].session
        assert {summary.session for summary in summaries.values()} == {session}
        return Result(
            weights=summaries["bob"].weights,
            files={
                name: hashlib.sha256(
                    (self.directory / name / "model.safetensors").read_bytes()
                ).hexdigest()
                for name in PARTIES
            },
            history=summaries["carol"].history,
            frames=self.frames(session),
            traffic={name: list(summary.traffic) for name, summary in summaries.items()},
        )

    def frames(self, session: str) -> dict[str, list[tuple[object, ...]]]:
        """What each receiver gets, link by link."""

        async def main() -> dict[str, list[tuple[object, ...]]]:
            found: dict[str, list[tuple[object, ...]]] = {}
            links = [("alice", peer) for peer in PARTIES[1:]]
            async with await open_transport(embedded_url(self.directory / "log")) as transport:
                for sender, receiver in [*links, *((two, one) for one, two in links)]:
                    topic = link_topic("small", sender, receiver, session)
                    reader = LinkReader(transport, topic, sender, Times())
                    while await reader.read_ahead():
                        pass
                    frames = found.setdefault(f"{sender}-{receiver}", [])
                    while reader.is_ready:
                        f = reader.take()
                        frames.append((f.sequence, f.kind, f.epoch, f.step, f.schema_id, f.payload))
            return found

        return asyncio.run(main())

    def divergences(self, party: str) -> list[dict[str, Any]]:
        async def main() -> list[dict[str, Any]]:
            topic = divergences_topic("small", party)
            async with await open_transport(embedded_url(self.directory / "log")) as transport:
                if topic not in await transport.topics():
                    return []
                return [json.loads(r.value) for r in await transport.read(topic, 0)]

        return asyncio.run(main())

    def newest_checkpoint(self, party: str) -> Path:
        files = PartyFiles(self.directory / party, federation="small", party=party)
        session = files.newest_session()
        assert session is not None
        folder = self.directory / party / "checkpoints" / session
        return max(folder.glob("*.safetensors"))


EVERY_STEP = {"every_steps": 1}
AFTER_EPOCHS = {"every_steps": 1000}


@pytest.mark.parametrize(
    ("disturbed", "checkpoints"),
    [
        (PARTIES, EVERY_STEP),
        pytest.param(PARTIES, AFTER_EPOCHS, marks=pytest.mark.long),
        (("bob",), AFTER_EPOCHS),
    ],
)
def test_a_session_that_is_cut_after_every_action_ends_with_the_same_bits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    disturbed: Sequence[str],
    checkpoints: dict[str, int],
) -> None:
    """Each process of a party is ended after the action that follows its predecessor's last."""
    sessions = Sessions(tmp_path, monkeypatch, checkpoints=checkpoints)
    expected, actions = sessions.undisturbed()
    for name in PARTIES:
        assert len(set(actions[name])) == len(actions[name]) > 20, "each is known apart"
    outcomes = sessions.run({name: actions[name] for name in disturbed})
    assert sessions.result(outcomes) == expected
    for name in PARTIES:
        assert sessions.divergences(name) == []
    # What is done again is bounded by the checkpoints.
    for name in disturbed:
        trained = [key for key in sessions.watcher.done[name] if key[3]]
        assert len(trained) > len([key for key in actions[name] if key[3]])


MASKED = {"forward": "ecsq", "backward": "mask", "evaluation": "raw32"}
STATEFUL = {"forward": "delta", "backward": "klt", "evaluation": "delta"}


@pytest.mark.parametrize(
    ("schedule", "training", "codec"),
    [
        pytest.param("sync", {"micro_batch_size": 9, "epochs": 1}, MASKED, marks=pytest.mark.long),
        pytest.param(
            "microbatch", {"micro_batch_size": 9, "epochs": 1}, MASKED, marks=pytest.mark.long
        ),
        ({"name": "pipeline", "pipeline_size": 3}, {"batch_size": 9, "epochs": 1}, MASKED),
        (
            {"name": "local", "base_steps": 2, "fuse_steps": 3, "exchange_every": 2},
            {"batch_size": 12},
            MASKED,
        ),
        pytest.param("sync", {}, STATEFUL, marks=pytest.mark.long),
        ({"name": "pipeline", "pipeline_size": 3}, {"batch_size": 9, "epochs": 1}, STATEFUL),
    ],
    ids=["slices", "microbatch", "pipeline", "local", "stateful", "stateful-pipeline"],
)
def test_a_cut_session_of_every_schedule_ends_with_the_same_bits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    schedule: object,
    training: dict[str, Any],
    codec: dict[str, str],
) -> None:
    args = {"hidden": [4], "out": 3, "dropout": 0.5, "out_activation": "relu"}
    parties: dict[str, Any] = document(2)["parties"]
    for party in parties.values():
        party["base"] = {"model": "mlp", "args": args}
    training = {**TRAINING, **training}
    sessions = Sessions(
        tmp_path,
        monkeypatch,
        checkpoints=EVERY_STEP,
        schedule=schedule,
        training=training,
        codec=codec,
        parties=parties,
    )
    expected, actions = sessions.undisturbed()
    for name in PARTIES:
        assert len(set(actions[name])) == len(actions[name]) > 20, "each is known apart"
    assert sessions.result(sessions.run(actions)) == expected
    for name in PARTIES:
        assert sessions.divergences(name) == []


def test_a_restarted_party_begins_at_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = Sessions(tmp_path, monkeypatch, checkpoints=EVERY_STEP)
    expected, actions = sessions.undisturbed()
    # Three steps are done and kept, and the activation of the fourth is sent.
    cut = next(key for key in actions["bob"] if key[0] == "Send" and key[3:5] == (2, 2))
    for done in sessions.watcher.done.values():
        done.clear()
    outcomes = sessions.run({"bob": [cut]})
    assert sessions.result(outcomes) == expected
    steps = [key[3:5] for key in sessions.watcher.done["bob"] if key[0] == "Backward"]
    assert steps == [(1, 1), (1, 2), (2, 1), (2, 2)], "no gradient is applied twice"


def test_without_a_disk_a_party_catches_up_from_the_log_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = Sessions(tmp_path, monkeypatch, checkpoints=EVERY_STEP)
    expected, actions = sessions.undisturbed()
    cut = next(key for key in actions["bob"] if key[0] == "Send" and key[3:5] == (2, 2))
    loads = PartyFiles.checkpoints
    monkeypatch.setattr(
        PartyFiles,
        "checkpoints",
        lambda self, session: iter(()) if self.directory.name == "bob" else loads(self, session),
    )
    for done in sessions.watcher.done.values():
        done.clear()
    outcomes = sessions.run({"bob": [cut]})
    assert sessions.result(outcomes) == expected
    steps = [key[3:5] for key in sessions.watcher.done["bob"] if key[0] == "Backward"]
    assert steps == [(1, 1), (1, 2), (2, 1), (1, 1), (1, 2), (2, 1), (2, 2)]


def test_a_checkpoint_is_written_after_the_log_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = Sessions(tmp_path, monkeypatch, checkpoints=EVERY_STEP)
    owners: dict[int, str] = {}
    flushed: dict[str, dict[str, int]] = {}
    seen: list[tuple[str, tuple[int, int]]] = []
    flush, save = EmbeddedTransport.flush, PartyFiles.save_checkpoint
    write = CheckpointWriter._write

    async def noted_flush(self: EmbeddedTransport) -> None:
        ends = {topic: await self.end_offset(topic) for topic in await self.topics("small.")}
        await flush(self)
        flushed[owners[id(self)]] = ends

    async def noted_write(self: CheckpointWriter, checkpoint: Checkpoint) -> None:
        owners[id(self._transport)] = checkpoint.standing.party
        flushed.pop(checkpoint.standing.party, None)
        await write(self, checkpoint)

    def noted_save(self: PartyFiles, checkpoint: Checkpoint) -> None:
        found = checkpoint.standing
        for peer, mark in found.inbound.items():
            topic = link_topic("small", peer, found.party, found.session)
            assert mark.offset <= flushed[found.party][topic]
        for peer, mark in found.outbound.items():
            topic = link_topic("small", found.party, peer, found.session)
            assert 0 < mark.offset <= flushed[found.party][topic]
        seen.append((found.party, found.place))
        save(self, checkpoint)

    monkeypatch.setattr(EmbeddedTransport, "flush", noted_flush)
    monkeypatch.setattr(CheckpointWriter, "_write", noted_write)
    monkeypatch.setattr(PartyFiles, "save_checkpoint", noted_save)
    sessions.result(sessions.run())
    for name in PARTIES:
        places = [place for party, place in seen if party == name]
        assert places == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]


def change(path: Path, **changes: Any) -> None:
    found = decode_checkpoint(path.read_bytes())
    standing = replace(found.standing, **changes)
    path.write_bytes(encode_checkpoint(Checkpoint(standing=standing, model=found.model)))


@pytest.mark.parametrize("end", ["inbound", "outbound"])
def test_a_checkpoint_ahead_of_the_log_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    caplog.set_level(logging.INFO, "slstream")
    sessions = Sessions(tmp_path, monkeypatch, checkpoints=EVERY_STEP)
    expected, actions = sessions.undisturbed()
    cut = next(key for key in actions["bob"] if key[0] == "Send" and key[3:5] == (2, 2))

    async def main() -> list[Outcome]:
        async def bob() -> Outcome:
            sessions.watcher.cuts["bob"] = cut
            assert isinstance(await take_part("bob", sessions.topology, sessions.directory), Cut)
            path = sessions.newest_checkpoint("bob")
            assert path.stem == "00001-0000001"
            marks = getattr(decode_checkpoint(path.read_bytes()).standing, end)
            change(path, **{end: {"alice": replace(marks["alice"], offset=9999)}})
            return await take_part("bob", sessions.topology, sessions.directory)

        others = (take_part(n, sessions.topology, sessions.directory) for n in ("alice", "carol"))
        return list(await asyncio.gather(bob(), *others))

    bob, alice, carol = asyncio.run(asyncio.wait_for(main(), 50))
    assert sessions.result({"alice": alice, "bob": bob, "carol": carol}) == expected
    (skipped,) = [vars(r) for r in caplog.records if r.getMessage() == "checkpoint skipped"]
    assert (skipped["epochs"], skipped["steps"]) == (1, 1)
    assert skipped["why"].startswith("it was written at offset 9999 of small.")
    assert "which ends at " in skipped["why"]
    loaded = [vars(r) for r in caplog.records if r.getMessage() == "checkpoint loaded"]
    assert [(r["epochs"], r["steps"]) for r in loaded] == [(1, 0)]


@pytest.mark.parametrize("changes", [{"digest": "0" * 64}, {"session": "another"}])
def test_a_checkpoint_of_something_else_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    sessions = Sessions(tmp_path, monkeypatch, checkpoints=EVERY_STEP)
    expected, actions = sessions.undisturbed()
    cut = next(key for key in actions["bob"] if key[0] == "Send" and key[3:5] == (2, 2))
    decode = PartyFiles._read

    def edited(self: PartyFiles, path: Path) -> Checkpoint:
        found = decode(self, path)
        if path.stem != "00001-0000001":
            return found
        return replace(found, standing=replace(found.standing, **changes))

    monkeypatch.setattr(PartyFiles, "_read", edited)
    assert sessions.result(sessions.run({"bob": [cut]})) == expected


def test_a_checkpoint_that_does_not_fit_leaves_the_session_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error says how to go on: with the code that wrote it."""
    sessions = Sessions(tmp_path, monkeypatch, checkpoints=EVERY_STEP)
    _, actions = sessions.undisturbed()
    cut = next(key for key in actions["alice"] if key[0] == "Update" and key[3:5] == (2, 1))
    sessions.watcher.cuts["alice"] = cut
    assert isinstance(sessions.until_it_ends("alice"), Cut)
    path = sessions.newest_checkpoint("alice")
    found = decode_checkpoint(path.read_bytes())
    tensors = {n: t for n, t in found.model.tensors.items() if not n.startswith("model.fuse.")}
    model = replace(found.model, tensors=tensors)
    whole = path.read_bytes()
    path.write_bytes(encode_checkpoint(Checkpoint(standing=found.standing, model=model)))

    error = sessions.until_it_ends("alice")
    assert isinstance(error, CheckpointError)
    assert "start with the code and the topology that wrote it" in str(error)
    path.write_bytes(whole)
    summary = summary_of(sessions.until_it_ends("alice"))
    assert summary.session == found.standing.session


@pytest.mark.parametrize("codec_id", ["raw32", "delta"])
def test_other_bits_are_recorded_once_and_the_logged_frame_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec_id: str
) -> None:
    codec = {"forward": codec_id, "backward": "raw32", "evaluation": codec_id}
    sessions = Sessions(tmp_path, monkeypatch, checkpoints=AFTER_EPOCHS, codec=codec)
    expected, actions = sessions.undisturbed()
    cut = next(key for key in actions["bob"] if key[0] == "Send" and key[3:5] == (1, 2))
    forward, calls = FeatureActions._forward, {"count": 0}

    def other_bits(self: FeatureActions, action: Forward) -> Payload:
        payload = forward(self, action)
        place = (self._party.id, action.kind, action.epoch, action.step)
        if place != ("bob", FrameKind.ACTIVATION, 1, 1):
            return payload
        calls["count"] += 1
        if calls["count"] == 1:
            return payload
        data = bytearray(payload.data)
        data[0] ^= 1
        return replace(payload, data=bytes(data))

    monkeypatch.setattr(FeatureActions, "_forward", other_bits)
    result = sessions.result(sessions.run({"bob": [cut]}))
    assert calls["count"] >= 2
    assert result == expected
    (found,) = sessions.divergences("bob")
    assert (found["kind"], found["epoch"], found["step"]) == ("activation", 1, 1)
    assert found["logged_sha256"] != found["computed_sha256"]


def test_a_last_word_while_catching_up_is_no_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restarted party whose table is bad now has computed no other bits than before."""
    sessions = Sessions(tmp_path, monkeypatch, checkpoints=EVERY_STEP)
    _, actions = sessions.undisturbed()
    cut = next(key for key in actions["bob"] if key[0] == "Send" and key[3:5] == (1, 2))
    sessions.watcher.cuts["bob"] = cut
    assert isinstance(sessions.until_it_ends("bob"), Cut)
    table = tmp_path / "bob.csv"
    table.write_text(table.read_text().replace("id,x,z,y", "id,x,zz,y"))
    outcome = sessions.until_it_ends("bob")
    assert "no column 'z'" in str(outcome)
    assert sessions.divergences("bob") == []
