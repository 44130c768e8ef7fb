from pathlib import Path

import pytest

from slstream.errors import TopologyError
from slstream.topology.document import Problem, parse_value, read_document
from tests.topology.documents import write

BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


def test_values_are_plain_and_places_are_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "a: 1e-3\nb:\n  c: [1, yes]\n  d: 'x'\n  e: true\n  f: null\n")
    document = read_document(path)
    assert document.value == {
        "a": 0.001,
        "b": {"c": [1, "yes"], "d": "x", "e": True, "f": None},
    }
    kinds = [type(v) for v in (document.value["a"], *document.value["b"].values())]  # type: ignore[attr-defined]
    assert kinds == [float, list, str, bool, type(None)]
    assert document.where(("b", "c", 1)) == f"{path}:3: b.c.1"
    assert document.where(("b", "missing")) == f"{path}:2: b.missing"
    assert document.where(()) == f"{path}:1"


def test_anchors_merges_and_anchored_booleans(tmp_path: Path) -> None:
    document = read_document(write(tmp_path, "a: &x {k: &t true}\nb: *x\nc:\n  <<: *x\n  m: *t\n"))
    assert document.value == {"a": {"k": True}, "b": {"k": True}, "c": {"k": True, "m": True}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", ':3: not valid YAML: found duplicate key "a" with value "3" (orig'),
        ("a: [1\nb: 2\n", ":2: not valid YAML: expected ',' or ']', but got ':'"),
        ("", ": expected a mapping with the keys federation, parties, fuse, loss, ...; found an "),
        (
            "- 1\n",
            ": expected a mapping with the keys federation, parties, fuse, loss, ...; found ",
        ),
        ("a:\n  1: x\n", ":1: a: expected text as a key, found 1; quote it"),
        ("a: 1\nb: 2020-01-01\n", ":2: b: expected text, a number, true, false, a list or a mapp"),
        ("a: !!python/object:os.system 1\n", ":1: a: expected text, a number, true, false, a li"),
        (
            f"a: {'[' * 20}{']' * 20}\n",
            ":1: a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0: nested more than 16",
        ),
        (f"a: {'[' * 500}{']' * 500}\n", ": nested more than 16 levels deep"),
        ("a: 2020-02-30\n", ": not valid YAML: a value cannot be read: day is out of range"),
        (f"a: {'9' * 5000}\n", ": not valid YAML: a value cannot be read: Exceeds the limit"),
        ("a: 0x_\n", ": not valid YAML: a value cannot be read: "),
        ("a: !!bool abc\n", ": not valid YAML: a value cannot be read: 'abc'"),
        ('a: "\\ud800"\n', ":1: a: expected text, found a half of a surrogate pair in '\\ud800'"),
        (BOMB, ": the file holds more than 100000 values"),
    ],
)
def test_what_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(TopologyError) as caught:
        read_document(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "no.yaml"
    with pytest.raises(TopologyError) as caught:
        read_document(path)
    expected = f"{path}: cannot read the topology file: No such file or directory"
    assert str(caught.value) == expected


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(TopologyError, match="it is not UTF-8 text"):
        read_document(path)


def test_several_problems_are_one_error(tmp_path: Path) -> None:
    document = read_document(write(tmp_path, "a: 1\nb: 2\n"))
    error = document.error([Problem(path=("a",), text="x"), Problem(path=("b",), text="y")])
    assert str(error) == f"{document.source}:1: a: x\n{document.source}:2: b: y"


def test_values_of_overrides() -> None:
    assert parse_value("[1, 2.5, a]") == [1, 2.5, "a"]
    with pytest.raises(ValueError, match="not valid YAML"):
        parse_value("[1")
    with pytest.raises(ValueError, match="not valid YAML"):
        parse_value("0x_")
