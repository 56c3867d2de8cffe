"""Ledgers of earlier releases are read for ever, and their read models come out the same, however they are built."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from golden_ledger import GOLDEN, PINNED, built, digests, lines, releases, stored
from sqlalchemy import Engine

from aggregates.database import open_database
from aggregates.events import STORED_NAMES, from_stored, to_stored
from projections.books_queries import trial_balance
from projections.rebuild import Rebuild
from projections.registry import LEDGER
from projections.verify import verify

PIN = "python tests/projections/golden_ledger.py pin"


def test_every_kind_of_event_is_in_some_golden_ledger() -> None:
    assert {line.name for release in releases() for line in lines(release)} == set(STORED_NAMES)


@pytest.mark.parametrize("release", releases())
def test_a_golden_ledger_is_small_and_each_of_its_events_is_read_and_means_the_same(release: str) -> None:
    assert (GOLDEN / f"{release}.tsv").stat().st_size < 300_000
    for line in lines(release):
        event = from_stored(line.name, line.state.encode())
        assert from_stored(*to_stored(event)) == event


def address_of(engine: Engine) -> str:
    return engine.url.set(drivername=engine.url.get_backend_name()).render_as_string(hide_password=False)


@pytest.mark.parametrize("page", [3, 50, 5_000])
@pytest.mark.parametrize("release", releases())
def test_its_digests_are_the_pinned_ones_for_any_page_on_both_databases(
    release: str, page: int, fresh: Callable[[], Engine]
) -> None:
    engine = fresh()
    ledger = stored(release, address_of(engine))
    built(ledger, engine, page)
    found = digests(engine)
    with engine.connect() as conn:
        assert trial_balance(conn) == 0
    ledger.close()
    pinned = json.loads(PINNED.read_text(encoding="utf-8"))[release]
    for name, model in found.items():
        assert model == pinned.get(name), f"{name}: if its version was raised, pin it anew: {PIN}"


@pytest.mark.parametrize("release", releases())
def test_ten_interruptions_and_a_rebuild_beside_it_change_none(release: str, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'golden.db'}"
    ledger, engine = stored(release, address), open_database(address)
    pages = len(lines(release)) // 7
    ends = set(random.Random(release).sample(range(1, pages), 10))
    built(ledger, engine, 7, ends.__contains__)
    pinned = json.loads(PINNED.read_text(encoding="utf-8"))[release]
    assert digests(engine) == pinned
    reading = open_database(address, read_only=True)
    for stop in sorted(ends):  # each time one that goes on where the one before was
        Rebuild(engine, reading, ledger.notifications, ledger.last_notification, LEDGER, page=11).build(stop * 7)
    work = Rebuild(engine, reading, ledger.notifications, ledger.last_notification, LEDGER, page=11)
    work.build()
    assert all(one.same for one in work.compare().values())
    work.swap()
    assert digests(engine) == pinned
    assert all(one.same for one in verify(engine, ledger.notifications).projections)
    reading.dispose()
    engine.dispose()
    ledger.close()
