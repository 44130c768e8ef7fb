from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trustme

from slstream.errors import ConfigError
from slstream.transport.kafka.settings import KafkaSettings

SECRET = "correct horse battery"
SASL = {
    "SLSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "SLSTREAM_KAFKA_USERNAME": "bob",
    "SLSTREAM_KAFKA_PASSWORD": SECRET,
}


def test_the_url_alone_means_plain_text_and_the_brokers_defaults() -> None:
    settings = KafkaSettings.of("kafka://one,two.example:19092,[::1]:9093", {})
    assert settings.addresses == ("one:9092", "two.example:19092", "[::1]:9093")
    assert settings.brokers == "one:9092,two.example:19092,[::1]:9093"
    assert (settings.replication_factor, settings.min_insync_replicas) == (None, None)
    assert settings.client_options()["bootstrap_servers"] == list(settings.addresses)
    assert settings.librdkafka_options() == {
        "bootstrap.servers": settings.brokers,
        "security.protocol": "PLAINTEXT",
    }


def test_replicas_come_from_the_url() -> None:
    settings = KafkaSettings.of("kafka://one?replication_factor=3&min_insync_replicas=2", {})
    assert (settings.replication_factor, settings.min_insync_replicas) == (3, 2)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kafka://", "expected addresses"),
        ("kafka:one:9092", "expected kafka://host"),
        ("kafka://one,,two", "found ''"),
        ("kafka://one:0", "found 'one:0'"),
        ("kafka://one:65536", "found 'one:65536'"),
        ("kafka://one two", "found 'one two'"),
        ("kafka://one..two", "found 'one..two'"),
        (f"kafka://{'a' * 64}.org", "found 'aaa"),
        ("kafka://[::1", "expected kafka://host"),
        ("kafka://one/topic", "expected kafka://host"),
        ("kafka://one#x", "expected kafka://host"),
        ("kafka://one?acks=1", "replication_factor and min_insync_replicas.*found 'acks'"),
        ("kafka://one?replication_factor=1&replication_factor=2", "each once"),
        ("kafka://one?replication_factor=0", "in 1 to 32767, found '0'"),
        ("kafka://one?min_insync_replicas=", "in 1 to 32767, found ''"),
        ("kafka://one?replication_factor=2&min_insync_replicas=3", "nothing could be written"),
    ],
)
def test_a_bad_url_is_explained(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        KafkaSettings.of(url, {})


@pytest.mark.parametrize("url", [f"kafka://bob:{SECRET}@one", f"kafka://one?x={SECRET}@"])
def test_a_password_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="SLSTREAM_KAFKA_PASSWORD_FILE") as caught:
        KafkaSettings.of(url, {})
    assert SECRET not in str(caught.value)


def test_credentials_come_from_the_environment() -> None:
    settings = KafkaSettings.of("kafka://one", SASL)
    options = settings.client_options()
    assert options["security_protocol"] == "SASL_PLAINTEXT"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("bob", SECRET)
    assert settings.librdkafka_options() == {
        "bootstrap.servers": "one:9092",
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "bob",
        "sasl.password": SECRET,
    }


def test_no_secret_is_shown() -> None:
    settings = KafkaSettings.of("kafka://one", SASL)
    assert SECRET not in f"{settings!r} {settings}"
    assert "bob" in repr(settings)


def test_a_password_is_read_from_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    environ = {**SASL, "SLSTREAM_KAFKA_PASSWORD": "", "SLSTREAM_KAFKA_PASSWORD_FILE": str(path)}
    assert KafkaSettings.of("kafka://one", environ).password == SECRET
    assert not caplog.records
    path.chmod(0o640)
    with caplog.at_level(logging.WARNING):
        assert KafkaSettings.of("kafka://one", environ).password == SECRET
    assert "may be read by other users" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_bad_password_file_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    environ = {**SASL, "SLSTREAM_KAFKA_PASSWORD": "", "SLSTREAM_KAFKA_PASSWORD_FILE": str(path)}
    with pytest.raises(ConfigError, match=r"PASSWORD_FILE.*(empty|UTF-8)") as caught:
        KafkaSettings.of("kafka://one", environ)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"SECURITY_PROTOCOL": "TLS"}, "PLAINTEXT, SSL, .*found 'TLS'"),
        ({**SASL, "SASL_MECHANISM": "GSSAPI"}, "SCRAM-SHA-512, .*found 'GSSAPI'"),
        ({**SASL, "USERNAME": ""}, "USERNAME to be set"),
        ({**SASL, "PASSWORD": ""}, "PASSWORD or SLSTREAM_KAFKA_PASSWORD_FILE to be set"),
        ({**SASL, "PASSWORD_FILE": "/none"}, "expected a file, found none at /none"),
        ({**SASL, "PASSWORD_FILE": __file__}, "expected one of .* found both"),
        ({**SASL, "SECURITY_PROTOCOL": ""}, "USERNAME is set and would not be used"),
        ({**SASL, "CA_FILE": __file__}, "CA_FILE is set and would not be used"),
        ({"SECURITY_PROTOCOL": "SSL", "CA_FILE": "/none"}, "CA_FILE: expected a file"),
        ({"SECURITY_PROTOCOL": "SSL", "CA_FILE": __file__}, "certificates in PEM form"),
        ({"SECURITY_PROTOCOL": "SSL", "KEY_FILE": __file__}, "would not be used .no certificate"),
        ({"SECURITY_PROTOCOL": "SSL", "CERTIFICATE_FILE": __file__}, "certificate in PEM form"),
    ],
)
def test_a_bad_environment_is_explained(environ: dict[str, str], says: str) -> None:
    full = {f"SLSTREAM_KAFKA_{n.removeprefix('SLSTREAM_KAFKA_')}": v for n, v in environ.items()}
    with pytest.raises(ConfigError, match=says) as caught:
        KafkaSettings.of("kafka://one", full)
    assert SECRET not in str(caught.value)


def test_mutual_tls_from_files(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = authority.issue_cert("bob.example")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "bob.pem")
    settings = KafkaSettings.of(
        "kafka://one",
        {
            "SLSTREAM_KAFKA_SECURITY_PROTOCOL": "SSL",
            "SLSTREAM_KAFKA_CA_FILE": str(tmp_path / "ca.pem"),
            "SLSTREAM_KAFKA_CERTIFICATE_FILE": str(tmp_path / "bob.pem"),
        },
    )
    context = settings.client_options()["ssl_context"]
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1
    options = settings.librdkafka_options()
    assert options["ssl.ca.location"] == str(tmp_path / "ca.pem")
    assert options["ssl.key.location"] == options["ssl.certificate.location"]
