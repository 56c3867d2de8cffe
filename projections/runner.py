"""The runner: pulls ledger events in pages, folds them, and writes rows and position in one transaction a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, Engine, Table, and_, select
from sqlalchemy.dialects import postgresql, sqlite

from projections.projection import METADATA, Changes, Projection, ReadTable, Source, number, read_table, text

PAGE: Final = 2_000
"""Events a transaction."""

POSITIONS: Final[Table] = read_table(
    "projection_positions", text("name", key=True), number("version", key=True), number("position")
)
"""The notification id of the last event that each projection's rows include."""


class PositionMoved(Exception):
    """Another runner moved a projection's position: nothing of this page was written."""


class NewerProjection(Exception):
    """The database has rows of a newer release's projection, which this release must not overwrite."""


def prepare(engine: Engine, projections: Sequence[Projection]) -> None:
    """Make the tables and positions that are missing, and make those of an older version anew, at position 0.

    Raises `NewerProjection` when the database has a newer version of one of them. On PostgreSQL for one process at a
    time (`service/migrate.py` sees to it), and before the runners start.
    """
    with engine.begin() as conn:
        METADATA.create_all(conn, tables=[POSITIONS])
        stored = {(row.name, row.version) for row in conn.execute(select(POSITIONS))}
        for projection in projections:
            tables = [target.table for target in projection.tables]
            versions = [version for name, version in stored if name == projection.name]
            if any(version > projection.version for version in versions):
                raise NewerProjection(
                    f"read model {projection.name}: the database has version {max(versions)}, this release builds "
                    f"version {projection.version}. Run the newer release, or another database."
                )
            if versions and projection.version not in versions:
                METADATA.drop_all(conn, tables=tables)
                conn.execute(POSITIONS.delete().where(POSITIONS.c.name == projection.name))
            METADATA.create_all(conn, tables=tables)
            if projection.version not in versions:
                row = {"name": projection.name, "version": projection.version, "position": 0}
                conn.execute(POSITIONS.insert(), row)


def positions(conn: Connection, projections: Iterable[Projection]) -> dict[str, int]:
    """Each projection's position; 0 for one that has not run."""
    stored = {(row.name, row.version): int(row.position) for row in conn.execute(select(POSITIONS))}
    return {p.name: stored.get((p.name, p.version), 0) for p in projections}


class Runner:
    """Keeps some projections of one database up with the ledger. Any number of runners can share a database."""

    def __init__(self, engine: Engine, source: Source, projections: Sequence[Projection], *, page: int = PAGE) -> None:
        """`page`: events read and written at a time, ≥ 1. Call `prepare` before the first step."""
        self._engine = engine
        self._source = source
        self._projections = tuple(projections)
        self._page = page
        self._positions: dict[str, int] | None = None

    @property
    def position(self) -> int:
        """The notification id up to which every projection here includes the ledger."""
        return min(self._known().values(), default=0)

    def step(self, stop_at: int | None = None) -> int:
        """Fold and write one page, of events up to `stop_at` (included). Returns how many events it handled."""
        while True:
            known = self._known()
            after = min(known.values(), default=0)
            events = self._source(after, self._page)
            if stop_at is not None:
                events = [recorded for recorded in events if recorded.id <= stop_at]
            if not events:
                return 0
            reached = events[-1].id
            work = {
                projection: projection.fold([r for r in events if r.id > known[projection.name]])
                for projection in self._projections
                if known[projection.name] < reached
            }
            try:
                self._write(work, known, reached)
            except PositionMoved:
                self._positions = None
                continue
            except BaseException:
                self._positions = None
                raise
            for projection in work:
                known[projection.name] = reached
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

    def _known(self) -> dict[str, int]:
        if self._positions is None:
            with self._engine.connect() as conn:
                self._positions = positions(conn, self._projections)
        return self._positions

    def _write(self, work: Mapping[Projection, Changes], known: Mapping[str, int], reached: int) -> None:
        with self._engine.begin() as conn:
            for projection in work:
                _move(conn, projection, known[projection.name], reached)
            for projection, changes in work.items():
                for target in projection.tables:
                    upsert(conn, target, changes.get(target.name, ()))


def _move(conn: Connection, projection: Projection, old: int, new: int) -> None:
    of_projection = and_(POSITIONS.c.name == projection.name, POSITIONS.c.version == projection.version)
    moved = conn.execute(
        POSITIONS.update().where(of_projection, POSITIONS.c.position == old).values(position=new)
    ).rowcount
    if moved != 1:
        raise PositionMoved(f"{projection.name} version {projection.version} is no longer at {old}")


def upsert(conn: Connection, target: ReadTable, rows: Iterable[dict[str, int | str | None]]) -> None:
    """Write rows (each key once) by the table's own rules: add up its sums, set its latest, keep the rest."""
    values = list(rows)
    if not values:
        return
    table = target.table
    insert = sqlite.insert(table) if conn.dialect.name == "sqlite" else postgresql.insert(table)
    change = {name: table.c[name] + insert.excluded[name] for name in target.sums}
    change |= {name: insert.excluded[name] for name in target.latest}
    key = [table.c[name] for name in target.key]
    written = (
        insert.on_conflict_do_update(index_elements=key, set_=change)
        if change
        else (insert.on_conflict_do_nothing(index_elements=key))
    )
    conn.execute(written, values)
