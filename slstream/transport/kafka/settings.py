"""How a Kafka cluster is reached: addresses from the URL, security from the environment.

The URL names the cluster, and stands in topologies, which parties share. What proves who this
party is never stands there: it comes from the environment, or from files that it names.

    SLSTREAM_KAFKA_SECURITY_PROTOCOL   PLAINTEXT (default), SSL, SASL_PLAINTEXT, SASL_SSL
    SLSTREAM_KAFKA_SASL_MECHANISM      SCRAM-SHA-512 (default), SCRAM-SHA-256, PLAIN
    SLSTREAM_KAFKA_USERNAME
    SLSTREAM_KAFKA_PASSWORD            or SLSTREAM_KAFKA_PASSWORD_FILE
    SLSTREAM_KAFKA_CA_FILE             who signed the brokers' certificates; the system's, if unset
    SLSTREAM_KAFKA_CERTIFICATE_FILE    this party's, for mutual TLS
    SLSTREAM_KAFKA_KEY_FILE            of the certificate, when it is in a file of its own
    SLSTREAM_KAFKA_KEY_PASSWORD        or SLSTREAM_KAFKA_KEY_PASSWORD_FILE
"""

from __future__ import annotations

import logging
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from slstream.errors import ConfigError
from slstream.transport.shown import shown

_PREFIX = "SLSTREAM_KAFKA_"
_FORM = "kafka://host:9092,host2:9092[?replication_factor=3&min_insync_replicas=2]"
_ADDRESS = re.compile(
    r"(?P<host>[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_DEFAULT_PORT = 9092
_MOST_REPLICAS = 32_767
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """Everything that a client of the cluster needs to know. Its repr shows no secret."""

    addresses: tuple[str, ...]
    """``host:port`` of the brokers that are asked first."""
    replication_factor: int | None = None
    """Of new topics; ``None`` leaves it to the broker."""
    min_insync_replicas: int | None = None
    """Of new topics; ``None`` leaves it to the broker."""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str, environ: Mapping[str, str] = os.environ) -> Self:
        """Read a URL and the environment.

        Raises:
            ConfigError: either is not as described above. No secret is in the message.
        """
        addresses, replicas = _parse_url(url)
        settings = cls(addresses=addresses, **replicas, **_Environment(environ).security())
        if settings.uses_tls:
            settings.ssl_context()
        return settings

    @property
    def brokers(self) -> str:
        """The addresses, for messages."""
        return ",".join(self.addresses)

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol.endswith("SSL")

    def ssl_context(self) -> ssl.SSLContext:
        """Checks the brokers' certificates and names, and shows this party's own certificate.

        Raises:
            ConfigError: a certificate or key cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"{_PREFIX}CA_FILE: expected certificates in PEM form, found {self.ca_file} "
                f"({error})"
            ) from error
        if self.certificate_file is not None:
            # A key without its password would be asked for on the terminal.
            password = self.key_password or ""
            try:
                context.load_cert_chain(self.certificate_file, self.key_file, password)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"{_PREFIX}CERTIFICATE_FILE: expected a certificate in PEM form with its key "
                    f"(in {_PREFIX}KEY_FILE if that is another file) and the key's password, found "
                    f"{self.certificate_file} ({error})"
                ) from error
        return context

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments of aiokafka's producers, consumers and clients. Holds the password."""
        return {
            "bootstrap_servers": list(self.addresses),
            "security_protocol": self.security_protocol,
            "ssl_context": self.ssl_context() if self.uses_tls else None,
            "sasl_mechanism": self.sasl_mechanism or "PLAIN",
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.password,
        }

    def librdkafka_options(self) -> dict[str, str]:
        """Settings of confluent-kafka's clients. Holds the password."""
        options = {
            "bootstrap.servers": self.brokers,
            "security.protocol": self.security_protocol,
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password,
            "ssl.ca.location": self.ca_file,
            "ssl.certificate.location": self.certificate_file,
            # librdkafka does not look for the key in the certificate's file by itself.
            "ssl.key.location": self.key_file or self.certificate_file,
            "ssl.key.password": self.key_password,
        }
        return {name: str(value) for name, value in options.items() if value is not None}


def _parse_url(url: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    if "@" in url:
        raise ConfigError(
            f"transport: expected {_FORM} without a user or password; those come from the "
            f"environment ({_PREFIX}USERNAME, {_PREFIX}PASSWORD_FILE)"
        )
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"transport {shown(url)!r}: expected {_FORM} ({error})") from error
    if parts.scheme != "kafka" or parts.path or parts.fragment:
        raise ConfigError(f"transport {shown(url)!r}: expected {_FORM}")
    addresses = tuple(_parse_address(url, text) for text in parts.netloc.split(","))
    return addresses, _parse_query(url, parts.query)


def _parse_address(url: str, text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    port = int((match and match["port"]) or _DEFAULT_PORT)
    if match is None or not 0 < port < 65_536:
        raise ConfigError(
            f"transport {shown(url)!r}: expected addresses as in {_FORM}, found {shown(text)!r}"
        )
    return f"{match['host']}:{port}"


def _parse_query(url: str, query: str) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in ("replication_factor", "min_insync_replicas") or name in numbers:
            raise ConfigError(
                f"transport {shown(url)!r}: expected no setting but replication_factor and "
                f"min_insync_replicas, each once, found {name!r}"
            )
        if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= _MOST_REPLICAS:
            raise ConfigError(
                f"transport {shown(url)!r}: expected {name} in 1 to {_MOST_REPLICAS}, "
                f"found {text!r}"
            )
        numbers[name] = int(text)
    replicas, in_sync = numbers.get("replication_factor"), numbers.get("min_insync_replicas")
    if replicas is not None and in_sync is not None and in_sync > replicas:
        raise ConfigError(
            f"transport {shown(url)!r}: expected min_insync_replicas of at most the "
            f"replication_factor {replicas}, found {in_sync}: nothing could be written"
        )
    return numbers


class _Environment:
    """The variables above. One that is set to nothing counts as not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._values = {
            name.removeprefix(_PREFIX): value
            for name, value in environ.items()
            if name.startswith(_PREFIX) and value
        }

    def security(self) -> dict[str, Any]:
        """The fields of :class:`KafkaSettings` that come from here."""
        protocol = self._choice("SECURITY_PROTOCOL", _PROTOCOLS)
        found: dict[str, Any] = {"security_protocol": protocol}
        if protocol.startswith("SASL"):
            found["sasl_mechanism"] = self._choice("SASL_MECHANISM", _MECHANISMS)
            found["username"] = self._needed("USERNAME", protocol)
            found["password"] = self._secret("PASSWORD")
            if found["password"] is None:
                self._needed("PASSWORD", protocol)
        else:
            self._refuse(protocol, "SASL_MECHANISM", "USERNAME", "PASSWORD", "PASSWORD_FILE")
        if protocol.endswith("SSL"):
            for name in ("CA_FILE", "CERTIFICATE_FILE", "KEY_FILE"):
                found[name.lower()] = self._file(name)
            found["key_password"] = self._secret("KEY_PASSWORD")
            if found["certificate_file"] is None:
                self._refuse("no certificate", "KEY_FILE", "KEY_PASSWORD", "KEY_PASSWORD_FILE")
        else:
            self._refuse(protocol, "CA_FILE", "CERTIFICATE_FILE", "KEY_FILE")
            self._refuse(protocol, "KEY_PASSWORD", "KEY_PASSWORD_FILE")
        return found

    def _choice(self, name: str, known: tuple[str, ...]) -> str:
        value = self._values.get(name, known[0])
        if value not in known:
            raise ConfigError(
                f"{_PREFIX}{name}: expected one of {', '.join(known)}, found {value!r}"
            )
        return value

    def _needed(self, name: str, protocol: str) -> str:
        if name not in self._values:
            or_file = f" or {_PREFIX}{name}_FILE" if name == "PASSWORD" else ""
            raise ConfigError(
                f"{_PREFIX}SECURITY_PROTOCOL is {protocol}: expected {_PREFIX}{name}{or_file} to "
                "be set, found nothing"
            )
        return self._values[name]

    def _refuse(self, why: str, *names: str) -> None:
        """Somebody meant to be protected, and would not be."""
        for name in names:
            if name in self._values:
                raise ConfigError(
                    f"{_PREFIX}{name} is set and would not be used ({why}): expected a "
                    f"{_PREFIX}SECURITY_PROTOCOL and further settings that use it; otherwise "
                    "unset it"
                )

    def _file(self, name: str) -> Path | None:
        if name not in self._values:
            return None
        path = Path(self._values[name])
        if not path.is_file():
            raise ConfigError(f"{_PREFIX}{name}: expected a file, found none at {path}")
        return path

    def _secret(self, name: str) -> str | None:
        path = self._file(f"{name}_FILE")
        if path is None:
            return self._values.get(name)
        if name in self._values:
            raise ConfigError(
                f"expected one of {_PREFIX}{name} and {_PREFIX}{name}_FILE to be set, found both"
            )
        try:
            secret = path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
            others_may_read = bool(path.stat().st_mode & 0o044)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            # Not chained: the text of a decoding error holds what was read.
            raise ConfigError(f"{_PREFIX}{name}_FILE: {path} cannot be read: {reason}") from None
        if not secret:
            raise ConfigError(f"{_PREFIX}{name}_FILE: expected a password, {path} is empty")
        if others_may_read:
            _logger.warning(
                "a password file may be read by other users; chmod 600 it",
                extra={"path": str(path)},
            )
        return secret
