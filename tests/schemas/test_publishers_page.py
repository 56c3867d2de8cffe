"""The publishers' page: its tables are those of the contracts, and its example works against a real broker."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from own_broker import running

from schemas.codec import decode
from schemas.field_tables import with_tables
from schemas.topics import ACTIVITY, activity_key, new_topics
from schemas.validate import problem

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "publishers.md").read_text(encoding="utf-8")
PARTITIONS = 3


@pytest.mark.parametrize("name", ["publishers.md", "consumers.md", "consumers-ledger.md"])
def test_the_tables_of_the_page_are_up_to_date(name):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert with_tables(page) == page, "write the page anew with schemas.field_tables.with_tables"


def test_the_page_has_a_table_for_everything_that_upstream_systems_publish():
    shown = set(re.findall(r"<!-- generated: fields (\w+) -->", PAGE))
    assert shown == {"Interaction", "Purchase", "ProfileSnapshot", "Enrolment"}


def test_files_that_the_page_links_to_exist():
    links = re.findall(r"\]\((\.\./[^)]+)\)", PAGE)
    assert links
    assert all((ROOT / "docs" / link).exists() for link in links)


async def make_topic(address: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        wanted = [NewTopic(**arguments) for arguments in new_topics(PARTITIONS) if arguments["name"] == ACTIVITY]
        await admin.create_topics(wanted)
    finally:
        await admin.close()


async def published(address: str, places: list[tuple[int, int]]) -> list[tuple[bytes, bytes]]:
    """Key and value of the records at these partitions and offsets, each waited for at most 20 s."""
    consumer = AIOKafkaConsumer(bootstrap_servers=address)
    await consumer.start()
    try:
        found = []
        for partition, offset in places:
            place = TopicPartition(ACTIVITY, partition)
            consumer.assign([place])
            consumer.seek(place, offset)
            record = await asyncio.wait_for(consumer.getone(), 20)
            assert (record.partition, record.offset) == (partition, offset)
            found.append((record.key, record.value))
        return found
    finally:
        await consumer.stop()


@pytest.fixture
def own_broker() -> Iterator[str]:
    with running() as address:
        yield address


def test_the_example_publishes_records_that_decode_and_keep_the_rules(own_broker):
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert not re.search(
        r"^\s*(?:from|import) (?:schemas|aggregates|streams|projections|service)\b", snippet, re.MULTILINE
    )
    asyncio.run(make_topic(own_broker))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=ROOT,
        env={**environment, "GROUNDSWELL_KAFKA": own_broker},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    lines = re.findall(r"^(\w+) (\S+) -> partition (\d+), offset (\d+)$", ran.stdout, re.MULTILINE)
    assert [line[0] for line in lines] == ["ProfileSnapshot", "Interaction", "Purchase"]
    records = asyncio.run(published(own_broker, [(int(partition), int(offset)) for *_, partition, offset in lines]))
    for (record_type, event_id, *_), (key, data) in zip(lines, records, strict=True):
        decoded_type, value = decode(data)
        assert (decoded_type, value["event_id"]) == (record_type, event_id)
        assert problem(decoded_type, value) is None
        assert key == activity_key(value["brand_id"], value["member_id"])
