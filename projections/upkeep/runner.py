"""The runner: pulls ledger events in pages, folds them, and writes rows and position in one transaction a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

from sqlalchemy import Connection, Engine, Table, select
from sqlalchemy import text as sql

from projections.projection import METADATA, Held, Page, Projection, Source, number, read_table, text
from projections.upkeep import snapshots
from projections.upkeep.rows import NOTHING, Digest, Stored, Writing, ask, digest_of_rows, few, trip

PAGE: Final = 2_000
"""Events a transaction."""
FAR: Final = 8
"""While a runner is far behind, its pages grow to so many times their size: rows that many events change are then
written less often."""
CACHE_KIB: Final = 65_536
"""Of SQLite, for whoever writes read models: with 2 MiB the keys of 300,000 rows took a fifth more time to write."""
_FETCH: Final = 5_000

POSITIONS: Final[Table] = read_table(
    "projection_positions", text("name", key=True), number("version", key=True), number("position")
)
"""The notification id of the last event that each projection's rows include."""

DIGESTS: Final[Table] = read_table(
    "projection_digests", text("name", key=True), number("version", key=True), number("rows"), text("digest")
)
"""The kept digest of each projection's rows: written with them and with the position, never read off the rows."""

_POSITIONS: Final = select(POSITIONS)
"""Built once, as are others that are asked many times a second (docs/decisions/0026-few-trips-to-postgresql.md)."""
NEXT: Final = "__next"
"""Ends the names of what a rebuild is building (`projections/upkeep/rebuild.py`)."""
OLD: Final = "__old"
"""Ends the names of what served before the last swap."""


class PositionMoved(Exception):
    """A projection is not as it was known: another runner or a swap moved it. Nothing of this page was written."""


class NewerProjection(Exception):
    """The database has rows of a newer release's projection, which this release must not overwrite."""


class NotPrepared(Exception):
    """The database has no tables of this version of a projection."""


class Kept(NamedTuple):
    """A projection's version and position, and its kept digest."""

    version: int
    position: int
    digest: Digest


def prepare(engine: Engine, projections: Sequence[Projection]) -> None:
    """Make the tables and positions that are missing, and make those of an older version anew, at position 0.

    Raises `NewerProjection` when the database has a newer version of one of them. On PostgreSQL for one process at a
    time (`service/migrate.py` sees to it), and before the runners start.
    """
    with engine.begin() as conn:
        METADATA.create_all(conn, tables=[POSITIONS, DIGESTS, *snapshots.TABLES])
        stored = kept(conn)
        for projection in projections:
            tables = [target.table for target in projection.tables]
            there = stored.get(projection.name)
            if there is not None and there.version > projection.version:
                raise _newer(projection, there.version)
            if there is not None and there.version < projection.version:
                for ending in ("", NEXT, OLD):
                    drop(conn, projection, ending)
                snapshots.forget_all(conn)
                there = None
            METADATA.create_all(conn, tables=tables)
            if there is None:
                begin(conn, projection)
        _keep_missing(conn, projections)


def _keep_missing(conn: Connection, projections: Sequence[Projection]) -> None:
    """Work out the digests of rows that were written before there were kept ones."""
    has = set(conn.execute(select(DIGESTS.c.name)).scalars())
    for projection in projections:
        if projection.name not in has:
            conn.execute(DIGESTS.insert(), _row(projection, digest_of(conn, projection)))


def _newer(projection: Projection, version: int) -> NewerProjection:
    return NewerProjection(
        f"read model {projection.name}: the database has version {version}, this release builds version "
        f"{projection.version}. Run the newer release, or another database."
    )


def begin(conn: Connection, projection: Projection) -> None:
    """The position and digest of a projection without rows."""
    conn.execute(POSITIONS.insert(), {"name": projection.name, "version": projection.version, "position": 0})
    conn.execute(DIGESTS.insert(), _row(projection, NOTHING))


def drop(conn: Connection, projection: Projection, ending: str) -> None:
    """Remove the build of this ending, whichever version made it: its tables, position and digest."""
    for target in projection.tables:
        conn.execute(sql(f"DROP TABLE IF EXISTS {target.table.name}{ending}"))
    for table in (POSITIONS, DIGESTS):
        conn.execute(table.delete().where(table.c.name == projection.name + ending))


def kept(conn: Connection) -> dict[str, Kept]:
    """Versions, positions and digests by name."""
    digests = {(row.name, row.version): Digest(row.rows, int(row.digest, 16)) for row in conn.execute(select(DIGESTS))}
    return {
        row.name: Kept(row.version, row.position, digests.get((row.name, row.version), NOTHING))
        for row in conn.execute(select(POSITIONS).order_by(POSITIONS.c.version))
    }


def _row(projection: Projection, digest: Digest) -> dict[str, object]:
    return {
        "name": projection.name,
        "version": projection.version,
        "rows": digest.rows,
        "digest": digest.hexadecimal(),
    }


def digest_of(conn: Connection, projection: Projection) -> Digest:
    """The digest of a projection's rows as they are, read one by one."""
    digest = NOTHING
    for target in projection.tables:
        rows = conn.execution_options(yield_per=_FETCH).execute(select(target.table))
        digest = digest.plus(digest_of_rows(target, map(tuple, rows)))
    return digest


def positions(conn: Connection, projections: Iterable[Projection]) -> dict[str, int]:
    """Each projection's position; 0 for one that has not run."""
    stored = {(row.name, row.version): int(row.position) for row in conn.execute(_POSITIONS)}
    return {p.name: stored.get((p.name, p.version), 0) for p in projections}


class Runner:
    """Keeps some projections of one database up with the ledger. Any number of runners can share a database.

    A step raises `NotPrepared` before `prepare`, and `NewerProjection` once a newer release has taken over.
    """

    def __init__(self, engine: Engine, source: Source, projections: Sequence[Projection], *, page: int = PAGE) -> None:
        """`page`: events read and written at a time, ≥ 1. Call `prepare` before the first step."""
        self._engine = engine
        self._source = source
        self._projections = tuple(projections)
        self._page = page
        self._size = page
        self._kept: dict[Projection, Kept] | None = None

    @property
    def position(self) -> int:
        """The notification id up to which every projection here includes the ledger."""
        return min((there.position for there in self._known().values()), default=0)

    def step(self, stop_at: int | None = None) -> int:
        """Fold and write one page, of events up to `stop_at` (included). Returns how many events it handled."""
        refused: Mapping[Projection, Kept] | None = None
        while True:
            known = self._known()
            at = {projection: there.position for projection, there in known.items()}
            after = min(at.values(), default=0)
            events = self._source(after, self._size)
            if stop_at is not None:
                events = [recorded for recorded in events if recorded.id <= stop_at]
            if not events:
                return 0
            reached = events[-1].id
            pages = {n: Page(events if n == after else [r for r in events if r.id > n]) for n in at.values()}
            work: dict[Projection, Held] = {one: {} for one in self._projections if at[one] < reached}
            for projection, held in work.items():
                projection.hold(pages[at[projection]], held)
            self._kept = None  # whatever keeps us from writing it
            try:
                with self._engine.begin() as conn:
                    now = store(conn, work, known, reached)
            except PositionMoved:  # also by a swap to a build that is at the same place: the next look finds that one
                if self._known() == known == refused:
                    raise
                refused = known
                continue
            except Exception:  # of tables of another shape that serve now, whatever the database says of it
                if self._known() == known:
                    raise
                continue
            self._kept = {**known, **now}
            self._size = min(2 * self._size, FAR * self._page) if len(events) == self._size else self._page
            return len(events)

    def catch_up(self, stop_at: int | None = None, progress: Callable[[int], None] | None = None) -> int:
        """Step until there is nothing left, or nothing up to `stop_at`. Returns how many events were handled.

        `progress` is called after each page with the position reached. What was written stays when it is interrupted.
        """
        handled = 0
        while count := self.step(stop_at):
            handled += count
            if progress is not None:
                progress(self.position)
        return handled

    def _known(self) -> dict[Projection, Kept]:
        if self._kept is None:
            with self._engine.connect() as conn:
                stored = kept(conn)
            for projection in self._projections:
                there = stored.get(projection.name)
                if there is None or there.version < projection.version:
                    raise NotPrepared(f"the read model {projection.name} has no tables yet: run `groundswell migrate`")
                if there.version > projection.version:
                    raise _newer(projection, there.version)
            self._kept = {projection: stored[projection.name] for projection in self._projections}
        return self._kept


def move(conn: Connection, old: Mapping[Projection, int], new: int) -> Callable[[], None]:
    """Move projections from where they are to position `new`, and hold them until the transaction ends.

    The answer raises `PositionMoved` when one of them is elsewhere.
    """
    there: list[Stored] = [(projection.name, projection.version, at) for projection, at in old.items()]
    moved = ask(conn, f"{_MOVE} {_values(there)}) RETURNING name", [new, *chain.from_iterable(there)])

    def check() -> None:
        if len(moved()) != len(old):
            raise PositionMoved(f"not every one of {', '.join(one.name for one in old)} is where it was")

    return check


def store(
    conn: Connection, work: Mapping[Projection, Held], known: Mapping[Projection, Kept], new: int
) -> dict[Projection, Kept]:
    """Write what is held of events up to `new` to projections that are as `known`, and what is kept of them; that.

    Raises `PositionMoved` when one of them is not as it was. On PostgreSQL a small page takes two trips and its commit.
    """
    tables = [(one, target, held.get(target.name, {})) for one, held in work.items() for target in one.tables]
    in_trips = few(conn, sum(len(changes) for _, _, changes in tables))
    with trip(conn, in_trips):
        moved = move(conn, {one: known[one].position for one in work}, new)
        writings = [Writing(conn, target, changes, in_trips=in_trips) for _, target, changes in tables]
        derived = [one.then(conn, held) for one, held in work.items() if one.then is not None]
    moved()
    answers = [writing.answer() for writing in writings]
    for then in derived:
        then()
    came = dict.fromkeys(work, NOTHING)
    with trip(conn, in_trips):
        for (one, _, _), writing, answer in zip(tables, writings, answers, strict=True):
            came[one] = came[one].plus(writing.write(*answer))
        counted = tally(conn, {one: known[one].digest for one in work}, came)
    counted()
    return {one: Kept(one.version, new, known[one].digest.plus(digest)) for one, digest in came.items()}


def tally(conn: Connection, old: Mapping[Projection, Digest], came: Mapping[Projection, Digest]) -> Callable[[], None]:
    """Bring the kept digests of projections that are held from `old` to what they are with the rows that came.

    The answer raises `PositionMoved` when one of them was another: then other tables serve now.
    """
    changed: list[Stored] = [
        (one.name, one.version, old[one].hexadecimal(), total.rows, total.hexadecimal())
        for one, digest in came.items()
        for total in [old[one].plus(digest)]
        if digest != NOTHING
    ]
    if not changed:
        return lambda: None
    counted = ask(conn, f"{_COUNT.format(_values(changed))} RETURNING name", [*chain.from_iterable(changed)])

    def check() -> None:
        if len(counted()) != len(changed):
            raise PositionMoved(f"not every one of {', '.join(one.name for one in came)} has the rows that it had")

    return check


_MOVE: Final = f"UPDATE {POSITIONS.name} SET position = ? WHERE (name, version, position) IN ("
_COUNT: Final = (
    f"UPDATE {DIGESTS.name} SET rows = v.column4, digest = v.column5 FROM ({{}}) v "
    "WHERE name = v.column1 AND version = v.column2 AND digest = v.column3"
)


def _values(rows: Sequence[Stored]) -> str:
    return "VALUES " + ", ".join([f"({', '.join('?' * len(rows[0]))})"] * len(rows))


def advance(conn: Connection, source: Source, projection: Projection, upto: int) -> None:
    """Bring a projection up to the event of id `upto`, in the caller's transaction. For a few pages, not for many."""
    while (there := kept(conn)[projection.name]).position < upto:
        events = [recorded for recorded in source(there.position, PAGE) if recorded.id <= upto]
        if not events:
            break
        held: Held = {}
        projection.hold(events, held)
        store(conn, {projection: held}, {projection: there}, events[-1].id)
