"""Rebuild, blue/green: a read model is built anew beside the one that serves, compared with it, and takes its place.

The build has tables, a position and a digest of its own, so it can be interrupted anywhere and goes on from there, and
whoever keeps the live one up never notices. It reads the ledger and writes tables: it sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from psycopg import errors
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from projections.projection import METADATA, Projection, Source
from projections.upkeep import shadows, snapshots
from projections.upkeep.digest import snapshot
from projections.upkeep.load import HELD, PAGE, load
from projections.upkeep.runner import DIGESTS, NEXT, OLD, POSITIONS, Kept, NewerProjection, advance, kept
from projections.upkeep.verify import Progress, Verified, compare, with_events

_PATIENCE: Final = text("SET LOCAL lock_timeout = 500")
"""Milliseconds that a swap waits on PostgreSQL for the readers before it; those after it wait for as long."""
_EARLIER: Final = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' "
    "AND backend_xmin IS NOT NULL AND wait_event_type IS DISTINCT FROM 'Lock' AND pid <> pg_backend_pid() "
    "AND pid <> :own AND xact_start < :now"
)
_LOOKS: Final = 25
"""How often, 20 ms apart, a swap looks whether the readers before it have gone."""


class Busy(Exception):
    """Readers that were there before are in the way of a swap: nothing happened, try again."""


class NothingToGoBackTo(Exception):
    """There is no earlier build of a read model that this release could serve."""


class Swapped(NamedTuple):
    """What serves a read model now, and what did before."""

    projection: Projection
    before: Kept | None
    """None when there was nothing."""
    after: Kept


class Rebuild:
    """One rebuild of some read models, all in one pass. At most one at a time may be at work on a database."""

    def __init__(
        self,
        engine: Engine,
        reading: Engine,
        source: Source,
        last: Callable[[], int],
        projections: Sequence[Projection],
        *,
        page: int = PAGE,
        held: int = HELD,
        beside: str | None = None,
    ) -> None:
        """`reading` is a read-only engine of the same database; `last` answers the ledger's last notification id.
        `page`, `held` and `beside` are those of `load`.

        `projections` stand in the order of the registry, in which runners lock them.
        """
        self._engine = engine
        self._reading = reading
        self._source = source
        self._last = last
        self._page, self._held, self._beside = page, held, beside
        self._shadows = {projection: shadows.beside(projection, NEXT) for projection in projections}

    def build(self, stop_at: int | None = None, told: Progress | None = None) -> dict[str, Kept]:
        """Begin the builds or go on with interrupted ones, up to `stop_at` or to where the live ones are.

        Returns what is kept of the builds, by the names of their projections. Raises `NewerProjection` for one that a
        newer release serves.
        """
        with self._engine.begin() as conn:
            METADATA.create_all(conn, tables=[POSITIONS, DIGESTS, *snapshots.TABLES])
            live = kept(conn)
            for projection, shadow in self._shadows.items():
                there = live.get(projection.name)
                if there is not None and there.version > projection.version:
                    raise NewerProjection(
                        f"read model {projection.name}: version {there.version} of a newer release serves; this one "
                        f"builds version {projection.version}. Rebuild it with the newer release."
                    )
                shadows.start(conn, projection, shadow, stop_at)
        self._catch_up(live, stop_at, told)
        for projection, shadow in self._shadows.items():
            with self._engine.begin() as conn:
                shadows.add_keys(conn, projection, shadow)
            with self._engine.begin() as conn:
                shadows.add_indexes(conn, projection, shadow)
        with self._reading.connect() as conn:
            now = kept(conn)
        return {projection.name: now[shadow.name] for projection, shadow in self._shadows.items()}

    def compare(self, told: Progress | None = None) -> dict[str, Verified]:
        """Compare every row that serves with those of the builds, at the live ones' positions; by name.

        Left out is one of another version than the live one, or further than it.
        """
        with snapshot(self._reading) as live:
            at = kept(live)
            self._catch_up(at, None, told)
            with snapshot(self._reading) as built:
                reached = kept(built)
                compared = [
                    compare(live, built, projection, shadow)
                    for projection, shadow in self._shadows.items()
                    if projection.name in at and at[projection.name][:2] == reached[shadow.name][:2]
                ]
        positions = {one.projection.name: at[one.projection.name].position for one in compared}
        return {one.name: one for one in with_events(compared, self._source, positions)}

    def swap(self) -> list[Swapped]:
        """Put the builds in the place of what serves, in one transaction; what served is kept beside them.

        Whoever keeps the live ones up waits meanwhile, and goes on from the builds' positions. Readers see the one or
        the other whole. Raises `Busy` when readers are in the way.
        """
        projections = list(self._shadows)
        with _locked(self._engine, projections) as (conn, live):
            built = self._finish(conn, live)
            shadows.promote(conn, projections)
        return [Swapped(one, live.get(one.name), built[shadow.name]) for one, shadow in self._shadows.items()]

    def _catch_up(self, live: Mapping[str, Kept], stop_at: int | None, told: Progress | None) -> None:
        """Bring each build to `stop_at`, or else to its live one, or where there is none to the ledger's end."""
        upto: dict[Projection, int] = {}
        for projection, shadow in self._shadows.items():
            there = live.get(projection.name)
            end = self._last() if there is None else there.position
            upto[shadow] = end if stop_at is None else stop_at
        to_reach = max(upto.values(), default=0)
        progress = None if told is None else (lambda reached: told(reached, to_reach))
        for stop in sorted(set(upto.values())):
            some = [shadow for shadow, end in upto.items() if end >= stop]
            load(
                self._engine,
                self._source,
                some,
                stop,
                page=self._page,
                held=self._held,
                beside=self._beside,
                progress=progress,
            )

    def _finish(self, conn: Connection, live: Mapping[str, Kept]) -> dict[str, Kept]:
        """Fold what came since into the builds, while nothing can come any more.

        On PostgreSQL a reader's snapshot can be older than a rename that it sees. So the builds are committed before
        it, and it comes only when all have gone whose snapshot does not have them whole.
        """
        if conn.dialect.name == "sqlite":
            return self._advance(conn, live)
        with self._engine.begin() as side:
            built = self._advance(side, live)
        wait_for_earlier(conn, self._reading)
        return built

    def _advance(self, conn: Connection, live: Mapping[str, Kept]) -> dict[str, Kept]:
        for projection, shadow in self._shadows.items():
            if projection.name in live:
                advance(conn, self._source, shadow, live[projection.name].position)
        return kept(conn)


def go_back(engine: Engine, projections: Sequence[Projection]) -> list[Swapped]:
    """Put what served before the last swap in the place of what serves, and keep that; again, and it is undone.

    Whoever keeps them up goes on from the positions where they stood. Raises `NothingToGoBackTo`, and `Busy` as
    `Rebuild.swap` does.
    """
    with _locked(engine, projections) as (conn, there):
        for projection in projections:
            old = there.get(projection.name + OLD)
            if old is None or old.version != projection.version:
                has = "nothing that served before" if old is None else f"version {old.version} only"
                raise NothingToGoBackTo(
                    f"read model {projection.name}: there is {has}, this release serves version {projection.version}"
                )
        shadows.exchange(conn, projections)
    return [Swapped(one, there.get(one.name), there[one.name + OLD]) for one in projections]


def wait_for_earlier(conn: Connection, reading: Engine) -> None:
    """On PostgreSQL, until all transactions have gone that began before now. Raises `Busy` when they do not."""
    row = conn.execute(text("SELECT pg_backend_pid() AS own, clock_timestamp() AS now")).one()
    for _ in range(_LOOKS):
        with reading.connect() as side:
            if not side.execute(_EARLIER, row._asdict()).scalar_one():
                return
            side.execute(text("SELECT pg_sleep(0.02)"))
    raise Busy("transactions that began before the swap are still open")


@contextmanager
def _locked(engine: Engine, projections: Sequence[Projection]) -> Iterator[tuple[Connection, Mapping[str, Kept]]]:
    """A transaction in which nobody moves these projections, and what is kept of all."""
    with patient(engine) as conn:
        yield conn, shadows.lock(conn, projections)


@contextmanager
def patient(engine: Engine) -> Iterator[Connection]:
    """A transaction that swaps tables. Raises `Busy` when readers keep it waiting."""
    try:
        with engine.begin() as conn:
            if conn.dialect.name == "postgresql":
                conn.execute(_PATIENCE)
            yield conn
    except OperationalError as error:
        if isinstance(error.orig, errors.LockNotAvailable | errors.DeadlockDetected):
            raise Busy(f"transactions that read the tables are still open: {error.orig}".strip()) from error
        raise
