"""The label party's way through a session: announce it, lead it, close it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from slstream.errors import SlstreamError
from slstream.party.context import PartyContext
from slstream.party.driver import LAST_WORD_S, Abandoned, Driver, printable_reason
from slstream.party.label_actions import LabelActions
from slstream.party.party_data import rows_of
from slstream.party.plan import plan_of
from slstream.party.summary import Summary
from slstream.protocol.label import label_session
from slstream.protocol.messages import Announce, Close

_logger = logging.getLogger(__name__)

Outcome = Literal["finished", "stopped early", "interrupted", "failed", "abandoned"]


async def lead(context: PartyContext) -> Summary:
    """Lead one session from its announcement to its end.

    Raises:
        Abandoned: another process of this party has begun a session of its own.
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

    async def watch() -> SlstreamError | None:
        await context.lobby.refresh()
        if context.lobby.closed(session) is None:
            return None
        return Abandoned(
            f"session {session} was closed by another process of {context.party.id}; run only one"
        )

    driver = Driver(context, session, peers, actions.perform, watch)
    await driver.open_links()
    try:
        # Once this is called the session may be known, whatever happens here.
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
        _logger.info("session announced", extra={"session": session, "peers": ",".join(peers)})
        outcome = await driver.drive(
            label_session(context.party.id, peers, plan_of(context.topology))
        )
    except Abandoned:
        raise
    except SlstreamError as error:
        await _close(context, session, "failed", error.reason_for_peers)
        raise
    except asyncio.CancelledError:
        await _close(context, session, "interrupted", "the label party was interrupted")
        raise
    except Exception as error:
        await _close(context, session, "failed", type(error).__name__)  # the text may quote data
        raise
    ended: Outcome = "finished" if outcome.stopped_early is None else "stopped early"
    await _close(context, session, ended, outcome.stopped_early or "")
    return context.summary(session, outcome, rows_of(driver.rows), driver.started_at)


async def _close(context: PartyContext, session: str, outcome: Outcome, reason: str) -> None:
    """Say in the lobby that a session is over, as far as that is possible in a bounded time."""
    close = Close(session=session, outcome=outcome, reason=printable_reason(reason))
    # wait_for, as a timeout context does not work in a task that is being cancelled.
    with suppress(SlstreamError, TimeoutError):
        await asyncio.wait_for(context.lobby.close(close), LAST_WORD_S)
