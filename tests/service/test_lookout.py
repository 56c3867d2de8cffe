"""What many threads that wait for one thing see of it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import pytest

from service.lookout import Lookout

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
