import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slstream.errors import ModelError
from slstream.party.references import load_reference


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_a_class_of_a_module_beside_the_topology(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("import neighbour\nclass Net: pass\n")
    (tmp_path / "neighbour.py").write_text("")
    found = load_reference("nets:Net", tmp_path, "t.yaml:1")
    assert isinstance(found, type)
    assert found.__name__ == "Net"
    assert load_reference("nets:Net", tmp_path, "t.yaml:1") is found


def test_a_module_in_a_package(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "nets.py").write_text("Net = int\n")
    assert load_reference("ours.nets:Net", tmp_path, "t.yaml:1") is int


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            "cannot import nets of nets:Net: ModuleNotFoundError: No module named 'nets' (looked "
            "in {root} and the Python path)",
        ),
        (
            "1 / 0",
            "cannot import nets of nets:Net: ZeroDivisionError: division by zero (looked in {root} "
            "and the Python path)",
        ),
        ("", "{root}/nets.py has no 'Net', which nets:Net names"),
    ],
)
def test_what_cannot_be_imported(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "nets.py").write_text(content)
    with pytest.raises(ModelError) as caught:
        load_reference("nets:Net", tmp_path, "t.yaml:1: fuse")
    assert str(caught.value) == "t.yaml:1: fuse: " + message.format(root=tmp_path)


def test_another_module_of_the_same_name_is_not_taken_for_it(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "nets.py").write_text(f"Net = {folder!r}\n")
    assert load_reference("nets:Net", tmp_path / "first", "t.yaml:1") == "first"
    with pytest.raises(ModelError) as caught:
        load_reference("nets:Net", tmp_path / "second", "t.yaml:1")
    assert str(caught.value) == (
        f"t.yaml:1: nets:Net: a module nets was imported from {tmp_path}/first/nets.py already, so "
        f"{tmp_path}/second/nets.py cannot be; rename one of them"
    )
