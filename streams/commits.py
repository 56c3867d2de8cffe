"""The ledger's batches in their order: they are decided while those before them are being stored, in one transaction.

What was decided meanwhile, of several partitions, is the next transaction. When one is not stored at once (the database
away, a budget that another worker took from), each of its batches is decided and tried again alone before any other
one is written, until it is stored or given up. Whatever was decided on it meanwhile is void, and is decided again too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from time import perf_counter
from typing import Self

import structlog

from aggregates.database import Unavailable
from aggregates.ledger import Batch, Decided, Ledger
from streams.metrics import METRICS

log = structlog.get_logger()
RETRY_SECONDS = 0.5
TOGETHER_SECONDS = 0.004
"""How long a small batch waits, while nothing is being stored, for others to be stored with: one fetch brings records
of several partitions, and a transaction costs as much as dozens of them."""
SMALL = 200
"""Activities of a batch that waits so."""
MOST_ACTIVITIES = 5_000
"""Activities of one transaction at most, if it is of more than one batch; and of a batch that is made of several
chunks."""


class GivenUp(Exception):
    """The partition was given up while the database was away; nothing of the batch was stored, or all of it."""


class _Job:
    """A batch on its way."""

    def __init__(self, batch: Callable[[], Batch], given_up: threading.Event) -> None:
        self.take = batch
        self.given_up = given_up
        self.stored: Future[None] = Future()
        self.stored.set_running_or_notify_cancel()  # whoever waits for it cannot cancel it
        self.batch: Batch | None = None
        self.decided: Decided | None = None
        """None where it cannot be decided yet."""
        self.began = 0.0

    def is_stored(self) -> None:
        METRICS.ledger_seconds.observe(perf_counter() - self.began)
        self.stored.set_result(None)


class Commits:
    """What all partitions of a worker hand to one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.deciding = ThreadPoolExecutor(1, "ledger")
        """Takes the batches in their order; it alone looks at those below."""
        self._storing = ThreadPoolExecutor(1, "ledger-store")
        self._next: list[_Job] = []
        """What the next transaction stores, no two of one partition."""
        self._going: list[_Job] = []
        """What is being stored."""
        self._done = threading.Event()
        """Set when all that is going is stored, or has to be tried again."""
        self._done.set()
        self._until: float | None = None
        """Until when what is next waits for others."""
        self._together = threading.Event()
        """Set when it need not wait any longer."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the threads, when all that was submitted is stored or given up."""
        self.deciding.submit(self._finish).result()
        self._storing.shutdown()
        self.deciding.shutdown()

    def submit(self, batch: Callable[[], Batch], given_up: threading.Event) -> Future[None]:
        """Decide and store a batch behind all that was submitted before; it is asked for when its turn comes.

        When `given_up` is set it is no longer tried again, and fails with `GivenUp`; it fails at once with what no
        waiting mends, e.g. `Fenced`.
        """
        job = _Job(batch, given_up)
        self.deciding.submit(self._decide, job)
        return job.stored

    def _decide(self, job: _Job) -> None:
        if job.given_up.is_set():
            return job.stored.set_exception(GivenUp())
        job.began = perf_counter()
        job.batch = batch = job.take()
        self._ahead(job)
        is_due = self._done.is_set() and self._until is None
        if (is_due or self._has_no_room(batch)) and self._hand_on():
            self._ahead(job)
        self._next.append(job)
        is_small = len(batch.activities) < SMALL
        if self._until is not None:
            if not is_small or perf_counter() >= self._until:
                self._go_on()
        elif is_small and self._done.is_set():
            with suppress(RuntimeError):  # the process ends
                self._together.clear()
                self._storing.submit(self._wait_for_others)
                self._until = perf_counter() + TOGETHER_SECONDS
        else:
            self._go_on()

    def _ahead(self, job: _Job) -> None:
        """Decide a batch, on all those before it."""
        job.decided = None
        with suppress(Exception):  # it is tried again when nothing else is on its way, and what it fails with counts
            assert job.batch is not None
            job.decided = self.ledger.decide(job.batch)

    def _has_no_room(self, batch: Batch) -> bool:
        """Whether a batch cannot be stored with those that are next."""
        there = [job.batch for job in self._next if job.batch is not None]
        of_it = any(one.source == batch.source for one in there)  # an acknowledgement that is lost is told from one
        return of_it or (there != [] and sum(len(one.activities) for one in (*there, batch)) > MOST_ACTIVITIES)

    def _wait_for_others(self) -> None:
        self._together.wait(TOGETHER_SECONDS)
        with suppress(RuntimeError):  # the process ends: what waits is not stored, and nobody was told that it is
            self.deciding.submit(self._go_on)

    def _go_on(self) -> None:
        """Hand on what is next, if nothing is on its way; it waits for no others any more."""
        if self._done.is_set():
            self._hand_on()

    def _after_storing(self) -> None:
        if self._until is None:  # whoever waits goes on by itself
            self._go_on()

    def _hand_on(self) -> bool:
        """Have all that is going stored or given up, for only then more may be written; and what is next goes.

        True when some of it had to be tried again: then all that was decided since is void. What is next is decided
        anew here, or it would be stale itself, and so on, for as long as there is more.
        """
        self._until = None
        self._together.set()
        self._done.wait()
        going, self._going, self._next = self._going, self._next, []
        left = [job for job in going if not job.stored.done()]
        if left:
            self.ledger.forget()
        for job in left:
            self._try_again(job)
        for job in self._going if left else ():
            self._ahead(job)
        if self._going:
            self._done.clear()
            try:
                self._storing.submit(self._store, self._going)
            except RuntimeError:  # the process ends: each is tried alone, in this thread
                self._done.set()
        return bool(left)

    def _finish(self) -> None:
        while self._next or self._going:
            self._hand_on()

    def _store(self, jobs: list[_Job]) -> None:
        try:
            with suppress(Exception):  # then they are not known to be stored: each is tried again, and that counts
                decided = [job.decided for job in jobs if job.decided is not None and not job.given_up.is_set()]
                if len(decided) == len(jobs):
                    self.ledger.write(*decided)
                    for job in jobs:
                        job.is_stored()
        finally:
            self._done.set()
        with suppress(RuntimeError):  # it has ended: then nothing is left
            self.deciding.submit(self._after_storing)  # the next batch would, but there may be none for long

    def _try_again(self, job: _Job) -> None:
        batch, said = job.batch, False
        assert batch is not None
        away = METRICS.database_away.labels(str(batch.source.partition))
        try:
            while not job.given_up.is_set():
                try:
                    self.ledger.consume(batch)
                except Unavailable as error:
                    if not said:
                        log.warning("database away, waiting", partition=batch.source.partition, error=str(error))
                        away.set(1)
                        said = True
                    job.given_up.wait(RETRY_SECONDS)
                else:
                    if said:
                        log.warning("database back", partition=batch.source.partition)
                    return job.is_stored()
            raise GivenUp
        except BaseException as error:
            job.stored.set_exception(error)
        finally:
            away.set(0)
