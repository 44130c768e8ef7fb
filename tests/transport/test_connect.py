from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from slstream.errors import ConfigError, TransportError
from slstream.transport import connect
from slstream.transport.connect import check_url, embedded_url, open_transport
from slstream.transport.contract import Durability, Transport
from slstream.transport.embedded.transport import EmbeddedTransport
from tests.transport.logs import run


@pytest.mark.parametrize(
    "url",
    [
        "kafka://h?sasl.password=hunter2",
        "kafkas://bob:hunter2@h",
        "Kafka://bob:hunter2@h",
        "kafka://bob:hunter2@h",
        "embedded://bob:hunter2@h/x?y=hunter2",
    ],
)
def test_no_secret_of_a_url_is_repeated(url: str) -> None:
    async def body() -> None:
        with pytest.raises(ConfigError) as caught:
            await open_transport(url)
        assert "hunter2" not in str(caught.value)

    run(body())


@pytest.mark.parametrize("name", ["log", "with space", "100%?#x", "\u00fc\u4e2d", "a/b/c"])
def test_the_url_of_a_directory_opens_that_directory(tmp_path: Path, name: str) -> None:
    async def body() -> None:
        async with await open_transport(embedded_url(tmp_path / name)) as log:
            await log.create_topic("t")
        async with await EmbeddedTransport.open(tmp_path / name, read_only=True) as log:
            assert await log.topics() == ["t"]

    run(body())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("/just/a/path", "expected a URL"),
        ("embedded:relative/path", "absolute"),
        ("embedded://relative/path", "three slashes"),
        ("embedded://", "absolute"),
        ("embedded:///path?x=1", "%3F"),
        ("kafka://host:port", "host:9092"),
        ("kafkaesque://host", "embedded.*found 'kafkaesque'.*slstream.transports"),
    ],
)
def test_a_bad_url_is_explained(url: str, says: str) -> None:
    async def body() -> None:
        with pytest.raises(ConfigError, match=says):
            await open_transport(url)

    run(body())
    with pytest.raises(ConfigError, match=says):
        check_url(url)


def test_other_schemes_come_from_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = importlib.metadata.EntryPoint(
        name="mine", value="tests.transport.test_connect:open_mine", group="slstream.transports"
    )
    monkeypatch.setattr(
        connect,
        "entry_points",
        lambda group: importlib.metadata.EntryPoints([point] if group == point.group else []),
    )

    async def body() -> None:
        async with await open_transport(f"mine:{tmp_path}/log") as log:
            assert await log.topics() == []
        with pytest.raises(ConfigError, match="embedded, kafka, mine"):
            await open_transport("other:x")

    run(body())


async def open_mine(url: str, durability: Durability, read_only: bool) -> Transport:
    path = Path(url.removeprefix("mine:"))
    return await EmbeddedTransport.open(path, durability=durability, read_only=read_only)


def test_read_only_needs_a_log(tmp_path: Path) -> None:
    async def body() -> None:
        with pytest.raises(TransportError, match=r"no log in .*index\.sqlite"):
            await open_transport(embedded_url(tmp_path / "log"), read_only=True)
        assert not (tmp_path / "log").exists()

    run(body())
