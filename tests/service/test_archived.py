"""Nothing is accepted before the archive has it, whatever the broker in memory acknowledges."""

from __future__ import annotations

import asyncio
from pathlib import Path

import own_broker
import pytest

from schemas.topics import ACTIVITY, DEAD_LETTERS
from service.broker import kafka, topic_admin
from service.embedded import archived
from service.problems import Unusable
from service.settings import Settings
from streams.archive import live


@pytest.fixture(scope="module")
def address():
    with own_broker.running() as found:
        asyncio.run(topic_admin.create(Settings(kafka=found, partitions=2)))
        yield found


def test_an_acknowledgement_waits_for_the_archive(address: str, tmp_path: Path):
    says = tmp_path / "archived.json"
    live.say(says, {})
    settings = Settings(kafka=address, archived=says)

    async def story() -> None:
        async with kafka.producer(settings) as client:
            sent = [await client.send(ACTIVITY, b"%d" % n, partition=n % 2) for n in range(6)]
            letter = await client.send(DEAD_LETTERS, b"x", partition=0)
            await client.flush()  # the broker has them all
            assert (await letter).partition == 0
            await asyncio.sleep(0.05)
            assert not any(future.done() for future in sent)
            base = (await kafka.log_ends(settings.brokers, ACTIVITY))[0] - 3
            live.say(says, {0: base + 2})
            assert [(await sent[n]).offset for n in (0, 2)] == [base, base + 1]
            assert not any(sent[n].done() for n in (1, 3, 4, 5))
            live.say(says, await kafka.log_ends(settings.brokers, ACTIVITY))
            await asyncio.gather(*sent)
            one = asyncio.ensure_future(client.send_and_wait(ACTIVITY, b"y", partition=0))
            await asyncio.wait({one}, timeout=0.1)
            assert not one.done()
            live.say(says, await kafka.log_ends(settings.brokers, ACTIVITY))
            assert (await one).partition == 0

    asyncio.run(story())


def test_a_producer_that_outlives_its_stack_is_told_so(address: str, tmp_path: Path):
    """The file is that of one start: what the next stack archives is not taken for ours."""
    says = tmp_path / "archived-1.json"
    live.say(says, {})
    settings = Settings(kafka=address, archived=says)

    async def story() -> None:
        async with kafka.producer(settings) as client:
            sent = await client.send(ACTIVITY, b"z", partition=0)
            await client.flush()
            says.unlink()
            live.say(tmp_path / "archived-2.json", {0: 1_000_000, 1: 1_000_000})
            with pytest.raises(Unusable, match="the stack that these records were for is gone"):
                await sent

    asyncio.run(story())


def test_an_archiver_that_does_nothing_is_no_reason_to_wait_for_ever(address: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(archived, "PATIENCE_SECONDS", 0.1)
    says = tmp_path / "archived.json"
    live.say(says, {})

    async def story() -> None:
        async with kafka.producer(Settings(kafka=address, archived=says)) as client:
            with pytest.raises(Unusable, match="is the archiver at work"):
                await client.send_and_wait(ACTIVITY, b"z", partition=0)

    asyncio.run(story())
