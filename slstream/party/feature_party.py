"""A feature party's way through a session: find it in the lobby, follow it to its end."""

from __future__ import annotations

from time import perf_counter

from slstream.errors import RemoteProtocolError, SessionAborted, SessionRefused
from slstream.frames.topics import link_topic
from slstream.party.context import PartyContext
from slstream.party.driver import Driver
from slstream.party.feature_actions import FeatureActions
from slstream.party.party_data import rows_of
from slstream.party.plan import plan_of
from slstream.party.summary import Summary
from slstream.protocol.feature import feature_session
from slstream.protocol.messages import Announce

_SHOWN = 5


class _Abandoned(Exception):
    """The session that was joined will never begin; another one follows."""


async def follow(context: PartyContext) -> Summary:
    """Follow the newest session that the label party leads, from joining to its end.

    Raises:
        SessionRefused: this party's topology is not the announced one; names what differs.
        SlstreamError: the session failed; the label party was told.
    """
    while True:
        announce = await context.lobby.wait(
            lambda candidate: _is_new(context, candidate),
            timeout_s=context.topology.timeouts.peer_s,
            on_tick=lambda waited_s: _tell_waiting(context, waited_s),
        )
        try:
            return await _follow(context, announce)
        except _Abandoned:
            continue


async def _follow(context: PartyContext, announce: Announce) -> Summary:
    label_party = context.topology.label_party.id
    actions = FeatureActions(
        context.party,
        context.topology,
        compute=context.compute,
        negotiation=context.negotiation,
        id_key=_id_key(context, announce),
        environment=context.environment,
        directory=context.directory,
    )

    async def watch() -> None:
        await context.lobby.refresh()
        closed = context.lobby.closed(announce.session)
        if closed is None:
            return
        if closed.outcome == "abandoned":
            raise _Abandoned
        raise SessionAborted(
            f"{label_party} closed session {announce.session} as {closed.outcome}: {closed.reason}"
        )

    driver = Driver(context, announce.session, [label_party], actions.perform, watch)
    await driver.open_links()
    started_at = perf_counter()
    differences = context.topology.differences(announce.agreed)
    if differences:
        shown = "; ".join(f"{d.path} is {d.mine} here, {d.theirs} there" for d in differences[:5])
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        reason = f"its topology differs from {label_party}'s: {shown}{more}"
        await driver.last_word(reason)
        raise SessionRefused(f"{context.party.id} refused session {announce.session}: {reason}")
    outcome = await driver.drive(feature_session(label_party, plan_of(context.topology)))
    return context.summary(announce.session, outcome, rows_of(driver.rows), started_at)


def _id_key(context: PartyContext, announce: Announce) -> bytes:
    if context.shared_key is not None:
        return context.shared_key
    if not announce.id_key:
        raise RemoteProtocolError(
            f"{announce.label_party} uses a key file for the ids; this party's topology names none "
            "(alignment.key_file)"
        )
    return bytes.fromhex(announce.id_key)


async def _is_new(context: PartyContext, announce: Announce) -> bool:
    """Whether this party has not begun the session in an earlier process."""
    topic = link_topic(
        announce.federation, context.party.id, announce.label_party, announce.session
    )
    if topic not in await context.transport.topics(topic):
        return True
    return await context.transport.end_offset(topic) == 0


async def _tell_waiting(context: PartyContext, waited_s: float) -> None:
    context.reporter.update(
        waiting_for=f"{context.topology.label_party.id} to announce a session", waiting_s=waited_s
    )
