"""Trainings whose connections are cut in the midst of a record, and appends that arrive late."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import pytest

from slstream.transport.contract import Record
from slstream.transport.kafka.transport import STUCK_S, KafkaTransport
from tests.integration.faults import Fault, kind_of, step_of
from tests.kafka.broker import ProcessBroker
from tests.kafka.handles import ProxiedKafka, StartKafka
from tests.kafka.login import Login
from tests.kafka.proxy import Proxy
from tests.kafka_training.disabled import Without, without
from tests.kafka_training.training import (
    GROWTH_MIB,
    PARTIES,
    PATIENCE_S,
    Learned,
    Memory,
    measured,
    place_of,
    training,
)
from tests.replacing import replace_attribute

pytest_plugins = ["tests.kafka.fixtures"]

pytestmark = pytest.mark.timeout(300)

IN_A_RECORD = 15_000
"""Bytes of one connection. What is not an activation, whose 20 kB bob sends up and alice fetches,
has some hundreds."""


def was_cut(proxy: Proxy) -> bool:
    try:
        proxy.wait_until_cut(1)
    except TimeoutError:
        return False
    return True


def train_with_cuts(
    kafka: ProxiedKafka, folder: Path, cuts: int, disabled: Fault | None = None
) -> Learned:
    """Cut connections in mid-send and in mid-fetch, by turns."""
    with training(folder, Login.to(kafka.address), disabled=disabled) as made:
        made.start()
        made.reach(20)
        before = Memory.of(made)
        for _ in range(cuts):
            for direction in ("up", "down"):
                kafka.proxy.cut_after(IN_A_RECORD, direction)
                while made.is_training and not was_cut(kafka.proxy):
                    pass
                assert made.is_training, made.said()
        grown = before.growth(made)
        measured(f"{cuts} cuts each way: memory grew by {grown} MiB")
        assert max(grown.values()) < GROWTH_MIB
        for name in PARTIES:
            lost = made.party(name).text.count("broker lost")
            measured(f"{name} lost the broker {lost} times")
            assert lost >= 1
        return made.finish()


def test_connections_that_are_cut(
    proxied_kafka: ProxiedKafka, tmp_path: Path, expected: Learned
) -> None:
    assert train_with_cuts(proxied_kafka, tmp_path, 4) == expected


@pytest.mark.long
def test_without_a_retry_a_cut_ends_the_training(
    proxied_kafka: ProxiedKafka, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="the connection was cut"):
        train_with_cuts(proxied_kafka, tmp_path, 1, without("retry"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeBroker:
    """Bob freezes the broker right before he sends an activation, which is then on its way."""

    broker: int
    """Its process."""
    step: str
    stuck_s: float = STUCK_S
    """For how long bob tries from then on."""
    also: Without | None = None
    """What he lacks."""

    def install(self) -> None:
        """Arm it in this process."""
        if self.also is not None:
            self.also.install()
        original, fault, armed = KafkaTransport.append, self, [True]

        async def append(
            log: KafkaTransport, topic: str, records: Sequence[Record], *, partition: int = 0
        ) -> int:
            at = (kind_of(records[0]), step_of(records[0]))
            if armed and at == ("activation", fault.step):
                armed.clear()
                log._cluster.stuck_s = fault.stuck_s
                os.kill(fault.broker, signal.SIGSTOP)
            return await original(log, topic, records, partition=partition)

        replace_attribute(KafkaTransport, "append", append)


STEP = 55


def wait_until_frozen(broker: ProcessBroker) -> None:
    stat, deadline = Path(f"/proc/{broker.pid}/stat"), monotonic() + PATIENCE_S
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        assert monotonic() < deadline, "nobody has frozen the broker"
        sleep(0.01)


def train_given_up(
    broker: ProcessBroker, folder: Path, *, early: bool, disabled: Without | None = None
) -> Learned:
    """Bob gives up a send that is delivered after all; a new process goes on.

    Args:
        broker: freezes meanwhile.
        folder: for the files.
        early: start the new process before that.
        disabled: what the new process lacks.
    """
    login = Login.to(broker.address)
    with training(folder, login) as made:
        made.start("alice")
        made.start("bob", fault=FreezeBroker(broker=broker.pid, step=place_of(STEP), stuck_s=1))
        wait_until_frozen(broker)
        said = made.end_of("bob", 20)
        # Whichever of the two he misses first: an answer to what he sends, or to what he waits for.
        assert re.match(
            r"cannot (send activation of epoch 6, step 5 to alice \(topic small\.bob-"
            r"|read from alice \(topic small\.alice-)",
            said,
        )
        assert "See whether the broker runs and can be reached from here" in said
        if early:
            made.start("bob", fault=disabled)
            made.party("bob").wait_for("broker lost")
        broker.thaw()
        if not early:
            # It arrives, although nobody waits for the answer any more.
            made.watcher.wait_for(place_of(STEP), lambda: None)
            made.start("bob", fault=disabled)
        return made.finish()


@pytest.mark.parametrize(
    "early",
    [
        pytest.param(False, id="restarted-after", marks=pytest.mark.long),
        pytest.param(True, id="restarted-before", marks=pytest.mark.long),
    ],
)
def test_a_send_that_was_given_up_and_arrived(
    early: bool, start_kafka: StartKafka, tmp_path: Path, expected: Learned
) -> None:
    assert train_given_up(start_kafka(), tmp_path, early=early) == expected


@pytest.mark.long
def test_without_looking_at_the_own_link_it_is_sent_twice(
    start_kafka: StartKafka, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=r"Seen.*duplicates"):
        train_given_up(start_kafka(), tmp_path, early=False, disabled=without("suppression"))


def train_sent_again(broker: ProcessBroker, folder: Path, disabled: Without) -> Learned:
    """Bob sends the same bytes again and again while the broker is frozen, and it takes them all.

    Args:
        broker: freezes meanwhile.
        folder: for the files.
        disabled: what all parties lack; at least their usual time for an answer.
    """
    with training(folder, Login.to(broker.address), disabled=disabled) as made:
        fault = FreezeBroker(broker=broker.pid, step=place_of(STEP), also=disabled)
        made.start("alice")
        made.start("bob", fault=fault)
        wait_until_frozen(broker)
        made.party("bob").wait_for("no answer, and no part of one, within 1 s")
        sleep(2.5)  # He asks again meanwhile, and says no more.
        broker.thaw()
        return made.finish()


@pytest.mark.long
def test_a_send_that_is_made_again_and_arrives_twice(
    start_kafka: StartKafka, tmp_path: Path, expected: Learned
) -> None:
    assert train_sent_again(start_kafka(), tmp_path, without("hurry")) == expected


@pytest.mark.long
def test_without_identity_the_log_has_it_twice_and_readers_take_one(
    start_kafka: StartKafka, tmp_path: Path, expected: Learned
) -> None:
    with pytest.raises(AssertionError, match=r"Seen.*duplicates"):
        train_sent_again(start_kafka(), tmp_path, without("identity"))
    assert Learned.of(tmp_path / "run") == expected


@pytest.mark.long
def test_without_the_check_for_duplicates_it_is_taken_twice(
    start_kafka: StartKafka, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="bob sent activation of epoch 6, step 5; expected"):
        train_sent_again(start_kafka(), tmp_path, without("identity", "duplicate_check"))
