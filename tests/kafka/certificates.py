"""A certificate authority for the tests: a server's certificate, and one per user."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.kafka.ports import LOCALHOST

__all__ = ["Certificates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """PEM files in a folder.

    A user's certificate has the user's name as its common name, which is the name that brokers of
    these tests know the user by.
    """

    folder: Path

    @classmethod
    def issue(cls, folder: Path, users: Iterable[str]) -> Certificates:
        """Make an authority and write its certificate, the server's and the users'.

        The authority's key is kept nowhere: who is not among the users never gets a certificate.
        """
        folder.mkdir(parents=True, exist_ok=True)
        issued = cls(folder=folder)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(issued.authority))
        server = authority.issue_cert("localhost", LOCALHOST)
        issued.server.write_bytes(_key(server) + _chain(server))
        for user in users:
            client = authority.issue_cert(f"{user}@tests.invalid", common_name=user)
            issued.certificate(user).write_bytes(_chain(client))
            issued.key(user).touch(mode=0o600)
            issued.key(user).write_bytes(_key(client))
        return issued

    @property
    def authority(self) -> Path:
        """What a client trusts."""
        return self.folder / "ca.pem"

    @property
    def server(self) -> Path:
        """The server's key and certificates, in one file as a broker wants them."""
        return self.folder / "server.pem"

    def certificate(self, user: str) -> Path:
        """A user's certificates."""
        return self.folder / f"{user}.crt.pem"

    def key(self, user: str) -> Path:
        """The key to a user's certificate, readable by its owner alone, not encrypted."""
        return self.folder / f"{user}.key.pem"


def _key(certificate: trustme.LeafCert) -> bytes:
    # Java reads PKCS 8 only; trustme writes the older form.
    key = load_pem_private_key(certificate.private_key_pem.bytes(), password=None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _chain(certificate: trustme.LeafCert) -> bytes:
    return b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
