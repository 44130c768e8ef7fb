"""In which order a broker is looked for, and what is said when there is none."""

from __future__ import annotations

import pytest

from tests.kafka import docker, finding, jars
from tests.kafka.broker import ProcessBroker
from tests.kafka.jars import KafkaJars, NoKafkaError

_ALL_WAYS = ("SLSTREAM_KAFKA=host:port", "Docker engine", "Java 17 or newer with Maven")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One in which nothing can be had; the process's own is as before."""
    for name in ("SLSTREAM_KAFKA", "SLSTREAM_KAFKA_JARS", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(docker, "why_not", lambda: "no engine")
    monkeypatch.setattr(jars, "why_not", lambda _version: "no java")
    return monkeypatch


def test_given_address_is_used(environment: pytest.MonkeyPatch) -> None:
    assert finding.given_address() is None
    environment.setenv("SLSTREAM_KAFKA", "broker.example:9092")
    assert finding.given_address() == "broker.example:9092"


@pytest.mark.parametrize("text", ["broker", "kafka://broker:9092", "a:b@broker:9092", "a:1,b:2"])
def test_given_address_is_checked(environment: pytest.MonkeyPatch, text: str) -> None:
    environment.setenv("SLSTREAM_KAFKA", text)
    with pytest.raises(ValueError, match="expected SLSTREAM_KAFKA=host:port"):
        finding.given_address()


def test_container_comes_before_process(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(docker, "why_not", lambda: None)
    environment.setattr(jars, "why_not", lambda _version: None)
    assert finding.maker() is docker.ContainerBroker


def test_process_comes_without_an_engine(
    environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = KafkaJars(
        version="4", folder=tmp_path_factory.mktemp("jars"), java="java", java_version="17"
    )
    environment.setattr(jars, "why_not", lambda _version: None)
    environment.setattr(finding, "quick_jars", lambda _version: found)
    broker = finding.maker()()
    assert isinstance(broker, ProcessBroker)
    assert broker.jars is found
    broker.close()


def test_none_is_an_error_that_names_both_reasons() -> None:
    with pytest.raises(NoKafkaError, match=r"no Docker engine \(no engine\).*no java"):
        finding.maker()


def test_none_skips_and_tells_how_to_get_one() -> None:
    with pytest.raises(pytest.skip.Exception) as caught:
        finding.no_kafka("this and that")
    assert "this and that" in str(caught.value)
    for way in _ALL_WAYS:
        assert way in str(caught.value)


@pytest.mark.parametrize("value", ["true", "1", "yes"])
def test_none_fails_in_ci(environment: pytest.MonkeyPatch, value: str) -> None:
    environment.setenv("CI", value)
    with pytest.raises(pytest.fail.Exception, match="With CI set") as caught:
        finding.no_kafka("this and that")
    for way in _ALL_WAYS:
        assert way in str(caught.value)


@pytest.mark.parametrize("value", ["", "false", "0"])
def test_ci_may_say_no(environment: pytest.MonkeyPatch, value: str) -> None:
    environment.setenv("CI", value)
    with pytest.raises(pytest.skip.Exception):
        finding.no_kafka("this and that")
