"""A replay shows that frames follow from data, code and log, and finds those that do not."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slstream import Topology
from slstream.audit.comparison import StepRange
from slstream.audit.replay import (
    EnvironmentDiffers,
    Replayed,
    ReplayReport,
    ReplayRequest,
    replay,
)
from slstream.errors import CheckpointError, ConfigError, Diverged, RemoteProtocolError
from slstream.frames.header import HEADER_BYTES
from slstream.party.base_part import BasePart
from slstream.party.fuse_part import FusePart
from slstream.party.recent_activations import Place
from slstream.party.summary import Summary
from slstream.supervisor import run
from slstream.transport.connect import embedded_url, open_transport
from slstream.transport.contract import StoredRecord
from slstream.transport.embedded.transport import EmbeddedTransport
from tests.party.small_session import document, write_tables

EPOCHS = 2
STEPS = 3


class Recorded:
    """A session that was trained by real processes, and its log."""

    def __init__(self, folder: Path) -> None:
        write_tables(folder, common=64)
        base = {"model": "mlp", "args": {"hidden": [8], "out": 3, "dropout": 0.3}}
        value = document(
            2,
            optimizer={"name": "adam", "lr": 0.01},
            training={"batch_size": 16, "epochs": EPOCHS, "validation": 0.25},
            checkpoints={"every_steps": 2},
        )
        for party in value["parties"].values():
            party["base"] = base
        self.directory = folder / "run"
        self.topology = Topology.from_dict(value, folder)
        self.summary: Summary = run(self.topology, directory=self.directory)

    def files(self) -> dict[Path, bytes]:
        """All files of the run, without the two that any reader of an SQLite index makes."""
        paths = (p for p in self.directory.rglob("*") if p.is_file() and "sqlite-" not in p.name)
        return {path: path.read_bytes() for path in paths}

    def replay(self, party: str, **changes: Any) -> ReplayReport:
        return self.replayed(party, **changes).report

    def replayed(self, party: str, **changes: Any) -> Replayed:
        request = ReplayRequest(**{"session": "latest", "party": party, **changes})
        url = embedded_url(self.directory / "log")

        async def main() -> Replayed:
            async with await open_transport(url, read_only=True) as log:
                return await replay(request, self.topology, log, directory=self.directory)

        return asyncio.run(main())


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("recorded")
    yield Recorded(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("party", ["alice", "bob", "carol"])
def test_every_frame_and_the_weights_are_the_same(recorded: Recorded, party: str) -> None:
    before = recorded.files()
    report = recorded.replay(party)
    assert report.exact
    assert report.complete
    assert report.holds
    assert report.weights == recorded.summary.weights[party]
    sent = sum(t.frames for t in recorded.summary.traffic if t.sender == party)
    assert report.frames == report.equal_frames == sent
    assert recorded.files() == before


@pytest.mark.parametrize("begin", [None, (1, 2)])
@pytest.mark.parametrize("party", ["alice", "bob", "carol"])
def test_a_model_that_was_lost_comes_back_from_the_log(
    recorded: Recorded, party: str, begin: tuple[int, int] | None
) -> None:
    lost = {
        path.name: path.read_bytes()
        for path in (recorded.directory / party).iterdir()
        if path.name in ("model.safetensors", "scaling.json")
    }
    assert "model.safetensors" in lost
    assert recorded.replayed(party, begin=begin).model == lost


@pytest.mark.parametrize("party", ["alice", "bob", "carol"])
def test_there_are_no_final_weights_before_the_end(recorded: Recorded, party: str) -> None:
    assert "model.safetensors" not in recorded.replayed(party, until=StepRange(epoch=1)).model


def test_a_range_begins_at_a_checkpoint_and_ends_at_a_step(recorded: Recorded) -> None:
    report = recorded.replay("bob", begin=(1, 0), until=StepRange(epoch=2, step=2))
    assert not report.complete
    assert report.last_frame == "activation of epoch 2, step 2"
    assert report.frames == 3 + 2  # the opening's join, ids and ready; two activations
    inside = recorded.replay("bob", begin=(1, 2))
    assert inside.complete
    assert inside.frames == 3 + 1 + 1 + 1  # one activation, one evaluation, done


@pytest.mark.parametrize(
    ("begin", "until"),
    [
        ((1, 0), StepRange(epoch=1)),
        ((1, 0), StepRange(epoch=1, step=1)),
        ((1, 2), StepRange(epoch=2, step=2)),
    ],
)
def test_a_range_that_ends_before_it_begins_is_refused(
    recorded: Recorded, begin: tuple[int, int], until: StepRange
) -> None:
    with pytest.raises(ConfigError, match=r"after epoch 1, .* found its end in epoch [12]"):
        recorded.replay("bob", begin=begin, until=until)


def test_a_range_may_be_one_step(recorded: Recorded) -> None:
    report = recorded.replay("bob", begin=(1, 2), until=StepRange(epoch=2, step=3))
    assert report.last_frame == "activation of epoch 2, step 3"


def test_a_range_without_its_checkpoint_names_those_that_are_there(recorded: Recorded) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint after epoch 1, step 1.*1/0, 1/2"):
        recorded.replay("bob", begin=(1, 1))


def test_the_tensors_of_a_step_can_be_kept(recorded: Recorded) -> None:
    dump = recorded.replayed("bob", dump=(1, 2), until=StepRange(epoch=1)).tensors
    assert sorted(dump.tensors) == [
        "activation.bob-to-alice.computed",
        "evaluation.bob-to-alice.computed",
        "gradient.alice-to-bob.decoded",
    ] or sorted(dump.tensors) == [
        "activation.bob-to-alice.computed",
        "gradient.alice-to-bob.decoded",
    ]
    assert dump.tensors["activation.bob-to-alice.computed"].shape == (16, 3)


def test_a_step_that_did_not_come_is_told_with_those_that_did(
    recorded: Recorded, tmp_path: Path
) -> None:
    dump = recorded.replayed("bob", dump=(9, 1), until=StepRange(epoch=1)).tensors
    with pytest.raises(ConfigError, match=r"expected .* came to \(1/1 to \d/\d\), found 9/1"):
        dump.write(tmp_path / "step.safetensors")
    assert not list(tmp_path.iterdir())


def test_another_topology_is_refused_with_what_differs(recorded: Recorded) -> None:
    request = ReplayRequest(session="latest", party="bob")
    value = recorded.topology.file.model_dump(mode="json", exclude_none=True)
    other = Topology.from_dict({**value, "seed": 4}, recorded.topology.root)

    async def main() -> None:
        url = embedded_url(recorded.directory / "log")
        async with await open_transport(url, read_only=True) as log:
            await replay(request, other, log, directory=None)

    with pytest.raises(ConfigError, match="seed is 4 here, 3 in the session"):
        asyncio.run(main())


def test_an_unknown_session_names_the_known_ones(recorded: Recorded) -> None:
    with pytest.raises(ConfigError, match=f"no session 'nope'.*{recorded.summary.session}"):
        recorded.replay("bob", session="nope")


def test_a_range_whose_checkpoint_is_refused_does_not_begin_elsewhere(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("slstream.party.driver.mismatch", lambda *_, **__: "it is another's")
    with pytest.raises(CheckpointError, match=r"after epoch 1, step 0 of the next in .* skipped"):
        recorded.replay("bob", begin=(1, 0))
    (skipped,) = [vars(r) for r in caplog.records if r.getMessage() == "checkpoint skipped"]
    assert (skipped["epochs"], skipped["steps"]) == (1, 0)
    assert skipped["why"] == "it is another's"


@pytest.mark.parametrize("stated", ["x", "0", "-1", "1.0", "257", "1\n", "9" * 5000])
def test_threads_that_no_party_can_have_are_refused(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, stated: str
) -> None:
    async def environment(*_: object) -> dict[str, str]:
        return {"threads": stated}

    monkeypatch.setattr("slstream.audit.replay.recorded_environment", environment)
    with pytest.raises(RemoteProtocolError, match=r"of bob: threads: .* from 1 to 256, found '"):
        recorded.replay("bob", bound=0.5)


# On another environment -------------------------------------------------------------------------


def test_another_environment_is_refused_or_measured(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with pytest.raises(EnvironmentDiffers, match="onednn_max_cpu_isa: None there, AVX2 here"):
        recorded.replay("bob")
    report = recorded.replay("bob", bound=0.01)
    assert not report.exact
    assert report.holds
    assert report.environment_differences == ["onednn_max_cpu_isa: None there, AVX2 here"]
    assert len(report.deviations) == EPOCHS * (STEPS + 1)


def test_a_deviation_above_the_bound_does_not_hold(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    _scale_activations(monkeypatch)
    report = recorded.replay("bob", bound=0.01)
    worst = report.largest_deviation
    assert worst is not None
    assert worst.relative > 0.01
    assert not report.holds
    assert recorded.replay("bob", bound=10.0).holds


# Mutations that a replay must find ---------------------------------------------------------------


def _scale_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    original = BasePart.forward

    def forward(part: BasePart, rows: Any, place: Place, *, again: int = 0) -> torch.Tensor:
        return original(part, rows, place, again=again) * (1.5 if place[0] == 2 else 1.0)

    monkeypatch.setattr(BasePart, "forward", forward)


def _leave_out_the_rng(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful:
        def manual_seed(self, seed: int) -> None:
            del seed

    monkeypatch.setattr(torch, "default_generator", Forgetful())


def _zero_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    original = BasePart.update
    updates = count(1)

    def update(part: BasePart) -> None:
        original(part)
        if next(updates) == 2 and part.optimizer is not None:
            next(iter(part.optimizer.state.values()))["exp_avg"].zero_()

    monkeypatch.setattr(BasePart, "update", update)


def _apply(times: int) -> Callable[[pytest.MonkeyPatch], None]:
    def mutate(monkeypatch: pytest.MonkeyPatch) -> None:
        original = BasePart.update
        updates = count(1)

        def update(part: BasePart) -> None:
            for _ in range(times if next(updates) == 2 else 1):
                original(part)

        monkeypatch.setattr(BasePart, "update", update)

    return mutate


def _swap_parties(monkeypatch: pytest.MonkeyPatch) -> None:
    original = FusePart.loss

    def loss(part: FusePart, activations: Any, *place: Any, **again: Any) -> torch.Tensor:
        swapped = dict(activations)
        swapped["bob"], swapped["carol"] = activations["carol"], activations["bob"]
        return original(part, swapped, *place, **again)

    monkeypatch.setattr(FusePart, "loss", loss)


def _change_a_frame(topic_part: str, number: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Flip a bit in the last byte of one frame of a link."""

    def mutate(monkeypatch: pytest.MonkeyPatch) -> None:
        original = EmbeddedTransport.read

        async def read(transport: EmbeddedTransport, topic: str, *args: Any, **options: Any) -> Any:
            records = await original(transport, topic, *args, **options)
            if topic_part not in topic:
                return records
            return [_flipped(record) if record.offset == number else record for record in records]

        monkeypatch.setattr(EmbeddedTransport, "read", read)

    return mutate


def _flipped(record: StoredRecord) -> StoredRecord:
    value = bytearray(record.value)
    assert len(value) > HEADER_BYTES
    value[-1] ^= 1
    fields = {name: getattr(record, name) for name in StoredRecord.__slots__}
    return StoredRecord(**{**fields, "value": bytes(value)})


@pytest.mark.parametrize(
    ("party", "mutate", "first"),
    [
        ("bob", _leave_out_the_rng, "activation of epoch 1, step 1"),
        # What the zeroed moment changes is the update of step 3.
        ("bob", _zero_a_moment, "evaluation of epoch 1, step 1"),
        ("bob", _apply(0), "activation of epoch 1, step 3"),
        ("bob", _apply(2), "activation of epoch 1, step 3"),
        ("bob", _scale_activations, "activation of epoch 2, step 1"),
        ("alice", _swap_parties, "gradient of epoch 1, step 1"),
        # Own frames 0 to 2 are the opening: join, ids, ready.
        ("bob", _change_a_frame(".bob-to-alice.", 4), "activation of epoch 1, step 2"),
        # alice's: match, open, then a gradient a step: the change shows in what follows from it.
        ("bob", _change_a_frame(".alice-to-bob.", 3), "activation of epoch 1, step 3"),
    ],
    ids=[
        "rng left out",
        "moment zeroed",
        "gradient skipped",
        "gradient applied twice",
        "model changed",
        "party order",
        "own frame changed",
        "peer's frame changed",
    ],
)
def test_a_mutation_is_found_at_its_first_step(
    recorded: Recorded,
    monkeypatch: pytest.MonkeyPatch,
    party: str,
    mutate: Callable[[pytest.MonkeyPatch], None],
    first: str,
) -> None:
    mutate(monkeypatch)
    with pytest.raises(Diverged, match=f"differs from the log first in the {first} for"):
        recorded.replay(party)


def test_other_data_is_found(recorded: Recorded, tmp_path: Path) -> None:
    """The party's table is not the one that it trained with."""
    copy = tmp_path / "data"
    shutil.copytree(recorded.topology.root, copy, ignore=shutil.ignore_patterns("run"))
    table = copy / "bob.csv"
    lines = table.read_text().splitlines()
    lines[1:] = [line.rsplit(",", 1)[0] + ",1" for line in lines[1:]]
    key, x, _, y = lines[5].split(",") if lines[5].count(",") == 3 else (*lines[5].split(","), "0")
    lines[5] = f"{key},{float(x) + 1.0:.4f},0.5,{y}"
    table.write_text("\n".join(lines) + "\n")
    value = recorded.topology.file.model_dump(mode="json", exclude_none=True)
    topology = Topology.from_dict(value, copy)

    async def main() -> None:
        url = embedded_url(recorded.directory / "log")
        async with await open_transport(url, read_only=True) as log:
            await replay(
                ReplayRequest(session="latest", party="bob"), topology, log, directory=None
            )

    with pytest.raises(Diverged, match="activation of epoch 1, step 1"):
        asyncio.run(main())


def test_numbers_of_a_report_are_plain(recorded: Recorded) -> None:
    report = recorded.replay("bob", bound=0.5)
    assert all(isinstance(each.relative, float) for each in report.deviations)
    assert not np.isnan([each.relative for each in report.deviations]).any()
