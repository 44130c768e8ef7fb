"""The label party's way through a session: announce or go on with it, drive it, close it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from slstream.errors import SlstreamError, TopologyError
from slstream.party.context import PartyContext
from slstream.party.driver import LAST_WORD_S, Abandoned, Driver, printable_reason
from slstream.party.label_actions import LabelActions
from slstream.party.lobby import continues
from slstream.party.party_data import rows_of
from slstream.party.plan import plan_of
from slstream.party.summary import Summary
from slstream.protocol.label import label_session
from slstream.protocol.messages import Announce, Close, Resume

Outcome = Literal["finished", "stopped early", "failed", "abandoned"]

_logger = logging.getLogger(__name__)


async def lead(context: PartyContext) -> Summary:
    """Go on with this party's unfinished session, or begin one, and lead it to its end.

    Raises:
        TopologyError: there is an unfinished session of another topology; names what differs.
        Abandoned: another process of this party has begun a session of its own.
        SlstreamError: when it ends the session, that is closed in the lobby and the peers were
            told; otherwise the session goes on as soon as the party is started again.
    """
    resumed = _to_resume(context)
    announce = resumed or _new_session(context)
    peers = [party.id for party in context.topology.feature_parties]
    actions = LabelActions(
        context.party,
        context.topology,
        compute=context.compute,
        negotiation=context.negotiation,
        id_key=context.shared_key or bytes.fromhex(announce.id_key),
        files=context.files,
        on_loss=lambda epoch, step, loss: context.reporter.update(
            epoch=epoch, step=step, loss=loss
        ),
    )
    await actions.load()
    session = announce.session

    async def watch() -> SlstreamError | None:
        await context.lobby.refresh()
        if context.lobby.closed(session) is None:
            return None
        return Abandoned(
            f"session {session} was closed by another process of {context.party.id}; run only one"
        )

    driver = Driver(context, session, peers, actions, watch)
    try:
        # Once this is called the session may be known, whatever happens here.
        if resumed is None:
            # Before its links are opened: when they cannot be, it is this session that goes on.
            await context.lobby.tell(announce)
            await driver.open_links()
        else:
            await driver.open_links()
            number = context.incarnation.number
            await context.lobby.tell(Resume(session=session, incarnation=number))
        said = "session announced" if resumed is None else "session resumed"
        _logger.info(said, extra={"session": session, "peers": ",".join(peers)})
        # Not before: until then an older process of this party can still announce one.
        await context.lobby.refresh()
        for stale in context.lobby.unfinished:
            if stale.session != session:
                await _close(context, stale.session, "abandoned", "its label party started anew")
        outcome = await driver.drive(
            label_session(context.party.id, peers, plan_of(context.topology))
        )
    except Abandoned:
        raise
    except SlstreamError as error:
        if driver.ends_with(error):
            await _close(context, session, "failed", error.reason_for_peers)
        raise
    except Exception as error:
        if driver.ends_with(error):
            # Its text may quote data.
            await _close(context, session, "failed", type(error).__name__)
        raise
    # Before the session is closed: who finds it closed need not come back to it.
    summary = await context.finish(session, outcome, rows_of(driver.rows), driver.started_at)
    ended: Outcome = "finished" if outcome.stopped_early is None else "stopped early"
    await _close(context, session, ended, outcome.stopped_early or "")
    return summary


def _to_resume(context: PartyContext) -> Announce | None:
    """The newest unfinished session, unless a new one is asked for.

    Raises:
        TopologyError: this process cannot go on with it. It is not given up unasked: a wrong
            option at a restart must not cost a night's training.
    """
    if context.begin_new or not context.lobby.unfinished:
        return None
    announce = context.lobby.unfinished[-1]
    if continues(announce, context.topology):
        return announce
    differences = context.topology.differences_in_words(announce.agreed)
    raise TopologyError(
        f"session {announce.session} is unfinished and was begun with another topology: "
        f"{differences or 'one of the two uses alignment.key_file'}. Start with that topology to "
        "go on with it, or with --new to give it up"
    )


def _new_session(context: PartyContext) -> Announce:
    return Announce(
        session=f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
        federation=context.topology.federation,
        label_party=context.party.id,
        agreed=context.topology.agreed(),
        digest=context.topology.digest(),
        id_key="" if context.shared_key is not None else secrets.token_hex(16),
        environment=context.environment,
        incarnation=context.incarnation.number,
    )


async def _close(context: PartyContext, session: str, outcome: Outcome, reason: str) -> None:
    """Say in the lobby that a session is over, as far as that is possible in a bounded time."""
    close = Close(
        session=session,
        outcome=outcome,
        reason=printable_reason(reason),
        incarnation=context.incarnation.number,
    )
    # wait_for, as a timeout context does not work in a task that is being cancelled.
    with suppress(SlstreamError, TimeoutError):
        await asyncio.wait_for(context.lobby.tell(close), LAST_WORD_S)
