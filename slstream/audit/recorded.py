"""What a session's log says of the environment in which a party computed."""

from __future__ import annotations

from slstream.errors import ConfigError, FrameError
from slstream.frames.header import FrameKind
from slstream.frames.topics import link_topic
from slstream.party.link_reader import LinkReader
from slstream.party.times import Times
from slstream.protocol.messages import Announce, Join, decode_message
from slstream.transport.contract import Transport


async def recorded_environment(log: Transport, announce: Announce, party: str) -> dict[str, str]:
    """The fingerprint that a party stated at the opening.

    Raises:
        ConfigError: the party did not take part in the session.
        SlstreamError: its link cannot be read.
    """
    if party == announce.label_party:
        return dict(announce.environment)
    topic = link_topic(announce.federation, party, announce.label_party, announce.session)
    if topic not in await log.topics(topic):
        raise ConfigError(f"{party} sent nothing in session {announce.session} (topic {topic})")
    reader = LinkReader(log, topic, party, Times())
    while not reader.is_ready:
        if not await reader.read_ahead():
            raise ConfigError(f"{party} sent nothing in session {announce.session} (topic {topic})")
    first = reader.take()
    message = decode_message(first.payload) if first.kind is FrameKind.CONTROL else None
    if not isinstance(message, Join):
        raise FrameError(
            f"{topic}: expected the first frame to be {party}'s join; if it could not take part, "
            "`slstream sessions` tells why, and which other sessions there are"
        )
    return dict(message.environment)
