"""`replay rebuild`: which read models, one rebuild at a time, from the build to the swap, and back."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine

from aggregates.database import Exclusive, Lock, open_database
from aggregates.ledger import Ledger
from projections import rebuild, registry
from projections.engagement_digest import TOPIC_OF
from projections.projection import Projection
from projections.rebuild import Busy, NothingToGoBackTo, Rebuild, Swapped
from projections.runner import CACHE_KIB, Kept
from projections.verify import Progress, Verified
from service.problems import Unusable
from service.settings import Settings

ALL: Final = "all"
PATIENCE_SECONDS: Final = 60.0
"""How long a swap tries to get past readers with long transactions."""
PAUSE_SECONDS: Final = 0.2


class Rebuilt(BaseModel):
    """One read model, and what a rebuild, or going back, made of it."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: int
    position: int = Field(description="The ledger position that the build includes")
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


def chosen(names: Sequence[str]) -> list[Projection]:
    """The read models of these names, in the registry's order; of `all`, every one of the ledger.

    Raises `Unusable` for another name.
    """
    known = {projection.name: projection for projection in registry.LEDGER}
    for name in names:
        if name in TOPIC_OF:
            raise Unusable(
                f"{name} is built from {TOPIC_OF[name]}, not from the ledger: `groundswell replay verify` compares it "
                "with its topic; to build the engagement tables anew see docs/operations.md"
            )
        if name not in known and name != ALL:
            raise Unusable(f"there is no read model {name}: there are {', '.join(known)}, or all")
    return [projection for name, projection in known.items() if name in names or ALL in names]


def run(settings: Settings, names: Sequence[str], stop_at: int | None, told: Progress) -> RebuildReport:
    """Build these read models anew, compare them with what serves, and swap; with `stop_at` only build, up to there.

    `told` gets the position reached and the one to reach. Raises `Unusable` when another rebuild is at work, or when
    readers kept the swap waiting too long: the builds stay, and the next one goes on.
    """
    projections = chosen(names)
    engine = open_database(settings.database, cache_kib=CACHE_KIB)
    reading = open_database(settings.database, read_only=True)
    ledger = Ledger(settings.database)
    lock = Exclusive(settings.database, Lock.REBUILD)
    try:
        _alone(lock)
        work = Rebuild(engine, reading, ledger.notifications, ledger.last_notification, projections)
        with without_garbage():
            built = work.build(stop_at, told)
        if stop_at is not None:
            return RebuildReport(swapped=False, projections=[_rebuilt(p, built[p.name]) for p in projections])
        compared = work.compare(told)
        swapped = _patiently(work.swap)
    finally:
        lock.release()
        ledger.close()
        reading.dispose()
        engine.dispose()
    return _report(swapped, compared)


def go_back(settings: Settings, names: Sequence[str]) -> RebuildReport:
    """Have the read models serve that served before the last swap. Raises `Unusable` where that cannot be."""
    projections = chosen(names)
    engine: Engine = open_database(settings.database)
    lock = Exclusive(settings.database, Lock.REBUILD)
    try:
        _alone(lock)
        return _report(_patiently(lambda: rebuild.go_back(engine, projections)), {})
    except NothingToGoBackTo as error:
        raise Unusable(str(error)) from error
    finally:
        lock.release()
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


def _patiently(swap: Callable[[], list[Swapped]]) -> list[Swapped]:
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


def _report(swapped: Sequence[Swapped], compared: dict[str, Verified]) -> RebuildReport:
    return RebuildReport(
        swapped=True,
        projections=[
            _rebuilt(one.projection, one.after, one.before, compared.get(one.projection.name)) for one in swapped
        ],
    )


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
