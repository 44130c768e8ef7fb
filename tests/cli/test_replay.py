"""`slstream replay` and `slstream archive replay`: options, what they print, exit status."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file

from slstream.archive.reader import ArchiveFile
from slstream.archive.transport import ArchiveTransport
from slstream.audit.replay import Replayed, ReplayReport
from slstream.audit.tensor_dump import TensorDump
from slstream.cli.archive import command as archive
from slstream.cli.replay import command as replay
from slstream.cli.replay_command import ReplayOptions, replay_and_show
from slstream.errors import CheckpointError, ConfigError, TransportError
from slstream.topology.topology import Topology
from tests.audit.golden_session import GOLDEN

FOLDER = GOLDEN / "format-1"
SESSION = (str(FOLDER / "session.mcap"), "--topology", str(FOLDER / "topology.yaml"))


def replay_archive(*arguments: object) -> Result:
    return CliRunner().invoke(
        archive, ["replay", *SESSION, *map(str, arguments)], catch_exceptions=False
    )


def test_tolerant_tells_how_far_tensors_are(tmp_path: Path) -> None:
    path = tmp_path / "step.safetensors"
    found = replay_archive("--party", "bob", "--tolerant", "--bound", 0.3, "--dump", "2/1", path)
    assert found.exit_code == 0
    assert "demanding deviations of at most 0.3" in found.stdout
    assert "Largest relative deviation" in found.stdout
    assert "within the bound of 0.3" in found.stdout
    assert load_file(path)["activation.bob-to-alice.computed"].shape == (16, 3)
    assert f"Written: {path}\n" in found.stdout


@pytest.mark.parametrize("party", ["alice", "bob"])
def test_a_lost_model_is_written(party: str, tmp_path: Path) -> None:
    folder = tmp_path / "new" / party
    found = replay_archive("--party", party, "--tolerant", "--bound", 0.3, "--model", folder)
    assert found.exit_code == 0
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "scaling.json"}
    weights = (folder / "model.safetensors").read_bytes()
    there = json.loads((FOLDER / "weights.json").read_text())[party]
    here = sha256(weights).hexdigest()
    log = "the same as in the log" if here == there else f"in the log: {there}"
    assert f"Final weights: sha256 {here} ({log})\n" in found.stdout
    assert f"Written: {folder}/scaling.json, {folder}/model.safetensors\n" in found.stdout


def test_no_model_of_a_replay_that_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slstream.party.base_part import BasePart

    original = BasePart.evaluate
    monkeypatch.setattr(BasePart, "evaluate", lambda *args: original(*args) * 2)
    found = replay_archive("--party", "bob", "--tolerant", "--model", tmp_path / "bob")
    assert found.exit_code == 1
    assert "ABOVE the bound" in found.stdout
    assert not (tmp_path / "bob").exists()


def test_no_model_of_a_session_without_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ends_early(*_: object, **__: object) -> Replayed:
        report = ReplayReport(
            session="s1",
            party="bob",
            exact=True,
            environment_differences=[],
            frames=1,
            equal_frames=1,
            last_frame="join",
            complete=False,
            stopped="the end of the log",
            weights=None,
            weights_in_log=None,
            bound=None,
            deviations=[],
            differing_messages=[],
            seconds=0.1,
        )
        return Replayed(report=report, tensors=TensorDump(None), model={"scaling.json": b"{}"})

    monkeypatch.setattr("slstream.audit.replay.replay", ends_early)
    with pytest.raises(ConfigError, match=r"s1 has no final weights: .* at the end of the log"):
        replay_archive("--party", "bob", "--model", tmp_path / "bob")
    assert not (tmp_path / "bob").exists()


def test_another_environment_has_a_status_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    found = replay_archive("--party", "bob")
    assert found.exit_code == 3
    assert "mkl_cbwr: None there, AVX2 here" in found.stderr
    assert "--tolerant" in found.stderr


@pytest.mark.parametrize("demanded", [(), ("--tolerant", "--bound", 0.3, "--to", "1/1")])
def test_foreign_text_does_not_reach_the_terminal(
    monkeypatch: pytest.MonkeyPatch, demanded: tuple[object, ...]
) -> None:
    async def environment(*_: object) -> dict[str, str]:
        return {"torch": "\x1b[2J\nFinal weights"}

    monkeypatch.setattr("slstream.audit.replay.recorded_environment", environment)
    found = replay_archive("--party", "bob", *demanded)
    assert "torch: \\x1b[2J" in found.output
    assert "\x1b" not in found.output
    assert "\nFinal weights" not in found.stdout


def test_json_is_one_object() -> None:
    found = replay_archive(
        "--party", "alice", "--tolerant", "--bound", 0.3, "--to", "1/2", "--json"
    )
    report = json.loads(found.stdout)
    assert report["party"] == "alice"
    assert report["exact"] is False
    assert report["last_frame"] == "gradient of epoch 1, step 2"
    assert report["holds"] is True


def test_a_bound_that_is_exceeded_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from slstream.party.base_part import BasePart

    original = BasePart.evaluate
    monkeypatch.setattr(BasePart, "evaluate", lambda *args: original(*args) * 2)
    found = replay_archive("--party", "bob", "--tolerant")
    assert found.exit_code == 1
    assert "ABOVE the bound of 0.05 (evaluation for alice, epoch" in found.stdout


def test_a_damaged_checkpoint_is_named_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ArchiveFile(FOLDER / "session.mcap") as archive:
        session = archive.manifest.session
    path = tmp_path / "bob" / "checkpoints" / session / "00001-0000000.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    options = ReplayOptions(
        party="bob",
        overrides=(),
        until=None,
        bound=0.3,
        dump=None,
        model=None,
        as_json=False,
    )
    with pytest.raises(CheckpointError, match=r"no checkpoint after epoch 1"):
        replay_and_show(
            lambda: ArchiveTransport.open(FOLDER / "session.mcap"),
            Topology.load(FOLDER / "topology.yaml", ()),
            session=session,
            begin=(1, None),
            directory=tmp_path,
            options=options,
        )
    warning = f'warning checkpoint skipped path={path} why="not a checkpoint: '
    assert warning in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bound", "0.1"], "--bound belongs to --tolerant"),
        (["--dump", "3", "x"], "--dump: expected EPOCH/STEP"),
        (["--model", "there", "--to", "1"], "--model is of the session's end"),
        (["--to", "soon"], "expected EPOCH or EPOCH/STEP"),
    ],
)
def test_usage(arguments: list[str], message: str) -> None:
    found = replay_archive("--party", "bob", *arguments)
    assert found.exit_code == 2
    assert message in found.stderr


def test_a_replay_needs_a_place(tmp_path: Path) -> None:
    def invoke(*arguments: object) -> Result:
        options = ["latest", "--party", "bob", *map(str, arguments)]
        return CliRunner().invoke(replay, options, catch_exceptions=False)

    with pytest.raises(ConfigError, match="which session"):
        invoke()
    with pytest.raises(
        ConfigError, match=r"expected .*/topology\.json, .*, found none: .*--topology"
    ):
        invoke("--dir", tmp_path)
    with pytest.raises(ConfigError, match="where is the log"):
        invoke("--topology", FOLDER / "topology.yaml")
    with pytest.raises(TransportError, match="log"):
        invoke("--topology", FOLDER / "topology.yaml", "--dir", tmp_path)
