from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from slstream.cli.codecs import command
from slstream.cli.codecs_description import describe
from slstream.cli.codecs_tensor import MAX_ELEMENTS, read_tensor
from slstream.codecs import registry
from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import (
    Buffer,
    CodecContext,
    CodecState,
    FloatArray,
    StateSpec,
    TensorCodec,
    TensorSpec,
)
from slstream.codecs.payload import check_tensor
from slstream.codecs.row_integers import Q8Row
from slstream.errors import CodecConfigError, CodecError, ConfigError, UnknownCodec
from slstream.testing.codecs import activation, gradient
from slstream.topology import Topology
from tests.cli.examples import words
from tests.party.federation import write_federation

IDS = registry.built_in_ids()


@dataclass(frozen=True)
class Faulty(TensorCodec):
    """Is as a user may write one. Has every kind of parameter.

    Attributes:
        mode: on
            two lines.
    """

    id: ClassVar[str] = "faulty"
    seed: int
    mode: str = "raise"
    shifted: bool = False
    step: float = 1
    values: TensorCodec = field(default_factory=Q8Row)

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        if self.mode == "raise":
            raise KeyError("no such row")
        return check_tensor(tensor, self.id).tobytes()

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        return np.zeros(3, np.float32)


@dataclass(frozen=True)
class Silent(Faulty):
    id: ClassVar[str] = "silent"
    seed: int = 0

    def new_state(self, spec: StateSpec) -> CodecState:
        return Nothing()

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        return np.frombuffer(data, np.float32).reshape(spec.shape)


class Nothing(CodecState):
    """A state that is empty."""

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        return {}


@pytest.fixture
def users_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points as if packages of users were installed, one of them damaged."""
    own = {name.lower(): f"{__name__}:{name}" for name in ("Faulty", "Silent")}
    values = {**own, "gone\x1b": "no_such_module:Gone"}
    points = [EntryPoint(name=n, value=v, group="slstream.codecs") for n, v in values.items()]

    def entry_points(*, group: str, name: str | None = None) -> EntryPoints:
        found = EntryPoints(points).select(group=group)
        return found if name is None else found.select(name=name)

    monkeypatch.setattr(registry, "entry_points", entry_points)
    registry.codec_class.cache_clear()


@pytest.fixture
def tensor(tmp_path: Path) -> Path:
    path = tmp_path / "activation.npy"
    np.save(path, activation(48, 32))
    return path


def invoke(*arguments: str | Path) -> str:
    result = CliRunner().invoke(command, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def document(*arguments: str | Path) -> dict[str, Any]:
    found = json.loads(invoke(*arguments, "--json"))
    assert isinstance(found, dict)
    return found


def test_help_and_list_load_no_torch() -> None:
    code = (
        "import sys; from slstream.cli import main\n"
        "try: main(['codecs', *sys.argv[1:]])\n"
        "finally: print('loaded:', *{'torch', 'numpy', 'rich', 'pydantic'} & set(sys.modules))\n"
    )
    for arguments, allowed in (("--help", set()), ("list", {"numpy", "rich", "pydantic"})):
        result = subprocess.run(
            [sys.executable, "-c", code, arguments], capture_output=True, text=True, check=True
        )
        assert set(result.stdout.rpartition("loaded:")[2].split()) <= allowed


# list -------------------------------------------------------------------------------------------


def test_list_has_every_codec_with_its_kind_and_a_sentence() -> None:
    rows = {row["id"]: row for row in document("list")["codecs"]}
    assert tuple(rows) == IDS
    assert rows["ecsq"] == {
        "id": "ecsq",
        "kind": "tensor",
        "summary": "Multiples of one step, entropy coded.",
        "source": "slstream.codecs.ecsq:Ecsq",
    }
    assert rows["zstd"]["kind"] == "bytes"
    assert rows["mask"]["kind"] == "gradients"
    assert all(row["summary"].endswith(".") and "`" not in row["summary"] for row in rows.values())
    lines = words(invoke("list"))
    assert "ecsq tensor Multiples of one step, entropy coded." in lines
    assert {line.split()[0] for line in lines[2:] if line} >= set(IDS)


@pytest.mark.usefixtures("users_codecs")
def test_list_has_the_codecs_of_users_and_tells_of_a_damaged_one() -> None:
    rows = {row["id"]: row for row in document("list")["codecs"]}
    assert rows["faulty"]["summary"] == "Is as a user may write one."
    assert set(rows["gone\x1b"]) == {"id", "problem"}
    assert "No module named" in rows["gone\x1b"]["problem"]
    shown = invoke("list")
    assert "gone\\x1b broken entry point" in " ".join(shown.split())
    assert "\x1b" not in shown
    assert "ecsq" in shown


# show -------------------------------------------------------------------------------------------


def test_show_has_guarantees_parameters_and_an_example() -> None:
    lines = invoke("show", "ecsq").splitlines()
    assert lines[0] == "ecsq: codec of tensors (slstream.codecs.ecsq:Ecsq)"
    assert "Bits per element follow the data" in "\n".join(lines)
    assert "  step: number, default 1.0" in lines
    assert "    step in units of the tensor's root mean square, 0.05 to 16." in lines
    assert "    forward: {id: ecsq, step: 1.0, rounding: nearest}" in lines
    assert not any("Attributes" in line or "``" in line for line in lines)


def test_show_as_json() -> None:
    found = document("show", "mask")
    assert found["kind"] == "gradients"
    inside = {"id": "ecsq", "step": 1.5, "rounding": "stochastic"}
    (parameter,) = found["parameters"]
    assert parameter.pop("text").startswith("codec of the entries that are left.")
    assert parameter == {"name": "values", "type": "codec", "required": False, "default": inside}
    assert found["example"] == {"backward": [{"id": "mask", "values": inside}]}


def test_a_codec_shows_what_it_inherits() -> None:
    shown = invoke("show", "q4row")
    assert "4 bits: 8 times fewer bytes" in shown
    assert "half a\nscale with nearest" in shown
    assert "block: integer, default 0" in shown
    # One that builds on another codec leaves the text to that, and has all parameters.
    shown = invoke("show", "randtopk")
    assert "Of equal ones the first are kept" not in shown
    assert "fraction: number, default 0.1\n    share of the elements" in shown
    assert "alpha: number, default 0.1\n    probability" in shown


@pytest.mark.parametrize("codec_id", IDS)
def test_every_page_is_complete_and_its_example_holds(codec_id: str, tmp_path: Path) -> None:
    found = describe(registry.codec_class(codec_id))
    assert found.text
    assert all(each.text for each in found.parameters)
    written = registry.codec_from_config({"id": codec_id}).config()
    assert [each.name for each in found.parameters] == [name for name in written if name != "id"]
    for each in found.parameters:
        assert each.default == written[each.name]
        assert each.type in ("integer", "number", "string", "boolean", "codec")
    section = "\n".join(invoke("show", codec_id).splitlines()[-2:])
    path = write_federation(tmp_path).path
    path.write_text(path.read_text() + "\n".join(line[2:] for line in section.splitlines()))
    chain = getattr(Topology.load(path).codec, found.direction)
    assert CodecChain.from_config(chain).config()[-1] == written
    assert YAML(typ="safe").load(section)["codec"].keys() == {found.direction}


@pytest.mark.parametrize(
    ("codec_id", "direction"),
    [("ecsq", "forward"), ("ecsq_signs", "backward"), ("mask", "backward"), ("zstd", "forward")],
)
def test_the_example_is_of_the_direction_that_a_codec_is_for(codec_id: str, direction: str) -> None:
    assert describe(registry.codec_class(codec_id)).direction == direction


RANGE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?) (?:\([a-z]+\) )?to (\d+(?:\.\d+)?)\b")
WORDS = ("nearest", "stochastic", "row", "tensor", "e4m3", "e5m2")


@pytest.mark.parametrize("codec_id", IDS)
def test_ranges_that_are_told_are_those_that_hold(codec_id: str) -> None:
    def accepts(name: str, value: object) -> bool:
        try:
            registry.codec_from_config({"id": codec_id, name: value})
        except CodecConfigError:
            return False
        return True

    for each in describe(registry.codec_class(codec_id)).parameters:
        if each.type in ("integer", "number"):
            told = RANGE.search(each.text) or re.search(r"\b(\d+), or (\d+)\b", each.text)
            assert told, f"{codec_id}: the range of {each.name} is not told"
            low, high = (int(n) if each.type == "integer" else float(n) for n in told.groups())
            assert accepts(each.name, low)
            assert accepts(each.name, high)
            step = 1 if each.type == "integer" else 1e-6
            assert not accepts(each.name, low - step)
            assert not accepts(each.name, high + step)
        elif each.type == "string":
            known = {word for word in WORDS if accepts(each.name, word)}
            told_words = set(re.findall(r"\w+", each.text))
            assert known
            assert known <= told_words, f"{codec_id}: {each.name} also takes {known - told_words}"


@pytest.mark.usefixtures("users_codecs")
def test_show_of_a_users_codec() -> None:
    lines = invoke("show", "faulty").splitlines()
    assert lines[0].startswith("faulty: codec of tensors (tests.cli.test_codecs:Faulty)")
    assert lines[2] == "Is as a user may write one. Has every kind of parameter."
    inside = "{id: q8row, rounding: nearest, block: 0}"
    assert lines[4:] == [
        "Parameters:",
        "  seed: integer, required",
        "  mode: string, default raise",
        "    on two lines.",
        "  shifted: boolean, default false",
        "  step: number, default 1",
        f"  values: codec, default {inside}",
        "",
        "In a topology:",
        "  codec:",
        "    forward: {id: faulty, seed: <integer>, mode: raise, shifted: false, step: 1, values: "
        f"{inside}}}",
    ]


@pytest.mark.usefixtures("users_codecs")
def test_a_codec_with_a_state_is_told_as_such(tensor: Path) -> None:
    rows = {row["id"]: row["kind"] for row in document("list")["codecs"] if "kind" in row}
    assert (rows["silent"], rows["faulty"]) == ("stateful", "tensor")
    assert "remembers what crossed the link" in invoke("show", "silent").splitlines()[0]
    (note,) = document("try", "{id: silent, mode: exact}", tensor)["notes"]
    assert "later tensors of a link" in note


def test_a_class_without_a_docstring() -> None:
    found = describe(Silent)
    assert (found.text, found.summary) == ("", "")
    assert found.parameters[1].text == "on two lines."


@pytest.mark.usefixtures("users_codecs")
@pytest.mark.parametrize(("codec_id", "error"), [("ecqs", UnknownCodec), ("gone\x1b", CodecError)])
def test_show_of_none(codec_id: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=re.escape(repr(codec_id))):
        invoke("show", codec_id)


# try --------------------------------------------------------------------------------------------


def test_try_prints_size_error_and_speed(tensor: Path) -> None:
    found = document("try", "{id: q8row, block: 16}", tensor)
    values = np.load(tensor, allow_pickle=False)
    chain = CodecChain.from_config([{"id": "q8row", "block": 16}])
    context = CodecContext(seed=1, counter=1)
    data = chain.encode(values, context)
    error = chain.decode(data, TensorSpec(shape=values.shape), context) - values.astype(np.float64)
    assert found["codec"] == chain.config()
    assert found["tensor"]["shape"] == [48, 32]
    assert found["tensor"]["zeros"] == np.mean(values == 0)
    assert found["tensor"]["rms"] == pytest.approx(np.sqrt(np.mean(values**2)), rel=1e-5)
    assert (found["raw_bytes"], found["encoded_bytes"]) == (48 * 32 * 4, len(data))
    assert found["ratio"] == 48 * 32 * 4 / len(data)
    assert found["bits_per_element"] == 8 * len(data) / 1536
    assert found["largest_error"] == np.abs(error).max() > 0
    assert found["mean_error"] == pytest.approx(error.mean())
    snr = 10 * np.log10(np.sum(values.astype(np.float64) ** 2) / np.sum(error**2))
    assert found["snr_db"] == pytest.approx(snr)
    assert found["encode_gb_per_s"] > 0
    assert found["notes"] == []

    lines = words(invoke("try", "{id: q8row, block: 16}", tensor))
    assert lines[0].startswith(f"{tensor}: 48 x 32, rms ")
    assert lines[2] == "q8row(block=16)"
    assert f"bytes 6,144 -> {len(data):,}: 3.55x fewer" in lines
    assert f"signal to noise {snr:.1f} dB" in lines
    assert any(re.fullmatch(r"decode [\d.e-]+ GB/s", line) for line in lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("raw32", "raw32"),
        ("[q8row, zstd]", "q8row+zstd"),
        ('[{"id": "fp16"}, {"id": "zstd_shuffled", "level": 9}]', "fp16+zstd_shuffled(level=9)"),
        ("{id: topk, values: {id: ecsq, step: 0.5}}", "topk(values=ecsq(step=0.5))"),
    ],
)
def test_a_chain_is_written_as_in_a_topology(text: str, expected: str, tensor: Path) -> None:
    lines = words(invoke("try", text, tensor))
    assert lines[2] == expected
    assert ("signal to noise exact" in lines) == (expected == "raw32")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ecqs", "did you mean 'ecsq'"),
        ("{id: ecsq, step: 99}", "must be a number from 0.05 to 16; got 99"),
        ("[zstd]", "must start with a codec of tensors"),
        ("[q8row", "expected a codec id, a config or a chain, .* not valid YAML"),
        ("!!python/object x", "not valid YAML"),
        ("5", "must be a JSON object with an id; got 5"),
        ("{step: 1}", 'needs a text "id"'),
        ("", "must be a JSON object with an id; got None"),
    ],
)
def test_what_is_no_chain(text: str, message: str, tensor: Path) -> None:
    with pytest.raises(CodecError, match=message) as caught:
        invoke("try", text, tensor)
    assert "\n" not in str(caught.value)


def test_a_codec_of_gradients_needs_the_activation(tmp_path: Path, tensor: Path) -> None:
    path, other = tmp_path / "gradient.npy", tmp_path / "other.npy"
    np.save(path, gradient(48, 32))
    np.save(other, activation(32, 48).astype(np.float64))
    with pytest.raises(ConfigError, match="--forward FILE"):
        invoke("try", "mask", path)
    with pytest.raises(ConfigError, match=r"other.npy: expected .* \(48, 32\), found \(32, 48\)"):
        invoke("try", "mask", path, "--forward", other)
    masked = document("try", "mask", path, "--forward", tensor)
    assert masked["encoded_bytes"] > 0
    assert masked["notes"] == []
    # What the mask leaves out is lost: the activation counted.
    zeros = np.load(tensor, allow_pickle=False) == 0
    lost = np.abs(np.load(path, allow_pickle=False))[zeros].max()
    assert masked["largest_error"] >= lost
    plain = document("try", "raw32", path, "--forward", other)
    assert plain["notes"] == [f"raw32 makes no use of {other}"]


@pytest.mark.parametrize("dtype", [">f4", "<f8", ">f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_other_floats_are_converted_with_a_note(dtype: str, order: Any, tmp_path: Path) -> None:
    values, path = activation(12, 20).reshape(12, 4, 5), tmp_path / "t.npy"
    np.save(path, np.asarray(values, dtype, order=order))
    found, stored = read_tensor(path)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert np.array_equal(found, values.astype(dtype).astype(np.float32))
    assert stored == np.dtype(dtype)
    notes = document("try", "raw32", path)["notes"]
    name = {">f4": None, "<f8": "float64", ">f2": "float16"}[dtype]
    assert notes == ([f"{path} holds {name}, which was converted to float32"] if name else [])
    assert [f"note: {note}" for note in notes] == words(invoke("try", "raw32", path))[1:-9]


def test_zeros_alone_have_no_rms_to_compare_with(tmp_path: Path) -> None:
    path = tmp_path / "zeros.npy"
    np.save(path, np.zeros((4, 4), np.float32))
    lines = words(invoke("try", "ecsq", path))
    assert "largest error 0" in lines
    assert lines[0].endswith("rms 0, largest 0, 100 % zeros")


def npy(header: str, body: bytes = b"", *, version: int = 1, length: int | None = None) -> bytes:
    """A .npy file with a header that says what it likes."""
    text = header.encode()
    size = (len(text) if length is None else length).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + body


def claims(shape: object, descr: object = "<f4") -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}"


class Planted:
    """Would be built by whoever unpickled a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("unpickled",))


def saved(values: object, tmp_path: Path) -> bytes:
    path = tmp_path / "saved.npy"
    np.save(path, np.asarray(values), allow_pickle=True)
    return path.read_bytes()


BAD = {
    "empty file": (b"", "expected a .npy file"),
    "archive": (b"PK\x03\x04...", "an .npz archive holds several arrays"),
    "pickle": (b"\x80\x04K\x01.", "pickles are never read"),
    "text": (b"1.0 2.0\n", "expected a .npy file"),
    "objects": (np.array([Planted()], object), "found Python objects, which are never read"),
    "integers": ([1, 2], "expected float32, float64 or float16; found int64"),
    "complex": ([1j], "found complex128"),
    "structure": (np.zeros(3, [("a", "<f4")]), "found .*'a'"),
    "no dimension": (np.float32(3), "expected 1 to 4 dimensions, the first one rows; found 0"),
    "5 dimensions": (np.zeros((1,) * 5, np.float32), "found 5"),
    "no element": (np.zeros((0, 64), np.float32), r"found shape \(0, 64\)"),
    "NaN": (np.array([[1, 2], [np.nan, np.inf]]), r"found nan at index \(1, 0\).* 2 of 4 elem"),
    "large": (np.array([[0, 1e300]]), r"found 1e\+300 at index \(0, 1\)"),
    "shorter": (
        npy(claims((2, 3)), bytes(23)),
        r"expected 24 bytes for shape \(2, 3\) .* found 23",
    ),
    "longer": (npy(claims((2, 3)), bytes(25)), "expected 24 bytes .* found more"),
    "lies": (npy(claims((10**8, 10**8))), "as many as a frame holds; found shape"),
    "lies within": (npy(claims((MAX_ELEMENTS,))), "expected 67108864 bytes .* found 0"),
    "one above": (npy(claims((MAX_ELEMENTS + 1,))), "expected 1 to 16,777,216 elements"),
    "product above": (npy(claims((2**23, 3))), "expected 1 to 16,777,216 elements"),
    "endless": (npy(claims(f"({'9' * 4000}, {'9' * 4000})")), "expected 1 to 16,777,216 elements"),
    "negative": (npy(claims((-2, -2)), bytes(16)), r"found shape \(-2, -2\)"),
    "long header": (npy("{", version=2, length=2**32 - 1), "its header is damaged"),
    "wide header": (npy(claims((1,)) + " " * 12_000, bytes(4)), "its header is damaged"),
    "deep header": (npy("(" * 9000), "its header is damaged"),
    "torn header": (npy("{'descr': ((("), "its header is damaged"),
    "code": (npy("__import__('os').abort()"), "its header is damaged"),
    "wide type": (npy(claims((1,), [("a", "<f4", (10**8, 10**8))])), "its header is damaged"),
    "version 3": (npy(claims((1,)), bytes(4), version=3), "or of a structured type"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_clear_line(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    path = tmp_path / "bad.npy"
    path.write_bytes(content if isinstance(content, bytes) else saved(content, tmp_path))
    with pytest.raises(ConfigError, match=message) as caught:
        invoke("try", "raw32", path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 240


@pytest.mark.parametrize(("name", "found"), [("none.npy", "no such file"), (".", "not a file")])
def test_no_file(name: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=found):
        invoke("try", "raw32", tmp_path / name)


def test_a_header_may_say_true_for_one(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    path.write_bytes(npy(claims("(True, 2)"), np.array([1, 2], "<f4").tobytes()))
    assert read_tensor(path)[0].tolist() == [[1, 2]]


@pytest.mark.usefixtures("users_codecs")
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "^codec 'faulty' needs the parameter 'seed'$"),
        ({"seed": 3}, "^codec faulty.* raised KeyError: 'no such row'; the contract allows"),
        ({"seed": 3, "mode": "shape"}, r"breaks its contract: .* shape \(48, 32\), got \(3,\)"),
    ],
)
def test_a_fault_of_a_users_codec_is_told_as_such(
    parameters: Mapping[str, object], message: str, tensor: Path
) -> None:
    with pytest.raises(CodecError, match=message):
        invoke("try", json.dumps({"id": "faulty", **parameters}), tensor)


@pytest.mark.parametrize(
    "arguments", [["show", "nope"], ["try", "raw32", "none.npy"], ["try", "nope", "none.npy"]]
)
def test_the_program_ends_with_1_and_one_line(arguments: Sequence[str], tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "slstream", "codecs", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
