"""The ledger's batches in their order: each is decided while the one before it is being stored.

A batch that is not stored at once (the database away, a budget that another partition took from) is decided and tried
again before any other one is written, until it is stored or given up. Whatever was decided on it meanwhile is void, and
is decided again too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import Self

import structlog

from aggregates.database import Unavailable
from aggregates.ledger import Batch, Decided, Ledger, Stale
from streams.metrics import METRICS

log = structlog.get_logger()
RETRY_SECONDS = 0.5


class GivenUp(Exception):
    """The partition was given up while the database was away; nothing of the batch was stored, or all of it."""


class _Job:
    """A batch on its way."""

    def __init__(self, batch: Callable[[], Batch], given_up: threading.Event) -> None:
        self.take = batch
        self.given_up = given_up
        self.stored: Future[None] = Future()
        self.stored.set_running_or_notify_cancel()  # whoever waits for it cannot cancel it
        self.written = threading.Event()
        """Set when it is stored, or has to be tried again."""
        self.batch: Batch | None = None
        self.began = 0.0

    def is_stored(self) -> None:
        METRICS.ledger_seconds.observe(perf_counter() - self.began)
        self.stored.set_result(None)


class Commits:
    """What all partitions of a worker hand to one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.deciding = ThreadPoolExecutor(1, "ledger")
        """Takes the batches in their order."""
        self._storing = ThreadPoolExecutor(1, "ledger-store")
        self._last: _Job | None = None
        """What was handed on to be stored; only the deciding thread looks."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the threads, when all that was submitted is stored or given up."""
        for thread in (self.deciding, self._storing, self.deciding):
            thread.submit(lambda: None).result()
        self.deciding.shutdown()
        self._storing.shutdown()

    def submit(self, batch: Callable[[], Batch], given_up: threading.Event) -> Future[None]:
        """Decide and store a batch behind all that was submitted before; it is asked for when its turn comes.

        When `given_up` is set it is no longer tried again, and fails with `GivenUp`; it fails at once with what no
        waiting mends, e.g. `Fenced`.
        """
        job = _Job(batch, given_up)
        self.deciding.submit(self._decide, job)
        return job.stored

    def _decide(self, job: _Job) -> None:
        job.began = perf_counter()
        job.batch = job.take()
        decided = self._ahead(job.batch)
        self._finish_last()
        self._last = job
        self._storing.submit(self._store, job, decided)

    def _ahead(self, batch: Batch) -> Decided | None:
        """The batch as decided while the last one may still be on its way; None for one that cannot be."""
        try:
            return self.ledger.decide(batch)
        except Exception:  # it is tried again when nothing else is on its way, and then counts
            return None

    def _store(self, job: _Job, decided: Decided | None) -> None:
        try:
            if decided is None or job.given_up.is_set():
                raise Stale
            self.ledger.write(decided)
        except Exception:  # it is not known to be stored: it is tried again, and then what it fails with counts
            job.written.set()
            self.deciding.submit(self._finish_last)  # the next batch would, but there may be none for long
        else:
            job.is_stored()
            job.written.set()

    def _finish_last(self) -> None:
        """Have the last batch stored or given up: only then another one may be written."""
        job, self._last = self._last, None
        if job is not None:
            job.written.wait()
            if not job.stored.done():
                self._try_again(job)

    def _try_again(self, job: _Job) -> None:
        batch, said = job.batch, False
        assert batch is not None
        away = METRICS.database_away.labels(str(batch.source.partition))
        self.ledger.forget()
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
