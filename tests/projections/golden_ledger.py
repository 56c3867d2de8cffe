"""Golden ledgers: the events of a small ledger as a release stored them, and the digests of its read models.

A ledger file is never written anew. To add that of a release, run a small community and every kind of command through
a stack of it, and dump its database:

    python tests/projections/golden_ledger.py dump 1.0 DATA_DIR/groundswell.db

When the version of a read model is raised, pin its digests anew, and look at what changed:

    python tests/projections/golden_ledger.py pin
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from sqlalchemy import Engine  # noqa: E402

from aggregates.database import open_database  # noqa: E402
from aggregates.ledger import Ledger  # noqa: E402
from projections.registry import DIGESTED, LEDGER  # noqa: E402
from projections.upkeep.digest import digest  # noqa: E402
from projections.upkeep.runner import Runner, prepare  # noqa: E402

GOLDEN = HERE / "golden"
PINNED = GOLDEN / "digests.json"


class Line(NamedTuple):
    """One stored event: its aggregate, its place in it, its stored name and its bytes as text."""

    aggregate: str
    version: int
    name: str
    state: str


def releases() -> list[str]:
    """The releases that have a golden ledger."""
    return sorted(path.stem for path in GOLDEN.glob("*.tsv"))


def lines(release: str) -> list[Line]:
    """The events of a release's ledger, in the order they were stored."""
    text = (GOLDEN / f"{release}.tsv").read_text(encoding="utf-8")
    parts = (line.split("\t") for line in text.splitlines())
    return [Line(aggregate, int(version), name, state) for aggregate, version, name, state in parts]


def stored(release: str, database: str, events: Sequence[Line] = ()) -> Ledger:
    """A ledger of a release's events (or of `events`) in an empty database, written as the ledger writes them."""
    ledger = Ledger(database)
    ledger.migrate()
    written = events or lines(release)
    ledger.store.write([(one.aggregate, one.version, one.name, one.state.encode()) for one in written])
    return ledger


def digests(engine: Engine) -> dict[str, dict[str, Any]]:
    """Version, number of rows and digest of each read model."""
    with engine.connect() as conn:
        found = digest(conn, DIGESTED).projections
    return {one.name: {"version": one.version, "rows": one.rows, "digest": one.digest} for one in found}


def built(ledger: Ledger, engine: Engine, page: int, stop: Callable[[int], bool] = lambda page: False) -> None:
    """Fold all of a ledger in pages of a size, by a runner of its own for each page after which `stop` says so."""
    prepare(engine, LEDGER)
    runner, pages = Runner(engine, ledger.notifications, LEDGER, page=page), 0
    while runner.step():
        pages += 1
        if stop(pages):
            runner = Runner(engine, ledger.notifications, LEDGER, page=page)


def dump(release: str, database: str) -> None:
    """Write the events of a stack's database as the golden ledger of a release."""
    target = GOLDEN / f"{release}.tsv"
    if target.exists():
        sys.exit(f"{target} is there: a golden ledger is never written anew")
    target.write_text("".join(_dumped(database)), encoding="utf-8")


def _dumped(database: str) -> Iterator[str]:
    query = "SELECT originator_id, originator_version, topic, state FROM stored_events ORDER BY rowid"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as source:
        for aggregate, version, name, state in source.execute(query):
            yield f"{aggregate}\t{version}\t{name}\t{bytes(state).decode()}\n"


def pin() -> None:
    """Write the digests that this release's read models have of every golden ledger."""
    found = {}
    for release in releases():
        with tempfile.TemporaryDirectory() as directory:
            address = f"sqlite:///{Path(directory) / 'golden.db'}"
            ledger, engine = stored(release, address), open_database(address)
            built(ledger, engine, 100)
            found[release] = digests(engine)
            engine.dispose()
            ledger.close()
    PINNED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["dump", release, database]:
            dump(release, database)
            pin()
        case ["pin"]:
            pin()
        case _:
            sys.exit(__doc__)
