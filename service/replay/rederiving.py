"""`replay rederive`: the activity log through today's code, compared with what the ledger decided.

It reads the ledger and the log, and writes a scratch file alone: no producer, and no connection that writes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from aggregates.database import open_database
from aggregates.ledger import Source
from aggregates.programs import Brand, Campaign
from projections.answers import iso
from service.problems import Unusable
from service.replay.past_log import ArchiveLog, TopicLog, open_log
from service.replay.rebuilding import without_garbage
from service.replay.rederive_answers import Diverged, MissingInput, PartitionRun, RederiveReport
from service.settings import Settings
from streams import readstate
from streams.rederive import Rederivation, Step, WrongSecret
from streams.rederive.causes import Cause, Comparison, Divergence, Missing
from streams.rederive.decided import Decided, Scratch

TELL: Final = 2_000
"""Steps between two words on how far it is."""
Told = Callable[[int, int], None]
"""Takes how many are done, and of how many."""
Candidate = Callable[[Decided], Sequence[Brand | Campaign]]
"""Gives the definitions that stand for others, by what the ledger has accepted."""


@contextmanager
def opened(
    settings: Settings,
    source: str,
    told: Told = lambda *_: None,
    candidate: Candidate | None = None,
    until: int | None = None,
) -> Iterator[Rederivation]:
    """A run over the log in the topics or in an archive, with the ledger's decisions copied aside; `told` of that.

    Raises `Unusable`.
    """
    engine = open_database(settings.database, read_only=True)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="groundswell-rederive-") as directory,
            closing(Scratch(Path(directory) / "scratch.db")) as scratch,
        ):
            decided = Decided(scratch, engine)  # before the log's ends are asked for: these are never behind it then
            log = open_log(settings, source)
            _check_log(engine, decided, log)
            with without_garbage():
                decided.copy(told)
            tried = () if candidate is None else candidate(decided)
            yield Rederivation(log, decided, scratch, settings.signing_key, tried, until)
    finally:
        engine.dispose()


def _check_log(engine: sa.Engine, decided: Decided, log: TopicLog | ArchiveLog) -> None:
    """The log is the one that the ledger decides on now. Raises `Unusable`."""
    with engine.connect() as connection:
        now = {row.source.rsplit("/", 2)[1] for row in readstate.positions(connection) if row.position}
    if now and log.epoch not in now:
        raise Unusable(
            f"this is the log {log.epoch or '(without a name)'}, and the ledger decides on {', '.join(sorted(now))}: "
            "what was decided on one cannot be derived from the other"
        )
    known = {Source(log.topic, log.epoch, partition).name for partition in range(log.partitions)}
    if decided.positions and known.isdisjoint(decided.positions):
        raise Unusable(
            f"the ledger has decided nothing of the log {log.epoch}; it has of {', '.join(sorted(decided.positions))}"
        )


def steps(run: Rederivation, told: Told = lambda *_: None) -> Iterator[Step]:
    """The steps of a run; `told` gets the records that are done. Raises `Unusable`."""
    bounds = [run.bounds(partition) for partition in range(run.log.partitions)]
    total = sum(end - start for start, end in bounds)
    try:
        with without_garbage():
            for number, step in enumerate(run.steps()):
                if not number % TELL:
                    told(run.records, total)
                yield step
    except WrongSecret as error:
        raise Unusable(str(error)) from None
    told(run.records, total)


def compare(run: Rederivation, source: str, told: Told = lambda *_: None) -> RederiveReport:
    """Derive everything again and compare. Raises `Unusable`."""
    comparison = Comparison(run)
    take = comparison.take
    for step in steps(run, told):
        take(step)
    comparison.finish()
    missing = list(comparison.missing())
    causes = comparison.causes
    causes[Cause.MISSING] += sum(one.decisions for one in missing)
    return RederiveReport(
        source=source,
        epoch=run.log.epoch,
        until=None if run.until is None else iso(run.until),
        position=run.decided.last,
        partitions=partitions(run),
        records=run.records,
        decisions=comparison.compared,
        causes={cause.value: causes[cause] for cause in Cause if causes[cause]},
        missing=missing_input(run, missing),
        divergences=tuple(_diverged(one) for one in comparison.listed),
    )


def partitions(run: Rederivation) -> tuple[PartitionRun, ...]:
    """What was derived of each partition."""
    found = []
    for partition in range(run.log.partitions):
        start, end = run.bounds(partition)
        found.append(PartitionRun(partition=partition, start=start, end=end, decided=run.position(partition)))
    return tuple(found)


def missing_input(run: Rederivation, missing: Sequence[Missing]) -> tuple[MissingInput, ...]:
    """What the log does not have, in words."""
    return tuple(
        MissingInput(
            partition=one.partition, start=one.start, end=one.end, decisions=one.decisions, sentence=_lost(run, one)
        )
        for one in missing
    )


def _lost(run: Rederivation, one: Missing) -> str:
    where, count = f"{run.log.topic} partition {one.partition}", f"{one.decisions:,}"
    if one.start:
        return f"{where} ends at offset {one.start}, and the ledger has decided up to {one.end}: {count} decisions."
    if not one.end:
        return f"{where}: {count} decisions were taken on an earlier log, and stand as they were recorded."
    said = f"{where} begins at offset {one.end}. {count} decisions on what came before stand as they were recorded."
    never = one.end - run.position(one.partition)
    return f"{said} The ledger never saw {never:,} of these records." if never > 0 else said


def _diverged(one: Divergence) -> Diverged:
    kind, _, who = one.account.partition(":")
    brand, _, member = who.partition("/") if kind == "account" else ("", "", "")
    return Diverged(
        cause=one.cause.value,
        sentence=one.cause.sentence,
        partition=one.partition,
        offset=one.offset,
        event_id=one.event_id,
        account=one.account,
        brand=brand,
        member_id=member,
        field=one.field,
        recorded=one.recorded,
        derived=one.derived,
        recorded_points=one.recorded_points,
        derived_points=one.derived_points,
    )
