"""Creating, deleting and looking at topics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiokafka.protocol.admin import DeleteTopicsRequest_v3, DescribeConfigsRequest_v1

from slstream.errors import TransportError, UnknownTopic
from slstream.transport.contract import Durability, TopicConfig
from slstream.transport.kafka.answers import (
    INVALID_TOPIC,
    NO_SUCH_TOPIC,
    TOPIC_EXISTS,
    NotYetError,
    check_answer,
)
from slstream.transport.kafka.cluster import Cluster, TopicView
from slstream.transport.kafka.topic_settings import topic_config, topic_settings
from slstream.transport.kafka.wire import CreateTopicsRequest, Exactly
from slstream.transport.topics import check_same_config

_BROKER_TIMEOUT_MS = 5_000
_BROKERS_CHOICE = -1
_TOPIC_RESOURCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedTopic:
    """A topic, and what it takes."""

    view: TopicView
    config: TopicConfig


class Topics:
    """What a cluster's topics are, and changes of them."""

    def __init__(self, cluster: Cluster, durability: Durability) -> None:
        """Nothing is asked yet."""
        self._cluster = cluster
        self._durability = durability

    async def describe(self, name: str) -> DescribedTopic:
        """A topic and its settings.

        Raises:
            UnknownTopic: there is none.
            TransportDenied: this user may not look at it.
            NotYetError: nobody who knows answers.
        """
        view = await self._cluster.topic(name)
        resources = [(_TOPIC_RESOURCE, name, None)]
        answer = await self._cluster.ask(Exactly(DescribeConfigsRequest_v1(resources, False)))
        ((code, detail, _, _, entries),) = answer.resources
        if code in NO_SUCH_TOPIC:
            raise NotYetError("the broker asked for its settings has not heard of it yet")
        check_answer(code, "DESCRIBE_CONFIGS", name, detail=detail)
        found = {key: value for key, value, *_ in entries}
        return DescribedTopic(view=view, config=topic_config(len(view.partitions), found))

    async def create(self, name: str, config: TopicConfig) -> None:
        """Have a topic that every broker knows.

        Raises:
            TopicExists: it exists with other settings.
            TransportDenied: this user may not.
            NotYetError: it is not known everywhere yet.
        """
        try:
            found = await self.describe(name)
        except UnknownTopic:
            await self._create(name, config)
            raise NotYetError("it is being created") from None
        check_same_config(name, found.config, config)
        for address in await self._cluster.brokers():
            view = await self._cluster.topic_at(address, name)
            if view is None or view.id != found.view.id:
                raise NotYetError("a broker has not heard of it yet")
            for number in view.partitions:
                view.leader_of(number)

    async def _create(self, name: str, config: TopicConfig) -> None:
        settings = self._cluster.settings
        wanted = topic_settings(
            config,
            durability=self._durability,
            min_insync_replicas=settings.min_insync_replicas,
        )
        replicas = settings.replication_factor or _BROKERS_CHOICE
        topic: Any = (name, config.partitions, replicas, [], list(wanted.items()))
        answer = await self._cluster.ask_controller(
            Exactly(CreateTopicsRequest([topic], _BROKER_TIMEOUT_MS, False))
        )
        ((_, code, detail),) = answer.topic_errors
        if code == INVALID_TOPIC:
            raise TransportError(
                f"create topic {name}: the broker does not take the name ({detail}); choose another"
            )
        if code != TOPIC_EXISTS:
            check_answer(code, "CREATE", name, detail=detail)

    async def delete(self, name: str) -> None:
        """Ask for the end of a topic.

        Raises:
            UnknownTopic: there is none.
            TransportDenied: this user may not.
            NotYetError: nobody who knows answers.
        """
        answer = await self._cluster.ask_controller(
            Exactly(DeleteTopicsRequest_v3([name], _BROKER_TIMEOUT_MS))
        )
        ((_, code),) = answer.topic_error_codes
        check_answer(code, "DELETE", name)

    async def check_gone(self, view: TopicView) -> None:
        """Do nothing once no broker knows the topic any more.

        Raises:
            NotYetError: one still does.
        """
        for address in await self._cluster.brokers():
            found = await self._cluster.topic_at(address, view.name)
            if found is not None and found.id == view.id:
                raise NotYetError("a broker has not heard of its end yet")
