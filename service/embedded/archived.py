"""What counts as accepted on the embedded stack: what the archiver says is on disk, and a producer that waits for it.

The broker there has everything in memory, so its acknowledgement alone is worth nothing after a crash. Each start of
a stack has a file of its own in which the archiver says how far it is: a process that outlives its stack waits for a
file that nobody writes any more, and never takes another stack's word for its own records.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from asyncio import Future
from itertools import count
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from schemas.topics import ACTIVITY
from service.problems import Unusable
from streams.archive.live import said

POLL_SECONDS: Final = 0.005
PATIENCE_SECONDS: Final = 30.0
"""So long may nothing be archived while records wait for it."""


class Ends:
    """How far each partition is archived, by the archiver's file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, partition: int) -> int:
        """The offset after the last archived record of a partition. Raises `Unusable` when the stack is gone."""
        try:
            return said(self._path).get(partition, 0)
        except FileNotFoundError:
            raise Unusable("the stack that these records were for is gone; publish them again to the new one") from None


class ArchivedProducer(AIOKafkaProducer):  # type: ignore[misc]
    """A producer whose acknowledgements of the activity log come once the archive has the record."""

    def __init__(self, ends: Path, **options: Any) -> None:
        super().__init__(**options)
        self._archived = Ends(ends)
        self._waiting: dict[int, list[tuple[int, int, Future[Any], Any]]] = {}
        """Partition → a heap of offset, tie-breaker, what the caller waits for, and what it will get."""
        self._number = count()
        self._watcher: asyncio.Task[None] | None = None

    async def send(self, topic: str, *arguments: Any, **options: Any) -> Future[Any]:
        """As the client's, but what it returns is done only when the record is in the archive."""
        sent: Future[Any] = await super().send(topic, *arguments, **options)
        if topic != ACTIVITY:
            return sent
        archived: Future[Any] = asyncio.get_running_loop().create_future()
        sent.add_done_callback(lambda future: self._acknowledged(future, archived))
        return archived

    def _acknowledged(self, sent: Future[Any], archived: Future[Any]) -> None:
        if archived.done():
            return
        if sent.cancelled():
            archived.cancel()
        elif (error := sent.exception()) is not None:
            archived.set_exception(error)
        else:
            written = sent.result()
            heap = self._waiting.setdefault(written.partition, [])
            heapq.heappush(heap, (written.offset, next(self._number), archived, written))
            if self._watcher is None or self._watcher.done():
                self._watcher = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        """Pass on acknowledgements as the archive grows, until none waits."""
        moved = time.monotonic()
        try:
            while any(self._waiting.values()):
                if self._pass_on():
                    moved = time.monotonic()
                elif time.monotonic() > moved + PATIENCE_SECONDS:
                    raise Unusable(
                        f"nothing was archived for {PATIENCE_SECONDS:g} s (is the archiver at work?): it is not known "
                        "whether the last records are kept, publish them again"
                    )
                await asyncio.sleep(POLL_SECONDS)
        except Exception as error:
            for heap in self._waiting.values():
                for *_, archived, _written in heap:
                    if not archived.done():
                        archived.set_exception(error)
                heap.clear()

    def _pass_on(self) -> bool:
        moved = False
        for partition, heap in self._waiting.items():
            end = self._archived.of(partition) if heap else 0
            while heap and heap[0][0] < end:
                *_, archived, written = heapq.heappop(heap)
                moved = True
                if not archived.done():
                    archived.set_result(written)
        return moved

    async def stop(self) -> None:
        """Stop the client; what still waits is not known to be archived."""
        await super().stop()
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait({self._watcher})
        for heap in self._waiting.values():
            for *_, archived, _written in heap:
                archived.cancel()
