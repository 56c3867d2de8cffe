"""Our own stage with a fold of two counts: chunked Faust, panes in a compacted topic, read-state in SQLite."""

from __future__ import annotations

import asyncio
import logging
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from sqlalchemy import Engine

from aggregates.database import open_database
from aggregates.engagement import ON_TIME
from aggregates.ledger import Source
from benchmarks.peers.subject import PANE_MS, PARTITIONS, Interval, arguments, dump
from schemas.codec import decode, picker
from schemas.topics import BY_NAME, WINDOWS
from service import process
from streams import broker, outputs, readstate
from streams.app import make_app
from streams.connection import Brokers
from streams.ownership import StageConfig
from streams.pane_store import PaneStore
from streams.panes import Name, Record, Shared, Stamped, read_pane
from streams.readstate import Delta, ReadState
from streams.stage import Stage

FETCH_RECORDS = 5_000
GRACE_MS = 24 * 3_600_000


FIELDS = ("occurred_at", "brand_id", "member_id", "kind", "campaign_id")
DECODE_ALL = os.environ.get("DECODE") == "all"
"""Whether every field of a record is decoded, as the peers do, or those alone that are counted by."""
pick = picker(*FIELDS)


def whole(data: bytes) -> tuple[str, tuple[Any, ...]]:
    """The same fields by the reader of all."""
    kind, value = decode(data)
    return kind, tuple(value[name] for name in FIELDS)


class TwoCounts:
    """Per campaign and per member, each by kind and five minutes."""

    def __init__(self, source: Source, state: ReadState, interval: Interval, grace_ms: int) -> None:
        self._state = state
        self._panes = PaneStore(source.epoch, source.partition, grace_ms)
        self._interval = interval
        self._campaigns: dict[tuple[str, str], Name] = {}
        self._members: dict[tuple[str, str], Name] = {}
        self._ones: dict[str, Shared] = {}
        self.counted = 0

    @property
    def panes(self) -> int:
        """In memory."""
        return len(self._panes)

    def apply(self, records: Sequence[Any], end: int) -> None:
        """Count every record twice."""
        self._interval.begin()
        add, latest = self._panes.add, self._state.greatest_event_time
        campaigns, members, ones = self._campaigns, self._members, self._ones
        fields_of = whole if DECODE_ALL else pick
        for record in records:
            _, (at, brand, member_id, kind, campaign_id) = fields_of(record.value)
            if at > latest:
                latest = at
            pane = at - at % PANE_MS
            campaign = campaigns.get((brand, campaign_id)) or self._name_campaign(brand, campaign_id)
            member = members.get((brand, member_id)) or self._name_member(brand, member_id)
            one = ones.get(kind) or ones.setdefault(kind, Shared({kind: 1}))
            add((pane, PANE_MS, ON_TIME), (campaign, member), one, record.offset)
        self._state.greatest_event_time = latest
        self.counted += len(records)

    def _name_campaign(self, brand: str, campaign: str) -> Name:
        name = self._campaigns[brand, campaign] = self._panes.name(("campaign", brand, campaign, "", "", "", ""))
        return name

    def _name_member(self, brand: str, member: str) -> Name:
        name = self._members[brand, member] = self._panes.name(("member", brand, "", "", member, "", ""))
        return name

    async def settle(self, leave: int = 0) -> None:
        """There is no other store."""

    async def settle_before(self, end: int) -> None:
        """There is no other store."""

    def take(self, previous: int, position: int) -> tuple[dict[str, list[Record]], Delta]:
        """Dirty panes, and the position."""
        return self._panes.take_dirty(position - 1), self._state.take(previous, position)

    def flushed(self, delta: Delta) -> None:
        """Panes that event time has passed leave memory."""
        self._panes.let_go(delta.greatest_event_time, delta.position)

    def recover(self, written: Mapping[str, Mapping[bytes, bytes]], start: int) -> None:
        """Take over the open panes."""
        self._panes.recover(written[WINDOWS], start, self._state.greatest_event_time)

    def give_up(self) -> None:
        """Nothing is under way."""


async def _make_topic(bootstrap: str) -> broker.Broker:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(WINDOWS, PARTITIONS, 1, topic_configs=BY_NAME[WINDOWS].settings)])
    finally:
        await admin.close()
    return await broker.describe(Brokers(bootstrap), WINDOWS)


class Counting(NamedTuple):
    """The app, its stage and its folds by partition."""

    app: Any
    stage: Stage
    folds: dict[int, TwoCounts]
    engine: Engine

    @property
    def counted(self) -> int:
        """Records counted by this process."""
        return sum(fold.counted for fold in self.folds.values())

    def durable(self) -> int:
        """Records whose counts are durable, by all processes."""
        with self.engine.begin() as connection:
            return sum(row.position for row in readstate.positions(connection))


async def make(options: Namespace, interval: Interval, grace_ms: int = GRACE_MS, worker: str = "benchmark") -> Counting:
    """Everything but the start."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    process.set_up()
    has_transactions = (await _make_topic(options.bootstrap)).has_transactions
    epoch = (await broker.describe(Brokers(options.bootstrap), options.topic)).epoch
    engine, folds = open_database("sqlite:///state.db"), dict[int, TwoCounts]()
    readstate.create_tables(engine)

    async def make_fold(source: Source, state: ReadState, _token: str) -> TwoCounts:
        return folds.setdefault(source.partition, TwoCounts(source, state, interval, grace_ms))

    config = StageConfig(
        brokers=Brokers(options.bootstrap), group=options.group, topic=options.topic, outputs=(WINDOWS,), epoch=epoch,
        has_transactions=has_transactions, worker=worker,
    )  # fmt: skip
    app, stage = make_app(engine, make_fold, config, PARTITIONS, Path(worker), fetch_records=FETCH_RECORDS)
    return Counting(app, stage, folds, engine)


async def run(options: Namespace, grace_ms: int = GRACE_MS) -> str:
    """Count all records; the measured line."""
    interval = Interval()
    counting = await make(options, interval, grace_ms)
    await counting.app.start()
    while counting.counted < options.records:
        await asyncio.sleep(0.01)
    await counting.stage.flush()
    line = interval.end("Groundswell's stage", options.records)
    if options.dump:
        brokers = Brokers(options.bootstrap)
        values = [(await outputs.last_values(brokers, WINDOWS, n))[0].values() for n in range(PARTITIONS)]
        panes = [read_pane(value) for several in values for value in several]
        dump(options.dump, _campaigns(panes), _members(panes))
    await counting.app.stop()
    return line


def _campaigns(panes: Sequence[Stamped]) -> Iterator[tuple[str, int]]:
    for (scope, _, campaign, *_), (starts_at, *_), _, _, counters in panes:
        if scope == "campaign":
            for kind, count in counters.items():
                yield f"{campaign}/{kind}/{starts_at}", count


def _members(panes: Sequence[Stamped]) -> Iterator[tuple[str, int]]:
    for (scope, _, _, _, member, *_), (starts_at, *_), _, _, counters in panes:
        if scope == "member":
            yield f"{member}/{starts_at}", sum(counters.values())


if __name__ == "__main__":
    print(asyncio.run(run(arguments(__doc__))))
