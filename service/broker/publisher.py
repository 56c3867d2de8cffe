"""Writing to the activity log: encoded, keyed by member, acknowledged, internal records signed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.cloudevents import headers as cloud_event_headers
from schemas.codec import encode
from schemas.signing import SIGNATURE_HEADER, sign
from schemas.topics import ACTIVITY, TRUSTED, activity_key
from service.broker import kafka, refusal
from service.feeds.reading import Line, Refused
from service.feeds.simulation import Broken
from service.problems import Unusable
from service.settings import Settings

if TYPE_CHECKING:
    from asyncio import Future

IN_FLIGHT = 2_000
"""Records sent and not yet acknowledged, at most."""
GIVE_UP_MS = 10_000
"""How long a process that answers somebody tries to send a record, and at its end waits for what it has sent."""
TURN = 100
"""Records of one request that are sent before others have their turn."""


class Position(NamedTuple):
    """Where a published record stands in the activity log."""

    partition: int
    offset: int


class Unsure(NamedTuple):
    """A record of which it is not known that the activity log has it, or will have it."""

    sent: bool
    """Whether it may be there; False: it never left."""
    why: str


@dataclass(slots=True)
class Outcome:
    """What became of the lines that were to be published."""

    accepted: int = 0
    refused: list[Refused] = field(default_factory=list)
    brands: set[str] = field(default_factory=set)


def record(secret: bytes, record_type: str, value: Mapping[str, Any]) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers of a member's record; with a signature where the type is an internal one."""
    key = activity_key(value["brand_id"], value["member_id"])
    data = encode(record_type, value)
    headers = cloud_event_headers(record_type, value)
    if record_type in TRUSTED:
        headers.append((SIGNATURE_HEADER, sign(secret, key, data)))
    return key, data, headers


async def publish(
    settings: Settings, lines: Iterable[Line | Refused | Broken], on_progress: Callable[[int], None] = lambda _: None
) -> Outcome:
    """Publish every good line and count it once the broker has it. Raises `Unusable` without a broker."""
    outcome = Outcome()
    async with kafka.producer(settings) as client:
        await kafka.partition_count(client)
        flying: set[Future[Any]] = set()
        for n, line in enumerate(lines, 1):
            if isinstance(line, Refused):
                outcome.refused.append(line)
                continue
            if isinstance(line, Broken):
                key, data, headers = line.key, line.raw, list[tuple[str, bytes]]()
            else:
                key, data, headers = record(settings.signing_key, line.record_type, line.value)
                outcome.brands.add(line.value["brand_id"])
            flying.add(await client.send(ACTIVITY, data, key=key, headers=headers))
            if len(flying) >= IN_FLIGHT:
                flying = await _settle(flying, outcome)
                on_progress(n)
        while flying:
            flying = await _settle(flying, outcome, asyncio.ALL_COMPLETED)
    return outcome


async def _settle(flying: set[Future[Any]], outcome: Outcome, until: str = asyncio.FIRST_COMPLETED) -> set[Future[Any]]:
    done, left = await asyncio.wait(flying, return_when=until)
    for future in done:
        future.result()  # raises what the broker said
    outcome.accepted += len(done)
    return left


async def send(client: AIOKafkaProducer, secret: bytes, record_type: str, value: Mapping[str, Any]) -> Position:
    """Publish one record and wait until the broker has it."""
    key, data, headers = record(secret, record_type, value)
    written = await client.send_and_wait(ACTIVITY, data, key=key, headers=headers)
    return Position(written.partition, written.offset)


def _outcome(sent: Future[Any], otherwise: str) -> Position | Unsure:
    """Where a record stands; `otherwise`: why that is not known, if the broker has not said anything."""
    if not sent.done() or sent.cancelled():
        return Unsure(True, otherwise)
    error = sent.exception()
    if error is not None:
        return Unsure(True, _said(error))
    return Position(sent.result().partition, sent.result().offset)


def _said(error: BaseException) -> str:
    names_itself = isinstance(error, Unusable | KafkaError)
    return str(error) if names_itself else f"{type(error).__name__} {error}".strip()


def _looked_at(sent: Future[Any]) -> None:
    """Nobody may wait any more for what a record comes to; its error is no surprise then."""
    if not sent.cancelled():
        sent.exception()


class Sender:
    """Publishes records for the length of a process, over one connection that is made when it is needed.

    They go out at once, and come back with their positions. Used within one event loop.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def send(self, record_type: str, value: Mapping[str, Any], timeout: float) -> Position:
        """Publish one record and wait until the broker has it.

        Raises `Unusable` when that is not known after `timeout` seconds: it may be on the log then, or come there.
        """
        key, data, headers = record(self._settings.signing_key, record_type, value)
        try:
            async with asyncio.timeout(timeout):
                client = await self._started()
                flying = await client.send(ACTIVITY, data, key=key, headers=headers)
                written = await asyncio.shield(flying)  # the producer must not find its future cancelled
                return Position(written.partition, written.offset)
        except (KafkaError, OSError) as error:
            said = await self._why(error)
        except TimeoutError:
            said = f"no answer in {timeout:g} s"
        raise Unusable(f"Kafka at {self._settings.kafka} does not take the record ({said}); it is safe to ask again")

    async def send_all(self, lines: Sequence[Line], timeout: float) -> list[Position | Unsure]:
        """Publish records in their order, and wait until the broker has them, for at most `timeout` seconds.

        Each comes back with its position, or with what is known of it instead. Never raises for the broker.
        """
        flying: list[Future[Any]] = []
        said = f"no answer in {timeout:g} s"
        deadline = time.monotonic() + timeout
        try:
            async with asyncio.timeout(timeout):
                client = await self._started()
                for line in lines:
                    key, data, headers = record(self._settings.signing_key, line.record_type, line.value)
                    flying.append(await client.send(ACTIVITY, data, key=key, headers=headers))
                    flying[-1].add_done_callback(_looked_at)
                    if not len(flying) % TURN:
                        await asyncio.sleep(0)  # others have their turn
        except (KafkaError, OSError) as error:
            said = await self._why(error)
        except TimeoutError:
            pass
        if flying:
            await asyncio.wait(flying, timeout=max(0.0, deadline - time.monotonic()))
        known = [_outcome(future, said) for future in flying]
        return [*known, *(Unsure(False, said) for _ in lines[len(flying) :])]

    async def _why(self, error: BaseException) -> str:
        if self._client is None:
            return await refusal.reason(self._settings.brokers) or _said(error)
        return _said(error)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._client is None:
                client = kafka.new_producer(self._settings, linger_ms=0, give_up_ms=GIVE_UP_MS)
                try:
                    await client.start()
                except BaseException:
                    await client.stop()
                    raise
                self._client = client
            return self._client

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._client is not None:
            await self._client.stop()
            self._client = None
