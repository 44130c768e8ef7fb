from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from typing import ClassVar

import pytest

from slstream.codecs import registry
from slstream.codecs.contract import Buffer, BytesCodec
from slstream.codecs.lz4 import Lz4
from slstream.codecs.raw32 import Raw32
from slstream.errors import CodecConfigError, UnknownCodec


@dataclass(frozen=True)
class Reversed(BytesCodec):
    id: ClassVar[str] = "reversed"

    def compress(self, data: Buffer) -> bytes:
        return bytes(data)[::-1]

    def decompress(self, data: Buffer, max_bytes: int) -> bytes:
        return self.compress(data)[:max_bytes]


class Misnamed(Reversed):
    id: ClassVar[str] = "other"


class Nameless(BytesCodec):
    pass


@dataclass(frozen=True)
class HalfDone(BytesCodec):
    id: ClassVar[str] = "reversed"

    def compress(self, data: Buffer) -> bytes:
        return bytes(data)


class Plain(BytesCodec):
    id: ClassVar[str] = "reversed"
    compress = Reversed.compress
    decompress = Reversed.decompress


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """Entry points of users, as if their packages were installed."""
    points: list[EntryPoint] = []

    def entry_points(*, group: str, name: str | None = None) -> EntryPoints:
        found = EntryPoints(points).select(group=group)
        return found if name is None else found.select(name=name)

    monkeypatch.setattr(registry, "entry_points", entry_points)
    registry.codec_class.cache_clear()
    return points


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=f"{__name__}:{value}", group="slstream.codecs")


def test_builds_the_codec_of_a_config() -> None:
    assert registry.codec_from_config({"id": "raw32"}) == Raw32()
    assert registry.codec_from_config({"id": "lz4", "acceleration": 3}) == Lz4(acceleration=3)


@pytest.mark.parametrize("codec_id", registry.built_in_ids())
def test_every_built_in_class_carries_the_id_of_its_row(codec_id: str) -> None:
    assert registry.codec_class(codec_id).id == codec_id
    assert registry.codec_from_config({"id": codec_id}).config()["id"] == codec_id


def test_an_unknown_id_names_the_nearest_known_one() -> None:
    with pytest.raises(UnknownCodec) as caught:
        registry.codec_from_config({"id": "escq"})
    assert str(caught.value) == (
        "no codec is registered under id 'escq' "
        f"(known: {', '.join(registry.built_in_ids())}); did you mean 'ecsq'?"
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, 'a codec config needs a text "id"; got {}'),
        ({"id": 7}, "a codec config needs a text \"id\"; got {'id': 7}"),
        ("raw32", "a codec config must be a JSON object with an id; got 'raw32'"),
    ],
)
def test_a_config_without_an_id_is_refused(config: object, message: str) -> None:
    with pytest.raises(CodecConfigError) as caught:
        registry.codec_from_config(config)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_finds_users_codecs_through_entry_points(installed: list[EntryPoint]) -> None:
    installed.append(point("reversed", "Reversed"))
    assert registry.codec_class("reversed").__name__ == "Reversed"
    assert "reversed" in registry.known_ids()
    assert "reversed" not in registry.built_in_ids()


def test_an_entry_point_cannot_take_over_a_built_in_id(installed: list[EntryPoint]) -> None:
    installed.append(point("raw32", "Reversed"))
    assert registry.codec_class("raw32") is Raw32


def test_two_packages_cannot_share_an_id(installed: list[EntryPoint]) -> None:
    installed.extend([point("reversed", "Reversed"), point("reversed", "Misnamed")])
    with pytest.raises(CodecConfigError, match="'reversed' is claimed by 2 entry points"):
        registry.codec_class("reversed")


@pytest.mark.parametrize("value", ["Misnamed", "Nameless", "point"])
def test_an_entry_point_must_be_a_codec_of_its_id(installed: list[EntryPoint], value: str) -> None:
    installed.append(point("reversed", value))
    with pytest.raises(CodecConfigError, match="whose id is 'reversed'; got"):
        registry.codec_class("reversed")


@pytest.mark.parametrize(
    ("value", "lack"), [("HalfDone", "it has no decompress"), ("Plain", "it is no dataclass")]
)
def test_an_entry_point_must_be_complete(
    installed: list[EntryPoint], value: str, lack: str
) -> None:
    installed.append(point("reversed", value))
    with pytest.raises(CodecConfigError, match=f"all methods of BytesCodec; {lack}$"):
        registry.codec_class("reversed")


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        (__name__, "AttributeError: module '.*' has no attribute 'Gone'"),
    ],
)
def test_an_entry_point_that_cannot_be_loaded_is_named(
    installed: list[EntryPoint], module: str, said: str
) -> None:
    installed.append(EntryPoint(name="gone", value=f"{module}:Gone", group="slstream.codecs"))
    with pytest.raises(CodecConfigError, match=f"^entry point 'gone' .*: {said}; repair"):
        registry.codec_class("gone")


def test_importing_the_registry_loads_neither_torch_nor_a_compiler() -> None:
    code = (
        "import sys, slstream.codecs.chain as c\n"
        "c.CodecChain.from_config([{'id': 'raw32'}])\n"
        "sys.exit(' '.join({'torch', 'numba', 'zstandard'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
