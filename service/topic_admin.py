"""`topics create` and `topics check`: the broker's topics against the one table of topics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.topics import ACTIVITY, TOPICS, new_topics

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
            await admin.create_topics([NewTopic(**topic) for topic in missing])
        return [topic["name"] for topic in missing]


async def check(settings: Settings) -> list[str]:
    """What is wrong with the broker's topics, one sentence each; nothing when the roles can start."""
    async with _admin(settings) as admin:
        there = await _partitions(admin)
        count = there.get(ACTIVITY)
        wrong = [f"{topic.name} is missing: run `groundswell topics create`" for topic in TOPICS if topic.name not in there]
        for topic in TOPICS:
            if count is not None and there.get(topic.name, count) != count:
                wrong.append(f"{topic.name} has {there[topic.name]} partitions and {ACTIVITY} has {count}: make it anew")
        for topic in TOPICS:
            if topic.name in there:
                found = (await _settings(admin, topic.name)).get("cleanup.policy")
                if found is not None and found != topic.cleanup:
                    wrong.append(f"{topic.name} has cleanup.policy={found}; it must be {topic.cleanup}")
        return wrong
