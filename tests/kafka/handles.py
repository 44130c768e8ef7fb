"""What fixtures hand to tests; apart, as pytest wants to be the first to import a plugin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tests.kafka.broker import ProcessBroker
from tests.kafka.jars import VERSION
from tests.kafka.proxy import Proxy
from tests.kafka.settings import BrokerSettings

__all__ = ["ProxiedKafka", "StartKafka"]


class StartKafka(Protocol):
    """Start a broker as a process, which is gone after the test."""

    def __call__(
        self,
        settings: BrokerSettings | None = None,
        *,
        advertised_port: int | None = None,
        version: str = VERSION,
    ) -> ProcessBroker:
        """It serves clients when this returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxiedKafka:
    """A broker whose clients can reach it through a proxy only."""

    broker: ProcessBroker
    proxy: Proxy

    @property
    def address(self) -> str:
        """What clients dial: ``host:port``."""
        return self.proxy.address
