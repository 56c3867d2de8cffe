"""`topics accept`: go on with the logs as they are, after a topic was made anew or cut; says what is lost first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from aggregates.database import open_database
from aggregates.ledger import Ledger, Source
from projections.engagement import rebuild
from projections.upkeep.rebuild import Busy
from schemas.topics import ACTIVITY, TIERS, WINDOWS
from service import outbox
from service.broker import kafka
from service.problems import Unusable
from service.settings import Settings
from streams import broker, epochs, outputs, readstate
from streams.connection import Brokers
from streams.readstate_tables import DEFINITIONS


@dataclass(frozen=True, slots=True)
class Change:
    """What accepting would do to one partition."""

    partition: int
    old: str
    """Source of the read-state as it is."""
    new: Source
    position: int
    """Where reading goes on."""
    anew: bool
    """Whether the read-state is forgotten and the whole log folded again."""
    lost: bool
    """Whether pane topics lost what was written, so that the tables read them from their new start."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What accepting would do to all of them; nothing where the logs are as they were read."""

    of_partitions: list[Change]
    """One for each partition whose log is not the one that was read."""
    outputs: Mapping[str, str]
    """The pane topics as they are: by name the start of their id."""
    anew: frozenset[str]
    """Those that are not the ones that were written to."""

    def __bool__(self) -> bool:
        """Whether there is anything to accept."""
        return bool(self.of_partitions or self.anew)

    def sentences(self) -> list[str]:
        """What would happen, for people."""
        if self.of_partitions or not self.anew:
            return [change.sentence for change in self.of_partitions]
        return [f"{' and '.join(sorted(self.anew))} made anew; no partition has been read that would be in them"]


async def changes(settings: Settings) -> Changes:
    """How the logs differ from what was read. Raises `Unusable` for what cannot be accepted."""
    epoch = await kafka.epoch(settings)
    ends = await kafka.log_ends(settings.brokers, ACTIVITY)
    bounds = await outputs.bounds_of(settings.brokers, ACTIVITY, sorted(ends))
    engine = open_database(settings.database)
    try:
        with engine.connect() as connection:
            rows = list(readstate.positions(connection))
            of_before = sa.select(DEFINITIONS.c.source).where(DEFINITIONS.c.offset < 0)
            later = set(connection.execute(of_before).scalars())
        known = epochs.written_outputs(engine)
    finally:
        engine.dispose()
    ids = await output_ids(settings)
    anew = frozenset(topic for topic, name in ids.items() if known.get(topic, name) != name)
    beyond = sorted({row.partition for row in rows} - ends.keys())
    if beyond:
        raise Unusable(
            f"{ACTIVITY} has {len(ends)} partitions, and partition {beyond[-1]} was read: members would stand in other "
            "partitions than before. Make the topic with the number it had"
        )
    made = []
    for row in rows:
        lost = await _lost_outputs(settings.brokers, row.partition, json.loads(row.outputs), anew)
        source = Source(ACTIVITY, epoch, row.partition)
        change = _change(row, source, bounds[row.partition][0], ends[row.partition], lost, row.source in later)
        if change is not None:
            made.append(change)
    return Changes(made, ids, anew)


async def output_ids(settings: Settings) -> dict[str, str]:
    """The pane topics as they are: by name the start of their id. Raises `Unusable` when one is not there."""
    ids = {topic: (await broker.describe(settings.brokers, topic)).epoch for topic in (WINDOWS, TIERS)}
    for topic, name in ids.items():
        if not name:
            raise Unusable(f"the topic {topic} does not exist: run `groundswell topics create`")
    return ids


async def _lost_outputs(brokers: Brokers, partition: int, written: dict[str, int], anew: frozenset[str]) -> list[str]:
    return [
        topic
        for topic in (WINDOWS, TIERS)
        if topic in anew or await outputs.end_of(brokers, topic, partition) < written.get(topic, 0)
    ]


def _change(row: Any, source: Source, low: int, end: int, lost: list[str], is_later: bool) -> Change | None:
    where = f"partition {row.partition}"
    if row.source != source.name:
        sentence = (
            f"{where}: the topic was made anew ({row.source}, read up to {row.position}, is now {source.name}); "
            f"reading goes on at its offset {low}. What only the old log held can not be derived again, "
            "but for what followed from the ledger (definitions, markers, referrals, prizes): it is sent again."
        )
        if lost:
            sentence += f" {' and '.join(lost)} lost what was written, and the tables keep what they have of it."
        return Change(row.partition, row.source, source, low, False, bool(lost), sentence)
    if row.position > end:
        raise Unusable(
            f"{where}: the log ends at offset {end} and was read up to {row.position}: it was cut, and what is "
            "published next would be taken for what was read. Make the topic anew, and accept that"
        )
    if lost and low:
        raise Unusable(
            f"{where}: {' and '.join(lost)} lost what was written, and the activity log begins at offset {low}: "
            "the windows cannot be folded again from it. Bring the topic back"
        )
    if row.position < low:
        gone = f"offsets {row.position} to {low - 1} are gone ({low - row.position:,} records)"
        sentence = f"{where}: {gone}; they count nowhere. What of them followed from the ledger is sent again."
        return Change(row.partition, row.source, source, low, False, False, sentence)
    if lost:
        sentence = (
            f"{where}: {' and '.join(lost)} lost what was written; the activity log is folded again from its start. "
            "Points are not decided again."
        )
        if is_later:
            sentence += (
                " What only the log before it held is not folded again: the tables keep its windows, and profiles and "
                "memberships from it are unknown until they are published again."
            )
        return Change(row.partition, row.source, source, 0, True, True, sentence)
    return None


async def go_on(settings: Settings, wanted: Changes) -> Counter[str]:
    """Accept, after what was sent to the log and may be lost unread is sent again; how much, by record type.

    In that order, so that whoever is interrupted finds the changes again.
    """
    sent: Counter[str] = Counter()
    if any(not change.anew for change in wanted.of_partitions):
        engine = open_database(settings.database)
        try:
            with closing(Ledger(settings.database)) as ledger:
                async with kafka.producer(settings) as client:
                    partitions = await kafka.partition_count(client)
                    sent = await outbox.send_lost_again(engine, ledger, client, settings.signing_key, partitions)
        finally:
            engine.dispose()
    accept(settings, wanted)
    return sent


def accept(settings: Settings, wanted: Changes) -> None:
    """Do it, all or nothing; the workers that run on these partitions stop, being fenced, and are to be started again.

    Raises `Unusable` when readers keep an earlier build of the tables from being removed.
    """
    lost = [change.partition for change in wanted.of_partitions if change.lost]
    engine = open_database(settings.database)
    try:
        if lost or wanted.anew:  # first: whoever is interrupted finds the changes again
            try:
                rebuild.forget(engine, settings.database)
            except Busy as busy:
                raise Unusable(f"{busy}; nothing was accepted. Run it again") from busy
        with engine.begin() as connection:
            rebuild.read_anew(connection, lost, wanted.anew)
            for change in wanted.of_partitions:
                kept = {"anew": change.anew, "lost": change.lost}
                readstate.accept(connection, change.old, change.new, change.position, **kept)
            epochs.accept_outputs(connection, wanted.outputs)
    finally:
        engine.dispose()
