"""Proof that the read models are what the ledger says: rebuild them in the side, compare, name the first difference."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, Engine

from aggregates.database import open_database
from projections.projection import Key, Projection, ReadTable, Source, Value
from projections.registry import LEDGER
from projections.upkeep.digest import snapshot, table_rows
from projections.upkeep.load import load
from projections.upkeep.rows import NOTHING, Digest, Stored, digest_of_rows
from projections.upkeep.runner import kept, positions, prepare

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

Progress = Callable[[int, int], None]
"""`(position reached, position to reach)`, called after each page."""

PAGE: Final = 5_000
NAMED: Final = 20
"""Events named behind a difference; all are counted."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Behind(_Answer):
    """What made or changed a row: a ledger event, or what a pane includes of the activity log."""

    notification: int | None = Field(description="The ledger's notification id; null for a pane")
    event_id: str = Field(
        description="Id of the activity record; for a definition, the id of its aggregate; empty for a pane"
    )
    source: str = Field(
        description="`topic:partition:offset` of the record, for a pane of the last one that it includes; empty for a "
        "definition"
    )


class Difference(_Answer):
    """One row that is not what the ledger says."""

    table: str
    key: dict[str, Value] = Field(description="The row's primary key")
    what: str = Field(description="`changed`, `missing` (the ledger says it) or `extra` (the ledger does not)")
    column: str | None = Field(description="The first column that differs, of a changed row")
    stored: Value = Field(description="What the column holds")
    rebuilt: Value = Field(description="What the ledger says")
    events: list[Behind] = Field(description=f"The events behind the row, at most {NAMED}")
    events_total: int = Field(description="How many events are behind it")


class Verified(_Answer):
    """One read model compared with its rebuild."""

    name: str
    version: int
    position: int | str = Field(description="The position that both were compared at")
    rows: int
    digest: str = Field(description="Of the rows as they are")
    rebuilt: str = Field(description="Digest of the rows as the ledger says")
    kept: str | None = Field(
        default=None, description="The digest that is kept with the rows and `digest` shows; null where none is kept"
    )
    differing: int = Field(description="Rows that differ, also in what no digest includes")
    first: Difference | None = Field(description="The first of them, by table and key")

    @property
    def same(self) -> bool:
        """Whether every row is what the ledger says, and the kept digest that of the rows."""
        return self.differing == 0 and self.digest == self.rebuilt and self.kept in (None, self.digest)


class Report(_Answer):
    """Every read model compared with its rebuild."""

    position: int = Field(description="The ledger position that the ledger's read models were compared at")
    projections: list[Verified]

    @property
    def same(self) -> bool:
        """Whether all of them are what their source says."""
        return all(one.same for one in self.projections)


class Differing(NamedTuple):
    """A difference as the comparison of two ordered tables finds it."""

    key: Key
    what: str
    column: str | None = None
    stored: Value = None
    rebuilt: Value = None


Extra = Callable[[Connection, Progress], Verified]
"""Verifies a read model that comes from elsewhere than the ledger, on the same snapshot."""


def verify(
    engine: Engine,
    source: Source,
    progress: Progress | None = None,
    *,
    projections: Sequence[Projection] = LEDGER,
    extra: Sequence[Extra] = (),
) -> Report:
    """Rebuild read models from the ledger in a scratch database up to their own positions, and compare every row.

    Rows are read as they are, all at one instant, never from kept digests; nothing is written to `engine`. Give it a
    read-only engine, so that on SQLite the writers go on meanwhile.
    """
    told: Progress = progress or (lambda _reached, _to_reach: None)
    with tempfile.TemporaryDirectory(prefix="groundswell-verify-") as directory:
        scratch = open_database(f"sqlite:///{Path(directory) / 'rebuilt.db'}")
        try:
            prepare(scratch, projections)
            with engine.connect() as conn:  # most of the work, before the snapshot that keeps the database's past alive
                _rebuild(scratch, source, positions(conn, projections), projections, told)
            with snapshot(engine) as live:
                at = positions(live, projections)
                _rebuild(scratch, source, at, projections, told)
                with snapshot(scratch) as rebuilt:
                    compared = [compare(live, rebuilt, projection, projection) for projection in projections]
                others = [one(live, told) for one in extra]
        finally:
            scratch.dispose()
    named = with_events(compared, source, at)
    return Report(position=min(at.values(), default=0), projections=[*named, *others])


def _rebuild(
    scratch: Engine, source: Source, at: Mapping[str, int], projections: Sequence[Projection], told: Progress
) -> None:
    """Bring each projection in the scratch database up to its position in `at`."""
    to_reach = max(at.values(), default=0)
    for stop in sorted(set(at.values())):
        behind = [projection for projection in projections if at[projection.name] >= stop]
        load(scratch, source, behind, stop, progress=lambda reached: told(reached, to_reach))


class Compared(NamedTuple):
    """Two builds of a projection beside each other; the report does not name the events behind the difference yet."""

    projection: Projection
    report: Verified
    table: ReadTable | None
    first: Differing | None


def compare(live: Connection, rebuilt: Connection, projection: Projection, other: Projection) -> Compared:
    """The rows of two builds of one projection, `other` as it stands in `rebuilt`, at the position of both."""
    digests: tuple[list[Digest], list[Digest]] = ([], [])
    differing, table, first = 0, None, None
    for one, two in zip(projection.tables, other.tables, strict=True):
        stored = _counted(table_rows(live, one), one, digests[0])
        for found in differences(one, stored, _counted(table_rows(rebuilt, two), two, digests[1])):
            differing += 1
            if first is None:
                table, first = one, found
    here, there = (reduce(Digest.plus, some, NOTHING) for some in digests)
    its = kept(live)[projection.name]
    report = Verified(
        name=projection.name,
        version=projection.version,
        position=its.position,
        rows=here.rows,
        digest=here.hexadecimal(),
        rebuilt=there.hexadecimal(),
        kept=its.digest.hexadecimal(),
        differing=differing,
        first=None,
    )
    return Compared(projection, report, table, first)


def _counted(rows: Iterator[Stored], target: ReadTable, digests: list[Digest]) -> Iterator[Stored]:
    while some := list(islice(rows, PAGE)):
        digests.append(digest_of_rows(target, some))
        yield from some


def differences(
    target: ReadTable, stored: Iterable[tuple[Value, ...]], rebuilt: Iterable[tuple[Value, ...]]
) -> Iterator[Differing]:
    """Compare two tables of rows, each ordered by primary key, in one pass; a key has one difference at most."""
    names = [column.name for column in target.table.columns]
    places = [names.index(name) for name in target.key]

    def keyed(rows: Iterable[tuple[Value, ...]]) -> Iterator[tuple[Any, tuple[Value, ...]]]:
        return ((tuple([row[place] for place in places]), row) for row in rows)

    left, right = keyed(stored), keyed(rebuilt)
    have, want = next(left, None), next(right, None)
    while have is not None or want is not None:
        if want is None or (have is not None and have[0] < want[0]):
            assert have is not None
            yield Differing(have[0], "extra")
            have = next(left, None)
        elif have is None or want[0] < have[0]:
            yield Differing(want[0], "missing")
            want = next(right, None)
        else:
            if have[1] != want[1]:
                place = next(n for n in range(len(names)) if have[1][n] != want[1][n])
                yield Differing(have[0], "changed", names[place], have[1][place], want[1][place])
            have, want = next(left, None), next(right, None)


def with_events(compared: Sequence[Compared], source: Source, at: Mapping[str, int]) -> list[Verified]:
    """The reports, with the events behind each first difference: found by folding every event by itself again."""
    wanted = [one for one in compared if one.first is not None]
    events: dict[str, list[Recorded]] = {one.projection.name: [] for one in wanted}
    for recorded in _events(source, max(at.values(), default=0)) if wanted else ():
        for one in wanted:
            if recorded.id <= at[one.projection.name] and _touches(one, recorded):
                events[one.projection.name].append(recorded)
    return [_named(one, events.get(one.projection.name, [])) for one in compared]


def _events(source: Source, stop: int) -> Iterator[Recorded]:
    after = 0
    while page := source(after, PAGE):
        for recorded in page:
            if recorded.id > stop:
                return
            yield recorded
        after = page[-1].id


def _touches(one: Compared, recorded: Recorded) -> bool:
    assert one.table is not None
    assert one.first is not None
    rows = one.projection.fold([recorded]).get(one.table.name, ())
    return any(tuple([row[name] for name in one.table.key]) == one.first.key for row in rows)


def _named(one: Compared, events: Sequence[Recorded]) -> Verified:
    if one.table is None or one.first is None:
        return one.report
    first = Difference(
        table=one.table.name,
        key=dict(zip(one.table.key, one.first.key, strict=True)),
        what=one.first.what,
        column=one.first.column,
        stored=one.first.stored,
        rebuilt=one.first.rebuilt,
        events=[_behind(recorded) for recorded in events[:NAMED]],
        events_total=len(events),
    )
    return one.report.model_copy(update={"first": first})


def _behind(recorded: Recorded) -> Behind:
    origin = getattr(recorded.event, "origin", None)
    if origin is None:
        return Behind(notification=recorded.id, event_id=recorded.originator, source="")
    where = f"{origin.topic}:{origin.partition}:{origin.offset}"
    return Behind(notification=recorded.id, event_id=origin.event_id, source=where)
