"""Ledgers of earlier releases are read for ever, and their read models come out the same, however they are built."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from golden_ledger import GOLDEN, PINNED, Line, built, digests, lines, releases, stored
from sqlalchemy import Engine

from aggregates.database import open_database
from aggregates.events import STORED_NAMES, from_stored, to_stored
from projections.queries.books import trial_balance
from projections.registry import LEDGER
from projections.upkeep.rebuild import Rebuild
from projections.upkeep.runner import Runner, prepare
from projections.upkeep.verify import verify

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


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("release", releases())
def test_its_digests_are_the_same_however_the_batches_of_several_workers_came_in_between_one_another(
    release: str, seed: int, tmp_path: Path
) -> None:
    address = f"sqlite:///{tmp_path / 'golden.db'}"
    ledger, engine = stored(release, address, mixed(release, random.Random(seed))), open_database(address)
    built(ledger, engine, 40)
    assert digests(engine) == json.loads(PINNED.read_text(encoding="utf-8"))[release]
    engine.dispose()
    ledger.close()


def mixed(release: str, chance: random.Random) -> list[Line]:
    """The events in another order, in which each aggregate keeps its own."""
    waiting: dict[str, list[Line]] = {}
    for line in lines(release):
        waiting.setdefault(line.aggregate, []).append(line)
    order = [line.aggregate for line in lines(release)]
    chance.shuffle(order)
    return [waiting[aggregate].pop(0) for aggregate in order]


@pytest.mark.parametrize("runners", [2, 3])
@pytest.mark.parametrize("release", releases())
def test_its_digests_are_the_same_for_several_runners_at_once(
    release: str, runners: int, fresh: Callable[[], Engine]
) -> None:
    engine = fresh()
    ledger = stored(release, address_of(engine))
    prepare(engine, LEDGER)
    failed: list[BaseException] = []

    def run(page: int) -> None:
        try:
            Runner(engine, ledger.notifications, LEDGER, page=page).catch_up()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(page,)) for page in (5, 8, 13)[:runners]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed
    assert digests(engine) == json.loads(PINNED.read_text(encoding="utf-8"))[release]
    ledger.close()


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
