"""The label party's way through a session: announce it, lead it, close it."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from time import perf_counter
from typing import Literal

from slstream.errors import SlstreamError
from slstream.party.context import PartyContext
from slstream.party.driver import LAST_WORD_S, Driver
from slstream.party.label_actions import LabelActions
from slstream.party.party_data import rows_of
from slstream.party.plan import plan_of
from slstream.party.summary import Summary
from slstream.protocol.label import label_session
from slstream.protocol.messages import Announce, Close

Outcome = Literal["finished", "stopped early", "interrupted", "failed", "abandoned"]


async def lead(context: PartyContext) -> Summary:
    """Lead one session from its announcement to its end.

    Raises:
        SlstreamError: the session failed; it is closed in the lobby and the peers were told.
    """
    id_key = "" if context.shared_key is not None else secrets.token_hex(16)
    peers = [party.id for party in context.topology.feature_parties]
    actions = LabelActions(
        context.party,
        context.topology,
        compute=context.compute,
        negotiation=context.negotiation,
        id_key=context.shared_key or bytes.fromhex(id_key),
        directory=context.directory,
        on_loss=lambda epoch, step, loss: context.reporter.update(
            epoch=epoch, step=step, loss=loss
        ),
    )
    await actions.load()
    for stale in context.lobby.unfinished:
        await _close(context, stale.session, "abandoned", "its label party started anew")

    session = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    driver = Driver(context, session, peers, actions.perform)
    await driver.open_links()
    started_at = perf_counter()
    await context.lobby.announce(
        Announce(
            session=session,
            federation=context.topology.federation,
            label_party=context.party.id,
            agreed=context.topology.agreed(),
            digest=context.topology.digest(),
            id_key=id_key,
            environment=context.environment,
        )
    )
    try:
        outcome = await driver.drive(
            label_session(context.party.id, peers, plan_of(context.topology))
        )
    except SlstreamError as error:
        await _close(context, session, "failed", error.reason_for_peers)
        raise
    except asyncio.CancelledError:
        await _close(context, session, "interrupted", "the label party was interrupted")
        raise
    ended: Outcome = "finished" if outcome.stopped_early is None else "stopped early"
    await _close(context, session, ended, outcome.stopped_early or "")
    return context.summary(session, outcome, rows_of(driver.rows), started_at)


async def _close(context: PartyContext, session: str, outcome: Outcome, reason: str) -> None:
    """Say in the lobby that a session is over, as far as that is possible in a bounded time."""
    with suppress(SlstreamError, TimeoutError):
        async with asyncio.timeout(LAST_WORD_S):
            await context.lobby.close(Close(session=session, outcome=outcome, reason=reason[:1000]))
