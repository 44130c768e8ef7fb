"""A broker to play with: ``make kafka`` and ``make demo-kafka``.

``python -m tests.kafka`` starts one and waits for Ctrl-C. ``python -m tests.kafka COMMAND ...``
runs a command on one, with its address in the place of ``{address}``, and ends with the command's
status; on the broker at ``SLSTREAM_KAFKA``, if that is set.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from tests.kafka import finding
from tests.kafka.jars import VERSION, NoKafkaError

_MANUAL = """\
Apache Kafka {version} serves at {address}. Ctrl-C stops it, and its data is gone then.
  {slstream} run topology/breast-cancer.yaml --set transport=kafka://{address}
  SLSTREAM_KAFKA={address} make test
"""


def main(command: Sequence[str]) -> int:
    """Serve until interrupted, or for as long as a command runs: the exit status."""
    # As on Ctrl-C: the broker is stopped on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        given = finding.given_address() if command else None
        if given is not None:
            return _run(command, given)
        with _serving() as address:
            if command:
                return _run(command, address)
            click.echo(_MANUAL.format(version=VERSION, address=address, slstream=_program()))
            signal.pause()
    except KeyboardInterrupt:
        pass
    except NoKafkaError as error:
        click.echo(f"no Kafka broker: {error}", err=True)
        return 1
    return 130 if command else 0


@contextmanager
def _serving() -> Iterator[str]:
    broker = finding.maker()()
    try:
        broker.start()
        yield broker.address
    finally:
        broker.close()


def _run(command: Sequence[str], address: str) -> int:
    process = subprocess.Popen([word.replace("{address}", address) for word in command])
    try:
        return process.wait()
    except KeyboardInterrupt:
        # The terminal has told the command, too: it ends in its own time.
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        return process.wait()


def _program() -> str:
    """As one calls it from here, also where the environment is not on the path."""
    return os.path.relpath(Path(sys.executable).parent / "slstream")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
