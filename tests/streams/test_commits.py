"""Batches that are decided ahead: whatever fails in between, the ledger holds what one batch after the other gives."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from eventsourcing.persistence import OperationalError
from hypothesis import example, given, settings
from hypothesis import strategies as st

import aggregates.ledger
from aggregates.activity import MARKER, Activity
from aggregates.database import Unavailable
from aggregates.definitions import Brand, Campaign
from aggregates.events import to_stored
from aggregates.ledger import Batch, Fenced, Ledger, Source
from aggregates.parsing import parse
from schemas.topics import ACTIVITY
from streams import commits as module
from streams.commits import Commits, GivenUp

SOURCES = tuple(Source(ACTIVITY, "e1", number) for number in range(3))
ELSEWHERE = Source(ACTIVITY, "e1", 9)
CAMPAIGN = {
    "campaign": "spring",
    "brand": "acme",
    "starts_at": 0,
    "ends_at": 10**12,
    "budget": 60,
    "earn": [
        {"rule": "spend", "on": "purchase", "per_minor": 100, "points": 3, "caps": {"total": 25}},
        {"rule": "like", "on": "interaction", "points": 1},
    ],
}
WAYS = ("well", "before", "after", "unread")
"""How a batch is stored: at once, or the connection breaks off before its commit, after it, or at reading accounts."""
AHEAD_SECONDS = 0.02


class Step(NamedTuple):
    """A batch of one source."""

    source: int
    members: Sequence[int]
    """Who buys; a member who has bought an odd number of times has the last purchase refunded instead. From 5 on: who
    likes, or takes the last like back, of which nothing is stored where the like is not known. 9: a marker."""
    way: str
    taken: bool
    """Whether another partition is taken right after it, which makes all in memory void."""


steps = st.lists(
    st.builds(
        Step,
        st.integers(0, 2),
        st.lists(st.sampled_from((0, 1, 2, 5, 6, 9)), max_size=4),
        st.sampled_from(("well", *WAYS)),
        st.booleans(),
    ),
    min_size=1,
    max_size=10,
)


def programs() -> tuple[Brand, Campaign]:
    brand, campaign = parse({"brand": "acme", "currency": "EUR"}, "test"), parse(CAMPAIGN, "test")
    assert isinstance(brand, Brand)
    assert isinstance(campaign, Campaign)
    return brand, campaign


def batches(story: Sequence[Step]) -> list[Batch]:
    brand, campaign = programs()
    ends, bought, made = [0, 0, 0], dict[str, int](), []
    for number, step in enumerate(story, 1):
        start, records = ends[step.source], []
        for offset, who in enumerate(step.members, start):
            value: dict[str, Any] = {"event_id": f"{step.source}.{offset}", "occurred_at": offset, "brand_id": "acme"}
            if who == 9:
                value["campaign_id"] = "spring"
                records.append(Activity(MARKER, offset, value, brand, (), False, (), "unknown", None, False))
                continue
            member = f"m{step.source}{who}"
            times = bought[member] = bought.get(member, 0) + 1
            if who >= 5:
                value |= {"member_id": member, "kind": "like", "surface": "brand_post", "platform": "x"}
                value |= {"post_id": None, "actor_id": None, "campaign_id": None, "quantity": 1 if times % 2 else -1}
                seen: Any = (value, brand, (campaign,), False, (), "unknown", None, False)
                records.append(Activity("Interaction", offset, *seen))
                continue
            value |= {"member_id": member, "amount_minor": 100, "currency": "EUR", "campaign_id": None}
            value |= {"order_id": f"{member}.{(times - 1) // 2}", "kind": "completed" if times % 2 else "refunded"}
            value["referrer_id"] = None
            records.append(Activity("Purchase", offset, value, brand, (campaign,), False, (), "unknown", None, False))
        ends[step.source] = end = start + len(records) + 1
        made.append(Batch(SOURCES[step.source], start, end, records, 7, "w", number))
    return made


@contextmanager
def opened(directory: Path, name: str) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{directory / name}.db")
    made.migrate()
    for source in SOURCES:
        made.take(source, "w", 0)
    try:
        yield made
    finally:
        made.close()


def stored(ledger: Ledger) -> list[tuple[str, tuple[str, bytes]]]:
    """Every event with what it is of, in their order."""
    return [(one.originator, to_stored(one.event)) for one in ledger.notifications(0, 10_000)]


def breaking(ledger: Ledger, ways: dict[int, str]) -> list[int]:
    """From now on, the first try of each batch (by its number) goes one of `WAYS`; of how many each transaction is."""
    together: list[int] = []
    write, histories, writing = ledger.store.write, ledger.store.histories, ledger.store.writing
    decide, decided, now = ledger.decide, {0}, threading.local()
    last = max(ways)

    def seen(batch: Batch) -> Any:
        try:
            return decide(batch)
        finally:
            decided.add(batch.number)

    def broken_write(rows: Any, *tracking: Any) -> range:
        """It takes until the next two batches are decided, if that is soon: so they are decided ahead, and together."""
        numbers = [one.number for one in tracking]
        if numbers and threading.current_thread().name.startswith("ledger-st"):
            deadline = time.monotonic() + AHEAD_SECONDS
            while min(numbers[-1] + 2, last) not in decided and time.monotonic() < deadline:
                time.sleep(0.0005)
        now.way = next((way for way in [ways.pop(number, "well") for number in numbers] if way != "well"), "well")
        together.append(len(numbers))
        return write(rows, *tracking)

    @contextmanager
    def broken_writing() -> Iterator[Any]:
        with writing() as cursor:
            yield cursor
            if getattr(now, "way", "well") == "before":
                raise OperationalError("broke off")
        if getattr(now, "way", "well") == "after":
            raise OperationalError("broke off after the commit")

    def broken_histories(names: Sequence[str]) -> Any:
        unread = next((number for number, way in ways.items() if way == "unread"), None)
        if unread is not None:
            ways.pop(unread)
            raise OperationalError("broke off")
        return histories(names)

    ledger.decide = seen  # type: ignore[method-assign]
    ledger.store.write = broken_write  # type: ignore[method-assign]
    ledger.store.writing = broken_writing  # type: ignore[method-assign]
    ledger.store.histories = broken_histories  # type: ignore[method-assign]
    return together


@settings(max_examples=150, deadline=None)
@example(story=[Step(n, (who,), "well", False) for n, who in ((0, 5), (1, 6), (0, 5))], accounts=1, pause=False)
@given(story=steps, accounts=st.sampled_from((1, 2, 50_000)), pause=st.booleans())
def test_what_fails_and_what_is_void_in_between_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, story: list[Step], accounts: int, pause: bool
) -> None:
    directory, waiting = tmp_path_factory.mktemp("ledgers"), list[Future[None]]()
    made = batches(story)
    with (
        pytest.MonkeyPatch.context() as patch,
        opened(directory, "ahead") as ledger,
        opened(directory, "plain") as plain,
    ):
        patch.setattr(module, "RETRY_SECONDS", 0.001)
        patch.setattr(aggregates.ledger, "CACHED_ACCOUNTS", accounts)
        for batch in made:
            plain.consume(batch)
        breaking(ledger, {number: step.way for number, step in enumerate(story, 1)})
        with Commits(ledger) as commits:
            for step, batch in zip(story, made, strict=True):
                waiting.append(commits.submit(partial(_itself, batch), threading.Event()))
                if step.taken:
                    ledger.take(ELSEWHERE, "w", 0)
                if pause:
                    waiting[-1].result(20)
            for one in waiting:
                one.result(20)
        assert stored(ledger) == stored(plain)
        assert [ledger.position(source) for source in SOURCES] == [plain.position(source) for source in SOURCES]
        budget = [("acme", "spring")]
        assert ledger.store.spent(budget) == plain.store.spent(budget)


def _itself(batch: Batch) -> Batch:
    return batch


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with opened(tmp_path, "ledger") as made:
        yield made


def buys(source: int, *members: int) -> Step:
    return Step(source, members, "well", False)


def test_the_next_batch_is_decided_while_one_is_being_stored(ledger: Ledger) -> None:
    first, second = batches([buys(0, 0, 1), buys(0, 0)])
    decided, writing = threading.Event(), ledger.store.writing
    decide = ledger.decide

    def seen(batch: Batch) -> Any:
        found = decide(batch)
        if batch is second:
            decided.set()
        return found

    @contextmanager
    def slow() -> Iterator[Any]:
        with writing() as cursor:
            yield cursor
            assert decided.wait(20), "nothing is decided meanwhile"

    ledger.decide, ledger.store.writing = seen, slow  # type: ignore[method-assign]
    with Commits(ledger) as commits:
        done = [commits.submit(partial(_itself, one), threading.Event()) for one in (first, second)]
        assert [one.result(20) for one in done] == [None, None]


def test_what_is_decided_meanwhile_is_stored_together_but_no_two_batches_of_one_partition(ledger: Ledger) -> None:
    made = batches([buys(0, 0), buys(0, 1), buys(1, 0), buys(2, 0), buys(1, 1), buys(0, 2)])
    decide, write, decided, stored_together = ledger.decide, ledger.store.write, threading.Event(), list[list[int]]()

    def seen(batch: Batch) -> Any:
        if batch is made[4]:
            decided.set()  # all before it are
        return decide(batch)

    def slow(rows: Any, *tracking: Any) -> range:
        assert decided.wait(20)
        stored_together.append([one.number for one in tracking])
        return write(rows, *tracking)

    ledger.decide, ledger.store.write = seen, slow  # type: ignore[method-assign]
    with Commits(ledger) as commits:
        for one in made:
            commits.submit(partial(_itself, one), threading.Event())
    assert stored_together[:2] == [[1], [2, 3, 4]]
    assert sorted(chain(*stored_together)) == [1, 2, 3, 4, 5, 6]
    assert [ledger.position(source) for source in SOURCES] == [made[5].end, made[4].end, made[3].end]


def test_a_transaction_of_many_batches_is_of_so_many_records_at_most(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ACTIVITIES", 3)
    made = batches([buys(0, 0), buys(1, 0, 1), buys(2, 0, 1), buys(0, 1)])
    together = breaking(ledger, dict.fromkeys(range(1, 5), "well"))
    with Commits(ledger) as commits:
        for one in made:
            commits.submit(partial(_itself, one), threading.Event())
    assert max(together) <= 2
    assert sum(together) == 4


def test_whoever_lost_a_partition_is_told_and_the_other_partitions_go_on(ledger: Ledger, tmp_path: Path) -> None:
    made = batches([buys(0, 0), buys(0, 1), buys(1, 0), buys(0, 2), buys(1, 1)])
    other = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    other.take(SOURCES[0], "other", 0)
    with Commits(ledger) as commits:
        done = [commits.submit(partial(_itself, one), threading.Event()) for one in made]
        found = [one.exception(20) for one in done]
    assert [type(error) for error in found] == [Fenced, Fenced, type(None), Fenced, type(None)]
    assert ledger.position(SOURCES[1]) == made[-1].end
    other.close()


def test_a_partition_that_is_given_up_while_the_database_is_away_lets_the_next_one_through(ledger: Ledger) -> None:
    mine, theirs = batches([buys(0, 0), buys(1, 0)])
    write, tried, given_up = ledger.store.write, threading.Event(), threading.Event()

    def away(rows: Any, *tracking: Any) -> range:
        if any(one.application_name == SOURCES[0].name for one in tracking):
            tried.set()
            raise Unavailable("away")
        return write(rows, *tracking)

    ledger.store.write = away  # type: ignore[method-assign]
    with Commits(ledger) as commits:
        lost = commits.submit(partial(_itself, mine), given_up)
        kept = commits.submit(partial(_itself, theirs), threading.Event())
        assert tried.wait(20)
        given_up.set()
        assert isinstance(lost.exception(20), GivenUp)
        assert kept.result(20) is None
    assert ledger.position(SOURCES[1]) == theirs.end


def test_what_is_given_up_while_it_waits_is_not_tried_and_keeps_nobody(ledger: Ledger) -> None:
    made = batches([buys(n % 3, n) for n in range(9)])
    tried, given_up = threading.Event(), threading.Event()

    def away(rows: Any, *tracking: Any) -> range:
        tried.set()
        raise Unavailable("away")

    ledger.store.write = away  # type: ignore[method-assign]
    with Commits(ledger) as commits:
        done = [commits.submit(partial(_itself, one), given_up) for one in made]
        assert tried.wait(20)
        given_up.set()
    assert [type(one.exception(0)) for one in done] == [GivenUp] * 9
    assert stored(ledger) == []


def test_small_batches_of_several_partitions_that_come_at_once_are_one_transaction(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOGETHER_SECONDS", 0.5)
    made = batches([buys(0, 0), buys(1, 0), buys(2, 0), buys(0, 1), buys(1, 1, 2, 3), buys(0, 2), buys(1, 4, 5, 6)])
    together = breaking(ledger, dict.fromkeys(range(1, 8), "well"))
    with Commits(ledger) as commits:
        done = [commits.submit(partial(_itself, one), threading.Event()) for one in made[:3]]
        assert [one.result(20) for one in done] == [None] * 3
        assert together == [3]
        assert commits.submit(partial(_itself, made[3]), threading.Event()).result(20) is None  # though none comes
        monkeypatch.setattr(module, "SMALL", 3)
        started = time.monotonic()
        commits.submit(partial(_itself, made[4]), threading.Event()).result(20)
        assert time.monotonic() - started < 0.4  # a large one waits for nothing
        started = time.monotonic()
        for one in [commits.submit(partial(_itself, one), threading.Event()) for one in made[5:]]:
            one.result(20)
        assert time.monotonic() - started < 0.4  # and ends the wait of a small one
    assert together == [3, 1, 1, 2]


def test_after_a_transaction_that_broke_off_the_next_ones_are_of_many_batches_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL", 0)  # the first waits for no others
    made = batches([buys(n % 3, n) for n in range(13)])
    decide, write, queued, together = ledger.decide, ledger.store.write, threading.Event(), list[list[int]]()
    seen = set[int]()

    def deciding(batch: Batch) -> Any:
        seen.add(batch.number)
        if len(seen) == 5:  # so those before it wait together
            queued.set()
        return decide(batch)

    def breaks_once(rows: Any, *tracking: Any) -> range:
        assert queued.wait(20)
        together.append([one.number for one in tracking])
        if len(together) == 1:
            raise Unavailable("broke off")
        return write(rows, *tracking)

    ledger.decide, ledger.store.write = deciding, breaks_once  # type: ignore[method-assign]
    with Commits(ledger) as commits:
        done = [commits.submit(partial(_itself, one), threading.Event()) for one in made]
    assert [one.exception(0) for one in done] == [None] * 13
    assert together[:3] == [[1], [1], [2, 3, 4]]
    assert sorted(chain(*together[1:])) == [*range(1, 14)]
    assert max(len(one) for one in together[3:]) == 3


@pytest.mark.parametrize("given_up", [False, True])
def test_a_process_ends_though_batches_wait_for_the_ledger(tmp_path: Path, given_up: bool) -> None:
    """Its main thread is at its end while the first is being stored, and more of that partition than one wait."""
    program = f"""
import sys, threading, time
from functools import partial
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_commits import Commits, _itself, batches, buys, opened

opened_for_ever = opened(Path({str(tmp_path)!r}), "ledger")
ledger = opened_for_ever.__enter__()
made, given_up, write, asked = batches([buys(0, n) for n in range(6)]), threading.Event(), ledger.store.write, []

def slow(rows, *tracking):
    if not asked:
        asked.append(1)
        time.sleep(0.5)
    return write(rows, *tracking)

ledger.store.write = slow
commits = Commits(ledger)
done = [commits.submit(partial(_itself, one), given_up) for one in made]
while not asked:
    time.sleep(0.001)
if {given_up}:
    given_up.set()
sys.exit(3)
"""
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True, check=False)
    assert ended.returncode == 3, ended.stderr
    assert "Traceback" not in ended.stderr
