"""Writing to the activity log: encoded, keyed by member, acknowledged, internal records signed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.cloudevents import headers as cloud_event_headers
from schemas.codec import encode
from schemas.signing import SIGNATURE_HEADER, sign
from schemas.topics import ACTIVITY, TRUSTED, activity_key
from service import kafka, kafka_refusal
from service.problems import Unusable
from service.reading import Line, Refused
from service.settings import Settings
from service.simulation import Broken

if TYPE_CHECKING:
    from asyncio import Future

IN_FLIGHT = 2_000
"""Records sent and not yet acknowledged, at most."""


class Position(NamedTuple):
    """Where a published record stands in the activity log."""

    partition: int
    offset: int


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


class Sender:
    """Publishes single records for the length of a process, over one connection that is made when it is needed.

    A record goes out at once, and comes back with its position. Used within one event loop.
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
            said = f"{type(error).__name__} {error}".strip()
            if self._client is None:
                said = await kafka_refusal.reason(self._settings.brokers) or said
        except TimeoutError:
            said = f"no answer in {timeout:g} s"
        raise Unusable(f"Kafka at {self._settings.kafka} does not take the record ({said}); it is safe to ask again")

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._client is None:
                client = kafka.new_producer(self._settings, linger_ms=0)
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
