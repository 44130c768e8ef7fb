"""A feature party's way through a session: find it in the lobby, follow it to its end."""

from __future__ import annotations

import logging
from functools import partial
from typing import NoReturn

from slstream.errors import SessionAborted, SessionRefused, SlstreamError
from slstream.party.context import PartyContext
from slstream.party.device import open_device
from slstream.party.driver import Abandoned, Driver
from slstream.party.feature_actions import FeatureActions
from slstream.party.lobby import continues
from slstream.party.models import build_base
from slstream.party.party_data import rows_of
from slstream.party.plan import plan_of
from slstream.party.summary import Summary, read_summary
from slstream.party.tables import PartyTable, load_table
from slstream.protocol.feature import feature_session
from slstream.protocol.messages import PROTOCOL_VERSION, Announce, Close

_logger = logging.getLogger(__name__)


async def follow(context: PartyContext) -> Summary:
    """Follow the newest session that the label party leads, from joining to its end.

    One in which an earlier process of this party took part goes on where that one was.

    When it is over for this party but not for the label party, nothing is left to do.

    A session that its label party gives up for another one, as one does that starts anew after a
    crash, is left without a word. Of one that was over before, the end is made up for, and then the
    next one followed if there is one.

    Where there is no session yet, the party's table and model are tried before it waits for one: a
    mistake in them shows at once, and not when the label party comes.

    Raises:
        DataError: the table cannot be used.
        ModelError: the base model cannot be built.
        TopologyError: the party's device is not there.
        SessionRefused: this party's topology is not the announced one; names what differs.
        SlstreamError: the session failed; the label party was told.
    """
    table: PartyTable | None = None
    while True:
        summary = read_summary(context.files.directory)
        done = None if summary is None else summary.session
        if summary is not None and _goes_on(context, summary.session):
            _logger.info("nothing is left to do in the session", extra={"session": done})
            return summary
        if _next(context, done) is None:
            table = await context.compute.call(partial(_try, context))
        announce = await context.lobby.wait(
            partial(_next, context, done),
            timeout_s=context.topology.timeouts.peer_s,
            on_tick=lambda waited_s: _tell_waiting(context, waited_s),
        )
        was_over = context.lobby.closed(announce.session) is not None
        try:
            summary = await _follow(context, announce, table)
        except Abandoned as error:
            _logger.info("session left", extra={"session": announce.session, "why": str(error)})
        else:
            await context.lobby.refresh()
            if not (was_over and context.lobby.unfinished):
                return summary
        await context.begin_anew()


def _try(context: PartyContext) -> PartyTable:
    """The party's table; its base model has been built for it, as a test."""
    open_device(context.party, context.topology)
    table = load_table(context.party, context.topology)
    build_base(context.party, context.topology, in_features=len(table.columns))
    return table


async def _follow(context: PartyContext, announce: Announce, table: PartyTable | None) -> Summary:
    label_party = context.topology.label_party.id
    actions = FeatureActions(
        context.party,
        context.topology,
        compute=context.compute,
        negotiation=context.negotiation,
        id_key=context.shared_key or bytes.fromhex(announce.id_key),
        environment=context.environment,
        files=context.files,
        table=table,
    )

    async def watch() -> SlstreamError | None:
        await context.lobby.refresh()
        closed = context.lobby.closed(announce.session)
        if closed is None or closed.is_clean:
            return None  # the End message has all that is left to do
        return _error_of(announce, closed)

    driver = Driver(context, announce.session, [label_party], actions, watch)
    await driver.open_links()
    if reason := _objection(context, announce):
        await driver.last_word(reason)
        await _refuse(context, announce, reason)
    _logger.info("session joined", extra={"session": announce.session, "label_party": label_party})
    outcome = await driver.drive(feature_session(label_party, plan_of(context.topology)))
    return await context.finish(announce.session, outcome, rows_of(driver.rows), driver.started_at)


def _error_of(announce: Announce, closed: Close) -> SessionAborted:
    text = f"{announce.label_party} closed session {announce.session} as {closed.outcome}"
    kind = Abandoned if closed.outcome == "abandoned" else SessionAborted
    return kind(f"{text}: {closed.reason}" if closed.reason else text)


async def _refuse(context: PartyContext, announce: Announce, reason: str) -> NoReturn:
    """End, once the label party has taken note: a session of one that was killed is only left.

    Raises:
        Abandoned: another session takes its place.
        SessionRefused: it was closed, or nobody has said anything for long enough.
    """
    _logger.warning("session refused", extra={"session": announce.session, "why": reason})
    context.reporter.update(waiting_for=f"{announce.label_party} to close the refused session")
    closed = await context.lobby.wait_closed(
        announce.session, timeout_s=context.topology.timeouts.peer_s
    )
    if closed is not None and closed.outcome == "abandoned":
        raise _error_of(announce, closed)
    raise SessionRefused(f"{context.party.id} refused session {announce.session}: {reason}")


def _objection(context: PartyContext, announce: Announce) -> str | None:
    """Why this party cannot take part in a session, as its peers are told."""
    theirs, mine = announce.label_party, context.party.id
    if announce.protocol != PROTOCOL_VERSION:
        return (
            f"it speaks version {PROTOCOL_VERSION} of the protocol, {theirs} version "
            f"{announce.protocol}; use the same release of slstream"
        )
    differences = context.topology.differences_in_words(announce.agreed)
    if differences:
        return f"its topology differs from {theirs}'s: {differences}"
    if (context.shared_key is None) != bool(announce.id_key):
        uses, lacks = (theirs, mine) if context.shared_key is None else (mine, theirs)
        return (
            f"{uses} uses a key file for the ids and {lacks} none (alignment.key_file); all "
            "parties need the same one"
        )
    return None


def _next(context: PartyContext, done: str | None) -> Announce | None:
    """The session to follow, as far as the lobby is known."""
    unfinished = (each for each in reversed(context.lobby.unfinished) if each.session != done)
    return _left_behind(context, done) or next(unfinished, None)


def _left_behind(context: PartyContext, done: str | None) -> Announce | None:
    """The session that ended while this party was away, when it lacks its own end of it."""
    session = context.files.newest_session()
    if session is None or session == done:
        return None
    closed, announce = context.lobby.closed(session), context.lobby.announced(session)
    if closed is None or not closed.is_clean:
        return None
    # With another topology it cannot be ended, and is not what is wanted any more.
    return announce if announce and continues(announce, context.topology) else None


def _goes_on(context: PartyContext, session: str) -> bool:
    """Whether the label party still has to end a session that is over for this party."""
    return any(
        announce.session == session and continues(announce, context.topology)
        for announce in context.lobby.unfinished
    )


async def _tell_waiting(context: PartyContext, waited_s: float) -> None:
    context.reporter.update(
        waiting_for=f"{context.topology.label_party.id} to announce a session", waiting_s=waited_s
    )
    await context.incarnation.require_newest()
