"""Jars with an archive of the classes that a broker loads, which halves the time of its start."""

from __future__ import annotations

import logging
import os

from tests.kafka.broker import BrokerFailedError, ProcessBroker
from tests.kafka.jars import VERSION, KafkaJars, alone, obtain

__all__ = ["quick_jars"]

_logger = logging.getLogger(__name__)


def quick_jars(version: str = VERSION) -> KafkaJars:
    """The jars of a version; the first call for them runs a broker to see what it loads.

    Where the archive cannot be made, a broker starts without: that costs a second a start.

    Raises:
        NoKafkaError: As `obtain`.
    """
    jars = obtain(version)
    if not jars.class_archive.exists():
        try:
            with alone(jars.class_archive.with_suffix(".lock")):
                if not jars.class_archive.exists():
                    _train(jars)
        except (OSError, BrokerFailedError) as error:
            _logger.warning("no archive of classes", extra={"reason": str(error)})
    return jars


def _train(jars: KafkaJars) -> None:
    made = jars.class_archive.with_suffix(".new")
    broker = ProcessBroker(jars, jvm=[f"-XX:ArchiveClassesAtExit={made}"])
    try:
        broker.start()
        broker.stop()  # in order, or nothing is written
        os.replace(made, jars.class_archive)
    finally:
        broker.close()
        made.unlink(missing_ok=True)
