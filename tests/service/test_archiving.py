"""`archive create` and `verify` on a real broker: the log comes out of the archive as it is in the topic."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import own_broker
import pytest

from aggregates.ledger import Source
from schemas.topics import ACTIVITY
from service.broker import kafka, topic_admin
from service.migrate import migrate
from service.problems import Unusable
from service.replay import archiving
from service.settings import Settings
from streams import broker, outputs
from streams.archive import Archive
from streams.archive.check import verify

RECORDS = 12_000


def publish(settings: Settings, count: int, start: int = 0) -> None:
    async def send() -> None:
        async with kafka.producer(settings) as client:
            for n in range(start, start + count):
                headers = [("ce_id", b"%d" % n), ("n", None)] if n % 3 else []
                value = None if n % 11 == 0 else b"%d" % n * 20
                sent = await client.send(ACTIVITY, value, key=b"k%d" % (n % 50), headers=headers, timestamp_ms=n)
            await client.flush()
            await sent

    asyncio.run(send())


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    directory = tmp_path_factory.mktemp("archiving")
    database = f"sqlite:///{directory / 'groundswell.db'}"
    migrate(database)
    with own_broker.running() as address:
        made = Settings(kafka=address, database=database, secret="s", data_dir=directory, partitions=4)
        asyncio.run(topic_admin.create(made))
        publish(made, RECORDS)
        yield made


def log(settings: Settings) -> dict[int, list[tuple[object, ...]]]:
    """The topic itself, record by record."""

    async def read() -> dict[int, list[tuple[object, ...]]]:
        ends = await kafka.log_ends(settings.brokers, ACTIVITY)
        return {
            p: [
                (r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
                async for r in outputs.read(settings.brokers, ACTIVITY, p, 0, end)
            ]
            for p, end in ends.items()
        }

    return asyncio.run(read())


def archived(settings: Settings, directory: Path) -> dict[int, list[tuple[object, ...]]]:
    epoch = asyncio.run(broker.describe(settings.brokers, ACTIVITY)).epoch
    archive = Archive(directory)
    assert archive.partitions == 4
    return {p: [tuple(r) for block in archive.read(Source(ACTIVITY, epoch, p)) for r in block] for p in range(4)}


def command(settings: Settings, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "service", "archive", *arguments]


def environment(settings: Settings) -> dict[str, str]:
    given = {"KAFKA": settings.kafka, "DATABASE": settings.database, "SECRET": "s", "DATA_DIR": str(settings.data_dir)}
    return {**os.environ, **{f"GROUNDSWELL_{name}": value for name, value in given.items()}}


def run(settings: Settings, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(settings, *arguments), capture_output=True, text=True, env=environment(settings), timeout=60
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_the_archive_is_the_log_and_grows_with_it(settings, tmp_path):
    made = asyncio.run(archiving.create(settings, tmp_path, increment=5_000))
    assert (made.records, archived(settings, tmp_path)) == (RECORDS, log(settings))
    assert made.increments >= 3
    again = asyncio.run(archiving.create(settings, tmp_path, increment=5_000))
    assert (again.records, again.increments, again.head) == (0, 0, made.head)
    publish(settings, 500, RECORDS)
    more = asyncio.run(archiving.create(settings, tmp_path))
    assert (more.records, more.increments, archived(settings, tmp_path)) == (500, 1, log(settings))
    assert verify(tmp_path).problems == []


def test_a_create_killed_at_random_instants_ends_as_an_undisturbed_one(settings, tmp_path):
    asyncio.run(archiving.create(settings, tmp_path / "undisturbed"))
    seed = random.randrange(1 << 32)
    rnd = random.Random(seed)
    for _ in range(2):
        process = subprocess.Popen(
            command(settings, "create", str(tmp_path / "killed")), env=environment(settings), stdout=subprocess.DEVNULL
        )
        time.sleep(rnd.uniform(0.3, 2.0))  # the instant is what is random here
        process.kill()
        process.wait()
    made = json.loads(run(settings, "create", str(tmp_path / "killed"), "--json").stdout)
    whole = [{p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("undisturbed", "killed")]
    assert whole[0] == whole[1], f"seed {seed}"
    checked = json.loads(run(settings, "verify", str(tmp_path / "killed"), "--json", "--head", made["head"]).stdout)
    assert (checked["problems"], checked["head"]) == ([], made["head"])


def test_verify_names_what_is_damaged_and_ends_with_1(settings, tmp_path):
    asyncio.run(archiving.create(settings, tmp_path))
    file = tmp_path / "000001-2.avro"
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    said = run(settings, "verify", str(tmp_path), code=1).stdout
    assert "000001-2.avro: members.activity.v1 partition 2, offsets" in " ".join(said.split())
    (problem,) = json.loads(run(settings, "verify", str(tmp_path), "--json", code=1).stdout)["problems"]
    assert (problem["file"], problem["partition"]) == ("000001-2.avro", 2)
    said = run(settings, "verify", str(tmp_path), "--head", "0" * 64, code=1).stdout
    assert "the chain was rewritten" in " ".join(said.split())
    missing = run(settings, "verify", str(tmp_path / "nowhere"), code=2).stderr
    assert "archive create" in missing


def test_a_log_that_does_not_hold_what_comes_next_is_refused(settings, tmp_path):
    asyncio.run(archiving.create(settings, tmp_path))
    with own_broker.running() as other:
        empty = settings.model_copy(update={"kafka": other})
        asyncio.run(topic_admin.create(empty))
        made = asyncio.run(archiving.create(empty, tmp_path))  # another epoch: its offsets start over
        assert (made.records, made.ends) == (0, {})
        few = empty.model_copy(update={"partitions": 2})
    with own_broker.running() as other:
        few = few.model_copy(update={"kafka": other})
        asyncio.run(topic_admin.create(few))
        with pytest.raises(Unusable, match="of a log with 4 partitions, and"):
            asyncio.run(archiving.create(few, tmp_path))
