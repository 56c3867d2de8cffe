"""`replay known-at`: a database of its own with everything as it was known at an instant, for the read commands.

What the ledger had recorded by then is copied; profiles, tiers and engagement are folded from the records that were on
the log by then, by the worker's own fold. Whatever reads a stack's directory reads this one too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from aggregates.database import open_database
from aggregates.events import from_stored
from aggregates.ledger import Ledger, Source
from aggregates.ledger_store import EVENTS, Encoded
from projections import engagement, registry
from projections.answers import iso
from projections.upkeep.runner import CACHE_KIB, Runner
from schemas.codec import decode
from schemas.topics import TIERS, WINDOWS
from service.migrate import migrate
from service.problems import Unusable
from service.replay.past_log import ArchiveLog, TopicLog, open_log
from service.replay.rebuilding import without_garbage
from service.replay.rederiving import Told
from service.settings import KNOWN_FILE, Settings
from streams import readstate
from streams.fold import ActivityFold
from streams.intake import Intake
from streams.recent import Recent
from streams.rederive import NO_LIMITS
from streams.rewards import Rewards

PAGE: Final = 5_000
FLUSH: Final = 20_000
"""Records between two writes of what they changed."""
_RECORDED: Final = ("recorded_at", "settled_at", "closed_at")


class Known(BaseModel):
    """What was made."""

    model_config = ConfigDict(frozen=True)

    directory: str
    known_at: str
    records: int = Field(description="Records that were on the log by then")
    events: int = Field(description="Events that the ledger had recorded by then")
    missing: int = Field(description="Records that the log does not have any more: engagement lacks what they brought")


def make(settings: Settings, source: str, directory: Path, until: int, told: Told = lambda *_: None) -> Known:
    """Make the database in an empty or new directory; `told` of records done. Raises `Unusable`."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise Unusable(f"{directory} is there and not empty: name a directory that is to be made")
    log = open_log(settings, source)
    directory.mkdir(parents=True, exist_ok=True)
    database = f"sqlite:///{directory.absolute() / 'groundswell.db'}"
    migrate(database)
    engine = open_database(database, cache_kib=CACHE_KIB)
    try:
        with closing(Ledger(database)) as ledger, without_garbage():
            for page in _recorded(settings, until):
                ledger.store.write(page)
            Runner(engine, ledger.notifications, registry.LEDGER).catch_up()
            records, of = 0, sum(log.ends.values()) - sum(log.starts.values())
            for partition in range(log.partitions):
                records += _fold(settings, log, partition, until, ledger, engine)
                told(records, of)
            events = ledger.last_notification()
    finally:
        engine.dispose()
    said = {"known_at": iso(until), "database": database}
    (directory / KNOWN_FILE).write_text(json.dumps(said))
    missing = sum(log.starts.values())
    return Known(directory=str(directory), known_at=iso(until), records=records, events=events, missing=missing)


def _recorded(settings: Settings, until: int) -> Iterator[list[Encoded]]:
    """What the ledger had recorded by then, in its order."""
    live = open_database(settings.database, read_only=True)
    table, number = EVENTS[live.dialect.name]
    query = sa.text(
        f"SELECT {number}, originator_id, originator_version, topic, state FROM {table} WHERE {number} > :after "
        f"ORDER BY {number} LIMIT {PAGE}"
    )
    after = 0
    try:
        while True:
            with live.connect() as connection:
                page = connection.execute(query, {"after": after}).all()
            if not page:
                return
            after = page[-1][0]
            rows = [(row[1], row[2], row[3], bytes(row[4])) for row in page]
            yield [row for row in rows if _recorded_at(from_stored(row[2], row[3])) <= until]
    finally:
        live.dispose()


def _recorded_at(event: Any) -> int:
    about = getattr(event, "origin", event)
    return next(int(at) for name in _RECORDED if (at := getattr(about, name, None)) is not None)


def _fold(
    settings: Settings,
    log: TopicLog | ArchiveLog,
    partition: int,
    until: int,
    ledger: Ledger,
    engine: sa.Engine,
) -> int:
    """Fold a partition's records up to the instant into profiles, tiers and engagement; how many they were."""
    source = Source(log.topic, log.epoch, partition)
    start, end = log.starts.get(partition, 0), log.ends.get(partition, 0)
    state = readstate.take(engine, source, source.name)
    intake = Intake(partition, log.partitions, state, Recent(), settings.signing_key, NO_LIMITS)
    decided = Rewards(ledger, source, end, source.name, lambda: until)  # the ledger has them: nothing is decided
    fold = ActivityFold(source, intake, decided, settings.grace_hours * 3_600_000)
    ends = {WINDOWS: 0, TIERS: 0}
    saved, at, count = 0, start, 0
    for chunk in log.read(partition, start, end):
        late = next((n for n, record in enumerate(chunk) if record.timestamp > until), len(chunk))
        records = list(chunk[:late])
        if records:
            at = records[-1].offset + 1
            fold.apply(records, at)
            count += len(records)
        if at - saved >= FLUSH:
            saved = _flush(engine, source, fold, saved, at, ends)
        if late < len(chunk):
            break
    if at > saved:
        _flush(engine, source, fold, saved, at, ends)
    ledger.take(source, source.name, at)
    return count


def _flush(engine: sa.Engine, source: Source, fold: ActivityFold, saved: int, at: int, ends: dict[str, int]) -> int:
    """Write what changed since the last time, as the worker and the projector do between them."""
    records, delta = fold.take(saved, at)
    with engine.begin() as conn:
        batches = []
        for topic, start in ends.items():
            values = [decode(value)[1] for _, value, _ in records.get(topic, ()) if value is not None]
            ends[topic] += len(values)
            batches.append(engagement.Batch(topic, source.partition, start, ends[topic], values))
        engagement.apply_all(conn, batches)
    readstate.save(engine, source, delta, source.name, ends)
    fold.flushed(delta)
    return at
