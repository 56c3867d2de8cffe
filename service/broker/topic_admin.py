"""`topics create` and `topics check`: the broker's topics against the one table of topics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from schemas.topics import ACTIVITY, TOPICS, new_topics
from service.broker import refusal
from service.problems import Unusable

if TYPE_CHECKING:
    from service.settings import Settings


async def create(settings: Settings, replication_factor: int = 1) -> list[str]:
    """Create the topics that are missing; the names of those. Existing ones are left as they are.

    New topics have as many partitions as the activity log has, or as the settings say before there is one.
    """
    async with _admin(settings) as admin:
        there = await _partitions(admin)
        count = there.get(ACTIVITY, settings.partitions)
        missing = [topic for topic in new_topics(count, replication_factor) if topic["name"] not in there]
        if missing:
            answer = await admin.create_topics([NewTopic(**topic) for topic in missing])
            for name, code, *message in answer.topic_errors:
                if code and for_code(code).__name__ != "TopicAlreadyExistsError":
                    said = next((text for text in message if text), for_code(code).__name__)
                    raise Unusable(f"the topic {name} could not be created: {said}")
        return [topic["name"] for topic in missing]


async def check(settings: Settings) -> list[str]:
    """What is wrong with the broker's topics, one sentence each; nothing when the roles can start."""
    async with _admin(settings) as admin:
        there = await _partitions(admin)
        count = there.get(ACTIVITY)
        wrong = [
            f"{topic.name} is missing: run `groundswell topics create`" for topic in TOPICS if topic.name not in there
        ]
        if count not in (None, settings.partitions):
            wrong.append(
                f"{ACTIVITY} has {count} partitions and GROUNDSWELL_PARTITIONS is {settings.partitions}: set it to "
                f"{count} for every role"
            )
        for topic in TOPICS:
            if count is not None and there.get(topic.name, count) != count:
                wrong.append(
                    f"{topic.name} has {there[topic.name]} partitions and {ACTIVITY} has {count}: make it anew"
                )
        for topic in TOPICS:
            if topic.name in there:
                found = (await _configuration(admin, topic.name)).get("cleanup.policy")
                if found is not None and found != topic.cleanup:
                    wrong.append(f"{topic.name} has cleanup.policy={found}; it must be {topic.cleanup}")
        return wrong


async def missing(settings: Settings) -> list[str]:
    """The topics that are not there. Raises `Unusable` when Kafka does not answer."""
    async with _admin(settings) as admin:
        there = await _partitions(admin)
    return [topic.name for topic in TOPICS if topic.name not in there]


def require(missing: Sequence[str]) -> None:
    """Raises `Unusable` that names topics which are not there, if any."""
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise Unusable(f"Kafka lacks the topic {missing[0]}{more}: run `groundswell topics create`")


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**settings.brokers.options)
    try:
        try:
            await admin.start()
        except (KafkaError, OSError) as error:
            raise await refusal.unusable(settings.brokers, error) from None
        yield admin
    finally:
        await admin.close()


async def _partitions(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """How many partitions each topic has."""
    return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}


async def _configuration(admin: AIOKafkaAdminClient, topic: str) -> Mapping[str, str]:
    """The topic's settings; empty from a broker that does not tell (the embedded one)."""
    found: dict[str, str] = {}
    for answer in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]):
        for code, _message, _kind, _name, entries in answer.resources:
            if code == 0:
                found.update({entry[0]: entry[1] for entry in entries})
    return found
