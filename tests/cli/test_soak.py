from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from slstream.bench.report import Result
from slstream.cli.soak import command
from slstream.cli.soak_report import soak_report
from slstream.soak.kill_plan import KillKind
from slstream.soak.trial import Trial
from slstream.topology import Topology
from tests.soak.results import KINDS, STEPS, links, trace, trial_of
from tests.topology.documents import write


def results(trial: Trial) -> dict[str, Result]:
    return {result.name: result for result in soak_report(trial, seed=7).results}


def test_kills_that_changed_nothing_hold() -> None:
    found = results(trial_of())
    assert all(result.holds is not False for result in found.values())
    values = {name: result.value for name, result in found.items()}
    assert (values["kills"], values["kills_one"]) == (4, 2)
    assert (values["kills_all"], values["kills_in_checkpoint_write"]) == (1, 1)
    assert (values["restarts"], values["steps"], values["training_frames"]) == (5, 3, 6)
    assert (values["undisturbed_s"], values["disturbed_s"]) == (12.5, 50.0)


@pytest.mark.parametrize(
    ("trial", "missed"),
    [
        (
            trial_of(disturbed=trace(weights={"alice": "a" * 64, "bob": "c" * 64})),
            "weights_equal",
        ),
        (trial_of(disturbed=trace(history=())), "metrics_differing"),
        (trial_of(disturbed=trace(divergences=1)), "divergences"),
        (trial_of(disturbed=trace(links=links(STEPS[:-1]))), "steps_missing"),
        (trial_of(disturbed=trace(links=links([*STEPS, (3, 1)]))), "steps_added"),
        (trial_of(disturbed=trace(links=links([*STEPS, (1, 1)]))), "steps_repeated"),
        (trial_of(kinds=KINDS[:3]), "kills"),
        (trial_of(disturbed=trace(starts=5)), "restarts"),
    ],
)
def test_each_promise_can_be_missed(trial: Trial, missed: str) -> None:
    assert [name for name, result in results(trial).items() if result.holds is False] == [missed]


def test_what_was_ignored_is_counted_over_all_links() -> None:
    first, second = links()
    marked = (
        replace(first, duplicates=2, fenced=3, abandoned=1, fences=4),
        replace(second, duplicates=1, fences=4),
    )
    found = results(trial_of(disturbed=trace(links=marked)))
    counts = [found[name].value for name in ("duplicates", "fenced", "abandoned", "fences")]
    assert counts == [3, 3, 1, 8]
    assert all(result.holds is not False for result in found.values())


def test_notes_name_what_differs() -> None:
    bad = trace(weights={"alice": "a" * 64, "bob": "c" * 64}, links=links(STEPS[1:]))
    notes = soak_report(trial_of(disturbed=bad), seed=7).notes
    assert "seed 7" in notes
    assert f"bob: weights {'b' * 64} undisturbed, {'c' * 64} disturbed" in notes
    assert "first: activation of epoch 1, step 1 from bob to alice is missing" in notes


class TestCommand:
    """Options, output and status; the runs themselves are the integration tests' business."""

    @pytest.fixture
    def seen(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int, Path]]:
        seen: list[tuple[str, int, int, Path]] = []

        def run(topology: Topology, *, kills: int, seed: int, directory: Path) -> Trial:
            seen.append((topology.federation, kills, seed, directory))
            return trial_of(kinds=KINDS if seed == 7 else ())

        monkeypatch.setattr("slstream.soak.trial.run", run)
        return seen

    def test_json_is_one_object(self, seen: list[object], tmp_path: Path) -> None:
        arguments = [write(tmp_path), "--kills", 4, "--seed", 7, "--dir", tmp_path / "x", "--json"]
        result = CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=False)
        assert result.exit_code == 0
        document = json.loads(result.stdout)
        assert document["bench"] == "soak"
        assert {"name", "value", "unit", "target", "holds"} == set(document["results"][0])
        assert seen == [("clinic", 4, 7, tmp_path / "x")]

    def test_a_difference_fails(self, seen: list[object], tmp_path: Path) -> None:
        arguments = [write(tmp_path), "--seed", 8, "--dir", tmp_path / "x"]
        result = CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=False)
        assert result.exit_code == 1
        assert "weights_equal" in result.stdout

    def test_files_go_to_a_new_folder(
        self,
        seen: list[tuple[str, int, int, Path]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path = write(tmp_path)
        monkeypatch.chdir(tmp_path)
        for _ in range(2):
            CliRunner().invoke(command, [str(path), "--quiet"], catch_exceptions=False)
        assert [entry[3] for entry in seen] == [
            Path("runs/clinic-soak-1"),
            Path("runs/clinic-soak-2"),
        ]


def test_kinds_are_all_counted() -> None:
    assert set(KINDS) == set(KillKind)
