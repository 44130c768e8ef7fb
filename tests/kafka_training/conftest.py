"""What a training learns that nothing disturbs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.forked_party import ForkedParty, all_ended
from tests.kafka_training.training import PARTIES, Learned, write_training


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of such a training over the embedded log; topology and ``run`` are in it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    topology = write_training(folder)
    with all_ended([]) as started:
        started += [ForkedParty(name, topology, folder / "run") for name in PARTIES]
        for each in started:
            assert each.end() == 0, each.text
    return folder


@pytest.fixture(scope="session")
def expected(undisturbed: Path) -> Learned:
    return Learned.of(undisturbed / "run")
