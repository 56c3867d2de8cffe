"""The activity log is made anew, or cut behind the workers' back: they stop and say what to do; nothing is mixed up."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from comparison import assert_books_balance
from deployment import Deployment, drawn, finished, remove_topics
from model import read_all
from test_settlement import markers
from workload import PARTITIONS

from schemas.topics import ACTIVITY, TIERS, WINDOWS

EVENTS = int(os.environ.get("SIDE_EVENTS") or 9_000)
ACCEPT = "groundswell topics accept"


def state(deployment: Deployment) -> tuple[dict[int, int], dict[int, int], dict[str, int]]:
    """Positions, and rows of what must stay as it is."""
    with psycopg.connect(deployment.database) as db:
        tables = ("ledger_events", "statements", "balances", "stream_profiles", "engagement", "tiers", "members")
        rows = {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}
        read = "SELECT source, position FROM stream_positions WHERE position > 0"
        decided = "SELECT source, position FROM ledger_positions WHERE position > 0"
        return dict(db.execute(read).fetchall()), dict(db.execute(decided).fetchall()), rows


def stop_by_themselves(deployment: Deployment, count: int = 1) -> None:
    """Every worker has ended with code 1, naming the way out."""
    deployment.until(lambda: len(deployment.workers.unasked()) >= count, 90, "the workers stop")
    for one in deployment.workers.unasked():
        assert (one.code, one.reason) == (1, "LogLost"), one
        assert ACCEPT in one.message, one


def worked(deployment: Deployment, seed: int) -> None:
    """A log that was worked through by two workers."""
    deployment.workers.scale(2)
    deployment.publish(deployment.workload(seed, EVENTS))
    deployment.run("wait", "--timeout", "120")
    deployment.workers.restarts = False


def test_a_log_made_anew_under_running_workers_stops_them(deployment, report):
    seed, rnd = drawn()
    report.append(f"seed {seed}")
    worked(deployment, seed)
    before = state(deployment)
    time.sleep(rnd.uniform(0, 5))  # whenever the workers looked last
    asyncio.run(make_anew(deployment.kafka.bootstrap, ACTIVITY))
    deployment.publish(deployment.workload(seed + 1, 3 * EVENTS))  # it is longer than the old one at once
    stop_by_themselves(deployment, 2)
    assert state(deployment) == before
    deployment.workers.scale(1)  # and whoever starts anew on it says the same
    stop_by_themselves(deployment, 3)
    assert state(deployment) == before
    assert_books_balance(deployment.database)
    deployment.run("replay", "verify")
    report.append(f"exits: {dict(deployment.workers.reasons())}, projector {dict(deployment.projectors.reasons())}")


def test_a_campaign_whose_markers_were_lost_with_the_log_is_settled_once_that_is_accepted(deployment, report):
    seed, _ = drawn()
    worked(deployment, seed)
    deployment.workers.scale(0)
    bootstrap = deployment.kafka.bootstrap
    settling = deployment.command("settle", "acme", "short", "--timeout", "240")
    deployment.until(lambda: len(asyncio.run(markers(bootstrap))) == PARTITIONS, 60, "the markers are on the log")
    asyncio.run(make_anew(bootstrap, ACTIVITY))
    assert f"sent again: {PARTITIONS} CampaignClosing" in deployment.run("topics", "accept", "--yes")
    deployment.workers.scale(1)
    finished(settling)
    assert_books_balance(deployment.database)
    report.append(f"seed {seed}, exits: {dict(deployment.workers.reasons())}")


def test_a_longer_log_in_the_place_of_the_old_one_is_not_read_on_as_if_it_were_the_old_one(deploy, report):
    """The workers stand still for as long as it takes: the next offset exists again, with another record at it."""
    seed, _ = drawn()
    deployment = deploy(GROUNDSWELL_SESSION_SECONDS="30")
    worked(deployment, seed)
    before = state(deployment)
    frozen = [deployment.workers.freeze(slot) for slot in (0, 1)]
    asyncio.run(remove_topics(deployment.kafka.bootstrap, [ACTIVITY]))
    deployment.run("topics", "create")
    deployment.publish(deployment.workload(seed + 1, 3 * EVENTS))
    for worker in frozen:
        deployment.workers.thaw(worker)
    stop_by_themselves(deployment, 2)
    report.append(f"exits: {dict(deployment.workers.reasons())}")
    assert state(deployment) == before


def test_a_log_cut_below_the_position_stops_the_worker_and_leaves_everything_as_it_was(deployment, report):
    seed, _ = drawn()
    worked(deployment, seed)
    deployment.workers.scale(0)
    before = state(deployment)
    ends = deployment.publish(deployment.workload(seed + 1, EVENTS))
    cut = {TopicPartition(ACTIVITY, p): RecordsToDelete(end - 10) for p, end in ends.items()}
    asyncio.run(delete_records(deployment.kafka.bootstrap, cut))
    deployment.workers.scale(1)
    stop_by_themselves(deployment)
    assert state(deployment) == before
    assert "records are gone" in deployment.workers.unasked()[0].message
    deployment.run("replay", "verify")
    report.append(f"exits: {dict(deployment.workers.reasons())}, projector {dict(deployment.projectors.reasons())}")


@pytest.mark.parametrize("grown", [False, True])
def test_pane_topics_made_anew_stop_the_worker_before_it_counts_open_panes_from_nothing(deployment, report, grown):
    """Also when they are longer now than they were: an older value of each key, twice over."""
    seed, _ = drawn()
    worked(deployment, seed)
    deployment.workers.scale(0)
    before = state(deployment)
    old = {topic: asyncio.run(read_all(deployment.kafka.bootstrap, topic)) for topic in (WINDOWS, TIERS)}
    asyncio.run(remove_topics(deployment.kafka.bootstrap, [WINDOWS, TIERS]))
    deployment.run("topics", "create")
    if grown:
        for topic, records in old.items():
            asyncio.run(write_twice(deployment.kafka.bootstrap, topic, records))
    deployment.publish(deployment.workload(seed + 1, EVENTS))
    deployment.workers.scale(1)
    stop_by_themselves(deployment)
    assert state(deployment) == before
    assert "made anew" in deployment.workers.unasked()[0].message
    assert "lost what was written" in deployment.run("topics", "accept", "--yes")
    deployment.workers.scale(1)
    deployment.run("wait", "--timeout", "120")
    report.append(f"exits: {dict(deployment.workers.reasons())}, projector {dict(deployment.projectors.reasons())}")


async def write_twice(bootstrap: str, topic: str, records: dict[int, list[Any]]) -> None:
    """More than there was, and none of it is what was written last."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as client:
        for partition, rows in records.items():
            for record in (*rows, *rows):
                await client.send(topic, record.value, record.key, partition=partition)
        await client.flush()


async def make_anew(bootstrap: str, topic: str) -> None:
    """Delete a topic and create it again at once."""
    await remove_topics(bootstrap, [topic])
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        config = {"message.timestamp.type": "LogAppendTime"}
        while topic not in await admin.list_topics():
            await admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs=config)])
    finally:
        await admin.close()


async def delete_records(bootstrap: str, cut: dict[TopicPartition, RecordsToDelete]) -> None:
    """What retention would do."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records(cut)
    finally:
        await admin.close()
