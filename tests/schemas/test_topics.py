"""The table of topics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from own_broker import running

from schemas.topics import ACTIVITY, BY_NAME, DEAD_LETTERS, TOPICS, TRUSTED, activity_key, new_topics


def test_every_topic_has_as_many_partitions_as_the_activity_log():
    assert {topic["num_partitions"] for topic in new_topics(12)} == {12}
    assert [topic["name"] for topic in new_topics(12)] == [topic.name for topic in TOPICS]


def test_the_logs_are_kept_and_the_states_are_compacted():
    settings = {topic["name"]: topic["topic_configs"] for topic in new_topics(1)}
    kept = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    assert settings[ACTIVITY] == {**kept, "message.timestamp.type": "LogAppendTime"}
    assert settings[DEAD_LETTERS] == {**kept, "max.message.bytes": "2097152"}
    assert settings[DEAD_LETTERS]["cleanup.policy"] == "delete"
    compacted = {name for name, config in settings.items() if config["cleanup.policy"] == "compact"}
    assert compacted == {
        "programs.definitions.v1",
        "engagement.windows.v1",
        "tiers.aggregates.v1",
        "loyalty.balances.v1",
        "campaigns.standings.v1",
    }


def test_three_replicas_need_two_in_sync():
    assert all(topic["topic_configs"]["min.insync.replicas"] == "2" for topic in new_topics(4, 3))
    assert all("min.insync.replicas" not in topic["topic_configs"] for topic in new_topics(4))


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0)])
def test_a_topic_without_partitions_or_replicas_is_refused(numbers):
    with pytest.raises(ValueError, match="must be at least 1"):
        new_topics(*numbers)


def test_a_members_key_is_brand_and_member():
    assert activity_key("acmé", "m-1") == "acmé/m-1".encode()


def test_trusted_types_stand_on_the_activity_log():
    assert set(BY_NAME[ACTIVITY].record_types) >= TRUSTED


@pytest.fixture
def own_broker() -> Iterator[str]:
    with running() as address:
        yield address


def test_the_arguments_make_topics_on_a_real_broker(own_broker):
    async def make() -> list[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=own_broker)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(**arguments) for arguments in new_topics(2)])
            return await admin.list_topics()
        finally:
            await admin.close()

    assert set(asyncio.run(make())) >= set(BY_NAME)
