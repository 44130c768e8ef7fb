"""From a URL to a transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast
from urllib.parse import quote, unquote, urlsplit

from slstream.errors import ConfigError
from slstream.transport.contract import Durability, Transport
from slstream.transport.embedded.transport import EmbeddedTransport
from slstream.transport.kafka.settings import KafkaSettings
from slstream.transport.kafka.transport import KafkaTransport
from slstream.transport.shown import shown

OpenTransport = Callable[[str, Durability, bool], Awaitable[Transport]]
"""Opens ``(url, durability, read_only)``; what an entry point of group ``slstream.transports``
names. The entry point's name is the URL scheme."""

ENTRY_POINT_GROUP = "slstream.transports"
_OWN_SCHEMES = frozenset({"embedded", "kafka"})


async def open_transport(
    url: str,
    *,
    durability: Durability = Durability.CHECKPOINT,
    read_only: bool = False,
    client: str = "slstream",
) -> Transport:
    """Open the log that ``url`` names, in this process and on the running event loop.

    Args:
        url: ``embedded:///absolute/path`` for the log in that directory, which is created when it
            is missing; ``kafka://host:port,host:port`` for the log on a Kafka cluster (see
            :mod:`slstream.transport.kafka.settings`, also for how this process proves who it is);
            other schemes come from entry points of group ``slstream.transports``.
        durability: when an append counts as sent.
        read_only: refuse to change anything; the log must exist. For monitors and auditors.
        client: a name for this process in a broker's own logs and quotas.

    Raises:
        ConfigError: the URL is malformed or its scheme is not known.
        TransportError: the log cannot be opened.
    """
    scheme = _scheme(url)
    if scheme == "embedded":
        path = _embedded_path(url)
        return await EmbeddedTransport.open(path, durability=durability, read_only=read_only)
    if scheme == "kafka":
        settings = KafkaSettings.of(url)
        return await KafkaTransport.open(
            settings, durability=durability, read_only=read_only, client=client
        )
    opener = cast("OpenTransport", entry_points(group=ENTRY_POINT_GROUP)[scheme].load())
    return await opener(url, durability, read_only)


def check_url(url: str) -> None:
    """Do what :func:`open_transport` does before it opens anything.

    Raises:
        ConfigError: the URL is malformed or its scheme is not known.
    """
    scheme = _scheme(url)
    if scheme == "embedded":
        _embedded_path(url)
    elif scheme == "kafka":
        KafkaSettings.of(url)


def _scheme(url: str) -> str:
    scheme, separator, _ = url.partition(":")
    if not separator:
        raise ConfigError(
            f"transport: expected a URL such as embedded:///absolute/path, found {shown(url)!r}"
        )
    if scheme in _OWN_SCHEMES:  # Without a look at all installed packages, which takes a while.
        return scheme
    others = entry_points(group=ENTRY_POINT_GROUP).names
    if scheme not in others:
        known = ", ".join(sorted(_OWN_SCHEMES | others))
        raise ConfigError(
            f"transport {shown(url)!r}: expected one of the schemes {known}, found {scheme!r}; "
            f"another scheme needs a package with an entry point in group {ENTRY_POINT_GROUP!r}"
        )
    return scheme


def embedded_url(path: Path) -> str:
    """The URL of the embedded log in a directory; inverse of what :func:`open_transport` parses."""
    return f"embedded://{quote(str(path.absolute()))}"


def _embedded_path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise ConfigError(
            f"transport {shown(url)!r}: expected embedded:///absolute/path (three slashes: no "
            f"host, an absolute path; '?' and '#' in a path are written %3F and %23)"
        )
    return Path(unquote(parts.path))
