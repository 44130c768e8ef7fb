"""Parties as users of a broker, and what its operator does for and to them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

from click.testing import CliRunner

from slstream.cli.exit_code import ExitCode
from slstream.cli.program import program
from tests.integration.faults import Fault
from tests.kafka.login import Login
from tests.kafka.settings import ADMIN
from tests.kafka_training.training import PARTIES, Training, training

__all__ = ["Users"]

_LISTENER = "SASL_PLAINTEXT"


class Users:
    """Alice and bob, and the operator's tools."""

    PASSWORDS: ClassVar = {
        ADMIN: "the-operators-word",
        "alice": "the-word-of-alice",
        "bob": "the-word-of-bob",
    }

    def __init__(self, address: str) -> None:
        self.passwords = dict(self.PASSWORDS)
        self._address = address

    def login(self, user: str = ADMIN) -> Login:
        return Login.to(self._address, _LISTENER, user=user, password=self.passwords[user])

    def training(
        self, folder: Path, *, query: str = "", disabled: Fault | None = None
    ) -> AbstractContextManager[Training]:
        """One in which each party is the user of its name."""
        return training(
            folder,
            self.login(),
            transport=self.login().url + query,
            environment={name: self.login(name).environment for name in PARTIES},
            disabled=disabled,
        )

    def apply(self, topology: Path) -> None:
        """What an operator types, and what tells them that nothing is left to do."""
        for verb in ("apply", "diff"):
            done = CliRunner().invoke(
                program(),
                ["topology", verb, str(topology), "--wait", "20"],
                env=dict(self.login().environment),
                standalone_mode=False,
                catch_exceptions=False,
            )
            assert done.return_value is ExitCode.OK, done.output
