"""Which broker the tests get: yours, one in a container, one as a process, or none.

In this order: ``SLSTREAM_KAFKA=host:port``, a Docker engine, Java and Maven.

``python -m tests.kafka.finding`` says which, and fetches a broker's jars ahead of the tests, none
of which then needs the time for that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import NoReturn

import click
import pytest

from tests.kafka import docker, jars
from tests.kafka.broker import Broker, ProcessBroker
from tests.kafka.class_archive import quick_jars
from tests.kafka.jars import NoKafkaError

__all__ = ["given_address", "in_ci", "maker", "no_kafka", "process_jars"]

_GIVEN = "SLSTREAM_KAFKA"


def given_address() -> str | None:
    """The broker that somebody runs for the tests, as ``host:port``.

    Raises:
        ValueError: The variable holds something else.
    """
    address = os.environ.get(_GIVEN, "")
    if not address:
        return None
    if not re.fullmatch(r"[^\s,:/@]+:\d{1,5}", address):
        raise ValueError(f"expected {_GIVEN}=host:port of a broker, found {address!r}: correct it")
    return address


def maker() -> Callable[[], Broker]:
    """What makes a plain broker of our own: a container if there is an engine, else a process.

    Raises:
        NoKafkaError: Neither can be had; the text says how to get either.
    """
    no_docker = docker.why_not()
    if no_docker is None:
        return docker.ContainerBroker
    try:
        found = process_jars()
    except NoKafkaError as error:
        raise NoKafkaError(f"no Docker engine ({no_docker}); no Java and Maven: {error}") from error
    return lambda: ProcessBroker(found)


def process_jars(version: str = jars.VERSION) -> jars.KafkaJars:
    """What a broker as a process is made of, where nothing else will do.

    Raises:
        NoKafkaError: Java or Maven is missing, or the download failed.
    """
    if reason := jars.why_not(version):
        raise NoKafkaError(reason)
    return quick_jars(version)


def no_kafka(reason: object) -> NoReturn:
    """Skip this test; or fail it where CI says that nothing may be left out."""
    message = (
        f"no Kafka broker for this test: {reason}\n"
        f"Get one by any of: {_GIVEN}=host:port of a broker that you run (not for tests that kill "
        f"or configure theirs); a Docker engine; Java 17 or newer with Maven."
    )
    if in_ci():
        pytest.fail(f"{message}\nWith CI set, a test without a broker fails.", pytrace=False)
    pytest.skip(message)


def in_ci() -> bool:
    """Whether ``CI`` is set and does not say no."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _told() -> str:
    try:
        jars = process_jars()
    except NoKafkaError as error:
        process = f"none, and the tests that need one are left out: {error}"
    else:
        process = f"Apache Kafka {jars.version} ({jars.folder})"
    shared = given_address() or ("a container" if docker.why_not() is None else process)
    return f"Kafka of the tests: {shared}\nKafka of the tests that kill or configure it: {process}"


if __name__ == "__main__":
    click.echo(_told())
