"""Fills read models that nobody reads yet, in one pass over the ledger: the quick way, for builds.

A read model that only ever gets new rows is written page by page, to tables that get their keys when they are full. Of
one that adds up, rows are held in memory and written when there are many of them, or at the end. Each is written with
its own position and digest in one transaction, so whatever was interrupted goes on from there; the runner does the
same in small steps, and the tests hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, Engine

from projections import registry
from projections.projection import Held, Page, Projection, Source, combine
from projections.upkeep.folding import FAR, Folded, Start, folded_beside
from projections.upkeep.rows import NOTHING, Digest, append, digest_of_rows, write
from projections.upkeep.runner import NEXT, Kept, kept, move, store, tally
from projections.upkeep.shadows import has_keys

PAGE: Final = 20_000
"""Events a transaction."""
HELD: Final = 250_000
"""Rows in memory, about 400 bytes each."""


@dataclass(slots=True)
class _Filling:
    projection: Projection
    kept: Kept
    """What is in the database."""
    reached: int
    """The position that what is held brings it to."""
    appends: bool
    held: Held = field(default_factory=dict)
    digest: Digest = NOTHING
    """Of the rows held of one that appends."""

    @property
    def base(self) -> str:
        """The read model's name, without the ending of a build."""
        return self.projection.name.removesuffix(NEXT)

    def rows(self) -> int:
        return sum(map(len, self.held.values()))

    def fold(self, events: Page) -> None:
        """Hold a page."""
        self.projection.hold(events, self.held)
        self.reached = events[-1].id
        if self.appends:
            for target in self.projection.tables:
                self.digest = self.digest.plus(digest_of_rows(target, self.held.get(target.name, {}).values()))

    def take(self, page: Folded) -> None:
        """Hold a page that was folded elsewhere."""
        changes = page.rows.get(self.base)
        if changes is None:
            return
        for target in self.projection.tables:
            combine(target, self.held.setdefault(target.name, {}), changes.get(target.name, ()))
        self.digest = self.digest.plus(page.digests.get(self.base, NOTHING))
        self.reached = page.reached

    def write(self, conn: Connection) -> Kept:
        """Write what is held; what is kept then."""
        one, there = self.projection, self.kept
        if not self.appends and there.position:
            return store(conn, {one: self.held}, {one: there}, self.reached)[one]
        move(conn, {one: there.position}, self.reached)()
        came = self.digest
        for target in one.tables:
            if self.appends:
                append(conn, target, self.held.get(target.name, {}).values())
            else:
                came = came.plus(write(conn, target, self.held.get(target.name, {}), all_new=True))
        tally(conn, {one: there.digest}, {one: came})()
        return Kept(one.version, self.reached, there.digest.plus(came))

    def written(self, now: Kept) -> None:
        self.kept, self.held, self.digest = now, {}, NOTHING


def load(
    engine: Engine,
    source: Source,
    projections: Iterable[Projection],
    stop: int,
    *,
    page: int = PAGE,
    held: int = HELD,
    beside: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Bring projections up to the event of id `stop`; nobody else may write them meanwhile.

    `beside` is the address of the ledger: when much is to be done, processes of their own read it there. `progress` is
    called after each page with the position reached in memory.
    """
    with engine.connect() as conn:
        there = kept(conn)
        work = [
            _Filling(one, there[one.name], there[one.name].position, not has_keys(conn, one)) for one in projections
        ]

    def done(reached: int) -> None:
        _write(engine, [one for one in work if one.appends])
        if sum(one.rows() for one in work) > held:
            _write_each(engine, work)
        if progress is not None:
            progress(reached)

    if beside is not None and _is_far(work, stop):
        starts = {one.base: Start(one.reached, one.appends) for one in work}
        for folded in folded_beside(beside, starts, stop, page):
            for one in work:
                one.take(folded)
            done(folded.reached)
    while work and (reached := _fold(source, work, stop, page)):
        done(reached)
    _write_each(engine, work)


def _is_far(work: Sequence[_Filling], stop: int) -> bool:
    """Whether processes of their own are worth it, and know what to fold."""
    known = {projection.name: projection.fold for projection in registry.LEDGER}
    if any(known.get(one.base) is not one.projection.fold for one in work):
        return False
    return stop - min((one.reached for one in work), default=stop) >= FAR


def _fold(source: Source, work: Sequence[_Filling], stop: int, page: int) -> int:
    """Hold the next page of events; the id of its last, 0 when there is none up to `stop`."""
    after = min(one.reached for one in work)
    events = source(after, page)
    if events and events[-1].id > stop:
        events = [recorded for recorded in events if recorded.id <= stop]
    if not events:
        return 0
    reached = events[-1].id
    pages = {at: Page(events if at == after else [r for r in events if r.id > at]) for at in {w.reached for w in work}}
    for one in work:
        if one.reached < reached:
            one.fold(pages[one.reached])
    return reached


def _write_each(engine: Engine, work: Iterable[_Filling]) -> None:
    """In transactions of their own: on SQLite the ledger waits for each."""
    for one in work:
        _write(engine, [one])


def _write(engine: Engine, work: Sequence[_Filling]) -> None:
    moved = [one for one in work if one.kept.position < one.reached]
    if not moved:
        return
    with engine.begin() as conn:
        now = [one.write(conn) for one in moved]
    for one, there in zip(moved, now, strict=True):
        one.written(there)
