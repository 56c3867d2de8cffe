"""One deployment as in production: topics on Apache Kafka, tables in PostgreSQL, roles as processes of their own."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from kafka import Kafka
from supervisor import Supervisor
from workload import DEFINITIONS, PARTITIONS, Event, Workload, publish

from schemas.topics import ACTIVITY

SECRET = "secret of the tests"
SESSION_SECONDS = 6
"""How long a silent worker keeps its partitions: the default of the settings, and the least that Kafka allows."""
WAIT_SECONDS = 240
_CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("GROUNDSWELL_")}


class Moved(NamedTuple):
    """A position that was seen to change."""

    at: float
    store: str
    """`ledger` or `readstate`."""
    partition: int
    position: int
    writer: str


@dataclass
class Deployment:
    """Topics and tables of its own; workers and the projector under supervision."""

    kafka: Kafka
    postgres: Any
    database: str
    directory: Path
    settings: dict[str, str] = field(default_factory=dict)
    """More of the environment."""

    def __post_init__(self) -> None:
        self.environment = {
            **_CLEAN,
            "PYTHONPATH": os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH")))),
            "GROUNDSWELL_KAFKA": self.kafka.bootstrap,
            "GROUNDSWELL_DATABASE": self.database,
            "GROUNDSWELL_SECRET": SECRET,
            "GROUNDSWELL_DATA_DIR": str(self.directory / "data"),
            "GROUNDSWELL_SESSION_SECONDS": str(SESSION_SECONDS),
            "GROUNDSWELL_PARTITIONS": str(PARTITIONS),
            **self.settings,
        }
        self.workers = Supervisor("worker", self.directory, self.environment)
        self.projectors = Supervisor("projector", self.directory, self.environment)
        self.watch = Watch(self.database)

    # Commands

    def command(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `groundswell ARGUMENTS`."""
        return subprocess.Popen(
            [sys.executable, "-m", "service", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command to its end; what it said. Its exit code must be `code`."""
        return finished(self.command(*arguments), code)

    def prepare(self) -> None:
        """Topics, tables, a projector, and the definitions."""
        asyncio.run(remove_topics(self.kafka.bootstrap))
        both = [self.command("topics", "create"), self.command("migrate")]
        for one in both:
            finished(one)
        self.watch.start()
        self.projectors.scale(1)
        file = self.directory / "definitions.yaml"
        file.write_text(DEFINITIONS)
        self.run("apply", str(file))

    def close(self) -> None:
        """Stop everything."""
        self.watch.stop()
        self.workers.close()
        self.projectors.close()

    # The log

    def workload(self, seed: int, count: int, poison: float = 0.0) -> Iterator[Event]:
        """Events to publish; see `workload`."""
        return Workload(seed, count, SECRET.encode(), poison).events()

    def publish(self, events: Iterator[Event], count: int | None = None) -> dict[int, int]:
        """Publish the next `count` of them, or all."""
        return asyncio.run(publish(self.kafka.bootstrap, events, count))

    def ends(self) -> dict[int, int]:
        """The end offset of each partition of the activity log."""
        return asyncio.run(_ends(self.kafka.bootstrap))

    # Progress

    def positions(self, store: str = "readstate") -> dict[int, int]:
        """The next offset by partition, as stored; 0 for a partition nobody has taken."""
        return {**dict.fromkeys(range(PARTITIONS), 0), **self.watch.now(store)}

    def until(self, condition: Callable[[], object], seconds: float = 60, what: str = "") -> None:
        """Wait for a condition with a deadline."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not in {seconds} s: {what}\n{self.told()}"
            time.sleep(0.05)

    def until_behind_by(self, most: int, seconds: float = 120) -> None:
        """Wait until at most `most` records are not in the read-state."""
        ends = self.ends()
        self.until(lambda: sum(ends.values()) - sum(self.positions().values()) <= most, seconds, f"{most} behind")

    def until_shared(self, count: int) -> None:
        """Have `count` workers, and wait until they own the partitions between them."""
        self.workers.scale(count)

        def is_shared() -> bool:
            shares = [self.owned_by(slot) for slot in list(self.workers.workers)]
            return len(shares) == count and all(shares) and set().union(*shares) == set(range(PARTITIONS))

        self.until(is_shared, 90, f"{count} workers share the partitions")

    def owned_by(self, slot: int) -> set[int]:
        """The partitions that a slot's process owns in the ledger."""
        worker = self.workers.workers.get(slot)
        name = worker.name if worker is not None else ""
        return {p for p in range(PARTITIONS) if name and self.watch.writer(p).startswith(name)}

    def told(self) -> str:
        """What the roles said last, for a failure."""
        lines = [f"positions {self.positions('ledger')} {self.positions()}; exits {self.workers.exits[-5:]}"]
        for worker in (*self.workers.workers.values(), *self.projectors.workers.values()):
            lines.append(f"--- {worker.directory.name}\n{worker.log[-1_500:]}")
        sessions: list[Any] = []
        with suppress(psycopg.OperationalError), psycopg.connect(self.database) as connection:  # it may be stopped
            sessions = connection.execute(
                "SELECT pid, state, wait_event_type, wait_event, clock_timestamp() - state_change, "
                "pg_blocking_pids(pid), left(query, 90) FROM pg_stat_activity WHERE datname = current_database()"
            ).fetchall()
        return "\n".join([*lines, "--- sessions", *(" ".join(map(str, session)) for session in sessions)])


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    """What a command said; its exit code must be `code`."""
    said, _ = process.communicate(timeout=WAIT_SECONDS + 60)
    assert process.returncode == code, f"{process.args}: exit {process.returncode}\n{said}"
    return said


class Watch:
    """Follows the stored positions from the outside."""

    def __init__(self, database: str) -> None:
        self.moves: list[Moved] = []
        self._database = database
        self._last: dict[tuple[str, int], tuple[int, str]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        """From now on."""
        self._thread.start()

    def stop(self) -> None:
        """No more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def now(self, store: str) -> dict[int, int]:
        """The latest positions seen."""
        return {p: position for (name, p), (position, _) in list(self._last.items()) if name == store}

    def writer(self, partition: int) -> str:
        """Who owns a partition in the ledger."""
        return self._last.get(("ledger", partition), (0, ""))[1]

    def resumed(self, partition: int, since: float) -> float | None:
        """Seconds from `since` until another owner moved the partition's ledger, or its read-state where the ledger had
        all already; None if none has."""
        found = []
        for store in ("ledger", "readstate"):
            moves = [m for m in list(self.moves) if m.partition == partition and m.store == store]
            owner = next((m.writer for m in reversed(moves) if m.at <= since), "")
            start = max((m.position for m in moves if m.at <= since), default=0)
            found += [m.at - since for m in moves if m.at > since and m.writer != owner and m.position > start][:1]
        return min(found, default=None)

    def _follow(self) -> None:
        while not self._over.is_set():
            with suppress(psycopg.Error), psycopg.connect(self._database, autocommit=True, connect_timeout=2) as db:
                while not self._over.wait(0.1):
                    self._look(db)
            self._over.wait(0.2)

    def _look(self, db: psycopg.Connection[Any]) -> None:
        rows = db.execute(
            "SELECT 'ledger', source, position, writer FROM ledger_positions "
            "UNION ALL SELECT 'readstate', source, position, writer FROM stream_positions"
        ).fetchall()
        now = time.monotonic()
        for store, source, position, writer in rows:
            partition = int(source.rsplit("/", 1)[1])
            if self._last.get((store, partition)) != (position, writer):
                self._last[store, partition] = (position, writer)
                self.moves.append(Moved(now, store, partition, position, writer))


async def remove_topics(bootstrap: str, names: list[str] | None = None) -> None:
    """Delete topics, all of ours by default, and wait until they are gone."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        there = {name for name in await admin.list_topics() if not name.startswith("__")}
        doomed = sorted(there if names is None else there & set(names))
        if doomed:
            await admin.delete_topics(doomed)
        while set(doomed) & set(await admin.list_topics()):
            await asyncio.sleep(0.05)
    finally:
        await admin.close()


async def _ends(bootstrap: str) -> dict[int, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        found = await consumer.end_offsets([TopicPartition(ACTIVITY, number) for number in range(PARTITIONS)])
        return {tp.partition: end for tp, end in found.items()}
    finally:
        await consumer.stop()


def drawn(name: str = "SEED") -> tuple[int, random.Random]:
    """A seed, from the environment if it is there, and chance that follows from it."""
    seed = int(os.environ.get(name) or random.randrange(1 << 32))
    return seed, random.Random(seed)
