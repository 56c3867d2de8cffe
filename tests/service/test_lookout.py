"""What many threads that wait for one thing see of it."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import pytest

from service.lookout import Lookout, Watch

FAR = 60.0


class Counter:
    """Counts its looks; each gives its own number, after what it is told to wait for."""

    def __init__(self) -> None:
        self.looks = 0
        self.began = Event()
        self.may_end = Event()
        self.may_end.set()
        self._lock = Lock()

    def look(self) -> int:
        with self._lock:
            self.looks += 1
            number = self.looks
        self.began.set()
        assert self.may_end.wait(FAR)
        return number


def within() -> float:
    return time.monotonic() + FAR


def test_a_look_of_before_the_question_is_no_answer() -> None:
    counter = Counter()
    counter.may_end.clear()
    lookout = Lookout(counter.look)
    with ThreadPoolExecutor(2) as threads:
        early = threads.submit(lookout.first, within())
        assert counter.began.wait(FAR)
        late = threads.submit(lookout.first, within())
        time.sleep(0.05)  # `late` waits beside the look that runs
        counter.may_end.set()
        assert early.result()[1] == 1
        assert late.result()[1] == 2


def test_each_later_look_is_later() -> None:
    lookout = Lookout(Counter().look)
    number, seen = lookout.first(within())
    for _ in range(3):
        before = seen
        number, seen = lookout.next(number, within())
        assert seen > before


def test_many_who_wait_share_their_looks() -> None:
    waiting, rounds = 20, 10
    counter = Counter()
    lookout = Lookout(counter.look)

    def wait() -> None:
        number, _ = lookout.first(within())
        for _ in range(rounds):
            number, _ = lookout.next(number, within())

    with ThreadPoolExecutor(waiting) as threads:
        for done in [threads.submit(wait) for _ in range(waiting)]:
            done.result()
    assert rounds < counter.looks < waiting * rounds / 2


def test_a_look_that_fails_is_the_error_of_who_looked_and_others_look_again() -> None:
    failing = [ValueError("away")]

    def look() -> str:
        if failing:
            raise failing.pop()
        return "there"

    lookout = Lookout(look)
    with pytest.raises(ValueError, match="away"):
        lookout.first(within())
    assert lookout.first(within())[1] == "there"


def test_who_has_no_time_left_looks_once_more_itself() -> None:
    counter = Counter()
    lookout = Lookout(counter.look)
    counter.may_end.clear()
    with ThreadPoolExecutor(2) as threads:
        stuck = threads.submit(lookout.first, within())
        assert counter.began.wait(FAR)
        counter.began.clear()
        late = threads.submit(lookout.first, time.monotonic())
        assert counter.began.wait(FAR)  # beside the one that is stuck
        counter.may_end.set()
        assert {stuck.result()[1], late.result()[1]} == {1, 2}


def test_one_thread_looks_for_all_who_wait_on_an_event_loop() -> None:
    counter = Counter()
    watch = Watch(Lookout(counter.look))

    async def play() -> list[int]:
        return await asyncio.gather(*(watch.until(lambda seen: seen >= 3, FAR) for _ in range(50)))

    assert set(asyncio.run(play())) == {3}
    assert (counter.looks, len(watch)) == (3, 0)


def test_who_comes_while_a_look_is_under_way_is_told_by_the_next() -> None:
    counter = Counter()
    counter.may_end.clear()
    watch = Watch(Lookout(counter.look))

    async def play() -> tuple[int, int]:
        early = asyncio.create_task(watch.until(lambda _: True, FAR))
        await asyncio.to_thread(counter.began.wait, FAR)
        late = asyncio.create_task(watch.until(lambda _: True, FAR))
        await asyncio.sleep(0.05)
        counter.may_end.set()
        return await early, await late

    assert asyncio.run(play()) == (1, 2)


def test_who_waits_in_vain_is_told_in_time_and_what_keeps_a_look_from_being_taken_reaches_all() -> None:
    def fail() -> int:
        raise OSError("away")

    async def play() -> None:
        watch = Watch(Lookout(Counter().look))
        with pytest.raises(TimeoutError):
            await watch.until(lambda _: False, 0.1)
        assert len(watch) == 0
        await watch.close()
        failing = Watch(Lookout(fail))
        told = await asyncio.gather(*(failing.until(lambda _: True, FAR) for _ in range(3)), return_exceptions=True)
        assert [str(one) for one in told] == ["away"] * 3

    asyncio.run(play())


def test_who_asks_for_what_cannot_be_is_told_so_alone() -> None:
    def fails(_: int) -> bool:
        raise LookupError("there is no such thing")

    async def play() -> list[int | BaseException]:
        watch = Watch(Lookout(Counter().look))
        asked = watch.until(fails, FAR), watch.until(lambda seen: seen >= 2, FAR)
        return await asyncio.gather(*asked, return_exceptions=True)

    no, yes = asyncio.run(play())
    assert (str(no), yes) == ("there is no such thing", 2)


def test_it_is_closed_only_when_the_look_under_way_has_ended() -> None:
    counter = Counter()
    counter.may_end.clear()
    watch = Watch(Lookout(counter.look))

    async def play() -> None:
        waiting = asyncio.create_task(watch.until(lambda _: True, FAR))
        await asyncio.to_thread(counter.began.wait, FAR)
        closing = asyncio.create_task(watch.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        counter.may_end.set()
        await closing
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(play())


def test_who_is_given_up_in_the_middle_of_a_look_does_not_keep_the_others_from_being_told() -> None:
    watch = Watch(Lookout(Counter().look))

    async def play() -> int:
        given_up: asyncio.Task[int]

        def gives_up(_: int) -> bool:
            given_up.cancel()
            return False

        first = asyncio.create_task(watch.until(lambda seen: gives_up(seen) or seen >= 2, FAR))
        given_up = asyncio.create_task(watch.until(lambda _: True, FAR))
        with pytest.raises(asyncio.CancelledError):
            await given_up
        return await asyncio.wait_for(first, FAR)

    assert asyncio.run(play()) == 2
