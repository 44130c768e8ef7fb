from __future__ import annotations

from pathlib import Path

from slstream.cli.run_directory import new_run_directory, shared_directory


def test_each_run_gets_the_first_free_number(tmp_path: Path) -> None:
    runs = tmp_path / "deep" / "runs"
    assert new_run_directory("credit", under=runs) == runs / "credit-1"
    (runs / "credit-2").write_text("a file in the way counts too")
    assert new_run_directory("credit", under=runs) == runs / "credit-3"
    assert new_run_directory("digits", under=runs) == runs / "digits-1"
    assert (runs / "credit-3").is_dir()


def test_parties_started_by_hand_meet() -> None:
    assert shared_directory("credit") == Path("runs/credit") == shared_directory("credit")
