"""Reads that come in together are answered from one look at the database.

A thread, a connection and a transaction for each read cost several times what the read itself does. What comes in while
one look is at work waits for the next, so an answer is never older than its question; who asks the same shares it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from service.problems import Refusal
from service.reads import Reads

K = TypeVar("K")
Read = Callable[[Sequence[K]], Mapping[K, bytes | Refusal]]
"""Blocking: the answer to each of these questions."""


class Gathered(Generic[K]):
    """One kind of read. Used within one event loop."""

    def __init__(self, read: Read[K]) -> None:
        self._read = read
        self._waiting: dict[K, list[asyncio.Future[bytes]]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def ask(self, question: K) -> bytes:
        """The answer as JSON. Raises `Refusal`, and what keeps the database from being read."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(question, []).append(future)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        return await future

    async def _look(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, {}
            try:
                answers: Mapping[K, bytes | Exception] = await asyncio.to_thread(self._read, list(asked))
            except Exception as error:
                answers = dict.fromkeys(asked, error)
            for question, futures in asked.items():
                for future in futures:
                    _settle(future, answers[question])
        self._looking = None


def _settle(future: asyncio.Future[bytes], answer: bytes | Exception) -> None:
    if future.done():  # who asked has gone
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


class StandingsQuestion(NamedTuple):
    """A page of a campaign's standings as they are now."""

    brand: str
    campaign: str
    settled: bool
    cursor: str | None
    limit: int


class Gathering:
    """The reads that are asked most, as they are now."""

    def __init__(self, reads: Reads) -> None:
        self.balances = Gathered[tuple[str, str]](reads.balances)
        """By brand and member."""
        self.standings = Gathered[StandingsQuestion](lambda asked: {one: _standings(reads, one) for one in asked})


def _standings(reads: Reads, asked: StandingsQuestion) -> bytes | Refusal:
    try:
        page = reads.standings(
            asked.brand, asked.campaign, settled=asked.settled, cursor=asked.cursor, limit=asked.limit
        )
    except Refusal as refused:
        return refused
    return page.model_dump_json(by_alias=True).encode()
