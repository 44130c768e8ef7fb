from pathlib import Path

import pytest

from slstream.errors import DataError
from slstream.party.key_file import read_key_file
from tests.party.federation import write_federation


def test_no_key_file(tmp_path: Path) -> None:
    assert read_key_file(write_federation(tmp_path).load()) is None


def test_white_space_at_the_end_does_not_count(tmp_path: Path) -> None:
    topology = write_federation(tmp_path).load("alignment.key_file=ids.key")
    (tmp_path / "ids.key").write_bytes(b"a secret of ours\n")
    key = read_key_file(topology)
    assert key is not None
    assert len(key) == 32
    (tmp_path / "ids.key").write_bytes(b"a secret of ours")
    assert read_key_file(topology) == key
    (tmp_path / "ids.key").write_bytes(b"a secret of yours")
    assert read_key_file(topology) != key


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the key file {file}: No such file or directory"),
        (
            b"too short\n",
            "expected a secret of at least 16 bytes in {file}, found 9; all parties need the same "
            "random content",
        ),
    ],
)
def test_key_files_that_cannot_be_used(content: bytes | None, message: str, tmp_path: Path) -> None:
    topology = write_federation(tmp_path).load("alignment.key_file=ids.key")
    if content is not None:
        (tmp_path / "ids.key").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_key_file(topology)
    place = "--set alignment.key_file=ids.key: alignment.key_file: "
    assert str(caught.value) == place + message.format(file=tmp_path / "ids.key")
