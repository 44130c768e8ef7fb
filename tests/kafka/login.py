"""How a test reaches a broker as a certain user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slstream.transport.kafka.settings import KafkaSettings
from tests.kafka.certificates import Certificates

__all__ = ["Login"]

_PREFIX = "SLSTREAM_KAFKA_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A broker's address, and what the environment of that user's process says."""

    url: str
    """``kafka://host:port,...``"""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def to(
        cls,
        addresses: str,
        listener: str = "PLAINTEXT",
        *,
        user: str | None = None,
        password: str | None = None,
        certificates: Certificates | None = None,
    ) -> Login:
        """As what a listener's security protocol wants to know.

        Args:
            addresses: ``host:port,host:port``.
            listener: The security protocol.
            user: Who; without it a TLS client shows no certificate.
            password: The user's, for SASL.
            certificates: The authority to trust, and the user's certificate for the SSL listener.
        """
        environment = {"SECURITY_PROTOCOL": listener}
        if listener.startswith("SASL"):
            environment |= {"USERNAME": user or "", "PASSWORD": password or ""}
        if listener.endswith("SSL") and certificates is not None:
            environment["CA_FILE"] = str(certificates.authority)
            if listener == "SSL" and user is not None:
                environment["CERTIFICATE_FILE"] = str(certificates.certificate(user))
                environment["KEY_FILE"] = str(certificates.key(user))
        return cls(
            url=f"kafka://{addresses}",
            environment={_PREFIX + name: value for name, value in environment.items()},
        )

    def settings(self) -> KafkaSettings:
        """For clients in the test itself: ``client_options()``, ``librdkafka_options()``."""
        return KafkaSettings.of(self.url, self.environment)
