from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from slstream.soak.party_process import PartyProcess, runs_party
from tests.soak.sleeper import command_of, sleeping

RUN = Path("/runs/x")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python -P -m slstream party bob --topology t.yaml --dir /runs/x --quiet", True),
        ("/usr/bin/python3 /usr/bin/slstream party bob --topology t.yaml --dir /runs/x", True),
        ("python -m slstream party bob --dir /runs/x ", True),
        ("python -m slstream party carol --topology t.yaml --dir /runs/x", False),
        ("python -m slstream party bob --topology t.yaml --dir /runs/y", False),
        ("python -m slstream party bob --topology /runs/x --dir", False),
        ("python -m slstream party bob --topology t.yaml", False),
        ("python -m slstream run bob --dir /runs/x", False),
        ("vim party bob --dir /runs/x", False),
        ("", False),
    ],
)
def test_a_party_is_known_by_its_command(command: str, expected: bool) -> None:
    assert runs_party(command.split(" "), "bob", RUN) is expected


def test_kills_the_party_and_waits_for_its_end(tmp_path: Path) -> None:
    async def main(pid: int) -> None:
        found = PartyProcess.find(pid, "bob", tmp_path)
        assert found is not None
        found.kill()
        await found.ended()
        found.kill()  # there is nobody any more
        found.close()

    with sleeping(*command_of(tmp_path)) as process:
        asyncio.run(main(process.pid))
        assert process.wait(10) == -9


def test_never_kills_another_process(tmp_path: Path) -> None:
    with sleeping(*command_of(tmp_path, "carol")) as process:
        assert PartyProcess.find(process.pid, "bob", tmp_path) is None
        assert PartyProcess.find(process.pid, "carol", tmp_path / "other") is None
        assert process.poll() is None


def test_finds_no_process_that_has_ended(tmp_path: Path) -> None:
    with sleeping(*command_of(tmp_path)) as process:
        process.kill()
        # Whether it is still to be waited for or not.
        process.stdout and process.stdout.read()
        assert PartyProcess.find(process.pid, "bob", tmp_path) is None
        process.wait()
        assert PartyProcess.find(process.pid, "bob", tmp_path) is None


@pytest.mark.parametrize("pid", [-1, 0, 2**40, 2**80])
def test_a_claim_of_nonsense_names_nobody(pid: int, tmp_path: Path) -> None:
    assert PartyProcess.find(pid, "bob", tmp_path) is None


def test_an_end_that_does_not_come_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slstream.soak.party_process.END_S", 0.05)

    async def main(pid: int) -> None:
        found = PartyProcess.find(pid, "bob", tmp_path)
        assert found is not None
        try:
            with pytest.raises(TimeoutError):
                await found.ended()
        finally:
            found.close()

    with sleeping(*command_of(tmp_path)) as process:
        asyncio.run(main(process.pid))
