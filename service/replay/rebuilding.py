"""`replay rebuild`: which read models, one rebuild at a time, from the build to the swap, and back."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine

from aggregates.database import Exclusive, Lock, open_database
from aggregates.ledger import Ledger
from projections import registry
from projections.engagement import rebuild as engagement_rebuild
from projections.engagement.digest import TOPIC_OF
from projections.projection import Projection
from projections.upkeep import rebuild
from projections.upkeep.rebuild import Busy, NothingToGoBackTo, Rebuild, Swapped
from projections.upkeep.runner import CACHE_KIB, Kept
from projections.upkeep.verify import Progress, Verified
from service.problems import Unusable
from service.replay import rebuilding_engagement
from service.settings import Settings

T = TypeVar("T")

ALL: Final = "all"
PATIENCE_SECONDS: Final = 60.0
"""How long a swap tries to get past readers with long transactions."""
PAUSE_SECONDS: Final = 0.2


class Rebuilt(BaseModel):
    """One read model, and what a rebuild, or going back, made of it."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: int
    position: int | str = Field(
        description="What the build includes: a ledger position, or `partition:offset,…` of a pane topic"
    )
    rows: int
    digest: str
    replaced: int | None = Field(description="The version that served before; null when none did, or none was replaced")
    compared: Verified | None = Field(
        description="What served beside the build, at one position; null where its version is another, or it is behind"
    )


class RebuildReport(BaseModel):
    """What a rebuild, or going back, did."""

    model_config = ConfigDict(frozen=True)

    swapped: bool = Field(description="Whether the builds serve now")
    projections: list[Rebuilt]

    @property
    def same(self) -> bool:
        """Whether no row differed from the one that served, of those that were compared."""
        return all(one.compared is None or one.compared.same for one in self.projections)


class Chosen(NamedTuple):
    """What to build."""

    ledger: list[Projection]
    """Of the ledger's read models, in the registry's order."""
    engagement: bool
    """The engagement tables; all of them, for they are built together."""


def chosen(names: Sequence[str]) -> Chosen:
    """The read models of these names; of `all`, every one. Raises `Unusable` for another name."""
    known = {projection.name: projection for projection in registry.LEDGER}
    for name in names:
        if name not in known and name not in TOPIC_OF and name != ALL:
            raise Unusable(f"there is no read model {name}: there are {', '.join((*known, *TOPIC_OF))}, or all")
    every = ALL in names
    some = [projection for name, projection in known.items() if name in names or every]
    return Chosen(some, every or any(name in TOPIC_OF for name in names))


def run(settings: Settings, names: Sequence[str], stop_at: int | None, told: Progress) -> RebuildReport:
    """Build these read models anew, compare them with what serves, and swap; with `stop_at` only build, up to there.

    `told` gets the position reached and the one to reach. Raises `Unusable` when the ledger ends before `stop_at`, when
    another rebuild is at work, or when readers kept the swap waiting too long: the builds stay, and the next one goes
    on.
    """
    work = chosen(names)
    if stop_at is not None and any(name in TOPIC_OF for name in names):
        raise Unusable(
            "--stop-at is a ledger position, and the engagement tables are built from topics: leave them out"
        )
    engine = open_database(settings.database, cache_kib=CACHE_KIB)
    reading = open_database(settings.database, read_only=True)
    ledger = Ledger(settings.database)
    lock = Exclusive(settings.database, Lock.REBUILD)
    try:
        if stop_at is not None and stop_at > (last := ledger.last_notification()):
            raise Unusable(f"--stop-at {stop_at}: the ledger ends at position {last}")
        _alone(lock)
        done = []
        if work.ledger:
            build = Rebuild(
                engine,
                reading,
                ledger.notifications,
                ledger.last_notification,
                work.ledger,
                beside=settings.database,
            )
            with without_garbage():
                built = build.build(stop_at, told)
            if stop_at is not None:  # with `all`, of the ledger's alone
                return RebuildReport(swapped=False, projections=[_rebuilt(p, built[p.name]) for p in work.ledger])
            compared = build.compare(told)
            done += _reported(_patiently(build.swap), compared)
        if work.engagement:
            done += _engagement(rebuilding_engagement.rebuild(settings, engine, reading, told, _patiently))
        return RebuildReport(swapped=True, projections=done)
    finally:
        lock.release()
        ledger.close()
        reading.dispose()
        engine.dispose()


def go_back(settings: Settings, names: Sequence[str]) -> RebuildReport:
    """Have the read models serve that served before the last swap. Raises `Unusable` where that cannot be."""
    work = chosen(names)
    engine: Engine = open_database(settings.database)
    reading = open_database(settings.database, read_only=True)
    lock = Exclusive(settings.database, Lock.REBUILD)
    try:
        _alone(lock)
        done = []
        if work.engagement:
            with reading.connect() as conn:
                engagement_rebuild.check_old(conn)
        if work.ledger:
            done += _reported(_patiently(lambda: rebuild.go_back(engine, work.ledger)), {})
        if work.engagement:
            _patiently(lambda: engagement_rebuild.go_back(engine))
            done += _engagement(rebuilding_engagement.built_now(reading, {}))
        return RebuildReport(swapped=True, projections=done)
    except NothingToGoBackTo as error:
        raise Unusable(str(error)) from error
    finally:
        lock.release()
        reading.dispose()
        engine.dispose()


@contextmanager
def without_garbage() -> Iterator[None]:
    """Pages hold no cycles: looking for some, over and over in all of a page, took a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _alone(lock: Exclusive) -> None:
    if not lock.acquire():
        raise Unusable("another rebuild is at work on this database: wait until it has ended")


def _patiently(swap: Callable[[], T]) -> T:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return swap()
        except Busy as error:
            if time.monotonic() >= deadline:
                raise Unusable(
                    f"nothing was swapped within {PATIENCE_SECONDS:g} s: {error}. The builds are kept: run it again"
                ) from error
        time.sleep(PAUSE_SECONDS)


def _reported(swapped: Sequence[Swapped], compared: dict[str, Verified]) -> list[Rebuilt]:
    return [_rebuilt(one.projection, one.after, one.before, compared.get(one.projection.name)) for one in swapped]


def _engagement(built: Sequence[rebuilding_engagement.Built]) -> list[Rebuilt]:
    return [Rebuilt(**one._asdict(), replaced=one.version) for one in built]


def _rebuilt(
    projection: Projection, after: Kept, before: Kept | None = None, compared: Verified | None = None
) -> Rebuilt:
    return Rebuilt(
        name=projection.name,
        version=after.version,
        position=after.position,
        rows=after.digest.rows,
        digest=after.digest.hexadecimal(),
        replaced=None if before is None else before.version,
        compared=compared,
    )
