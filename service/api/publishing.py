"""Publishing for those who have no Kafka client: each record of a request is accepted, refused, or not known to be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError

from service.api.activity_bodies import plain
from service.api_keys import Key
from service.broker.publisher import Position, Sender, Unsure
from service.feeds.reading import Line, Refused
from service.problems import Refusal
from service.settings import Settings

IN_FLIGHT: Final = 5_000
"""Records of all requests together that the broker has not acknowledged, at most; more wait their turn."""
UNKNOWN: Final = "unknown"
NOT_SENT: Final = "not_sent"


class _Outcome(BaseModel):
    model_config = ConfigDict(frozen=True)

    index: int = Field(description="Place of the record in the request, from 0", examples=[0])


class AcceptedRecord(_Outcome):
    """A record that the activity log has."""

    event_id: str = Field(description="That of the record", examples=["order-70031"])
    position: str = Field(description="`partition:offset`; good as `min_position`", examples=["2:1041"])


class RefusedRecord(_Outcome):
    """A record that the activity log does not have, or is not known to have."""

    code: str = Field(
        description="`invalid`, `in_the_future`, `unknown_brand`, `other_brand`; when Kafka does not answer: `unknown` "
        "(it may be on the log, or come there) or `not_sent`",
        examples=["invalid"],
    )
    detail: str = Field(
        description="What is wrong, in a sentence", examples=["`kind` is 'lik': give one of like, comment, share"]
    )
    field: str | None = Field(None, description="The field to blame, if there is one", examples=["kind"])


class Published(BaseModel):
    """What became of each record of a request."""

    model_config = ConfigDict(frozen=True)

    accepted: int = Field(description="How many records the activity log has", examples=[1])
    refused: int = Field(description="How many records it will not get", examples=[0])
    position: str | None = Field(
        description="The last accepted record of each partition, `partition:offset` by comma; good as `min_position`",
        examples=["2:1041"],
    )
    records: tuple[AcceptedRecord | RefusedRecord, ...] = Field(description="Each record, in the order of the request")


class Judged(NamedTuple):
    """The records of a request, by whether they may be sent."""

    lines: list[Line]
    refused: list[RefusedRecord]


class Publishing:
    """Publishes over one connection of the process, so many records at a time. Used within one event loop."""

    def __init__(self, settings: Settings, check: Callable[[str], None]) -> None:
        """`check` raises `Refusal` for a brand that there is not."""
        self._sender = Sender(settings)
        self._check = check
        self._known: set[str] = set()
        self._flying = 0
        self._landed = asyncio.Condition()

    async def close(self) -> None:
        """Give back the connection."""
        await self._sender.close()

    async def publish(self, found: Sequence[Line | Refused], key: Key, timeout: float) -> Published:
        """Publish what may be; returns when the broker has it. In order, so far as a partition has one.

        Raises `Refusal` `unavailable` after `timeout` seconds, with what is known of each record: all of them may be
        sent again.
        """
        judged = await self._judged(found, key)
        sent = await self._sent(judged.lines, timeout) if judged.lines else []
        answer = _published(judged, sent)
        unsure = next((one for one in sent if isinstance(one, Unsure)), None)
        if unsure is not None:
            raise Refusal(
                "unavailable",
                f"It is not known of every record that the activity log has it ({plain(unsure.why)}): see `records`. "
                "Send the whole request again; what is there already counts once.",
                headers={"Retry-After": "1"},
                **answer.model_dump(exclude_none=True),
            )
        return answer

    async def _judged(self, found: Sequence[Line | Refused], key: Key) -> Judged:
        brands = (line.value["brand_id"] for line in found if isinstance(line, Line))
        unknown = await self._unknown_brands(brand for brand in brands if key.sees(brand))
        lines, refused = [], []
        for line in found:
            if isinstance(line, Refused):
                refused.append(_refused(line.number, line.code, line.reason, line.field))
                continue
            try:
                key.check(line.value["brand_id"])
                if line.value["brand_id"] in unknown:
                    raise unknown[line.value["brand_id"]]
            except Refusal as no:
                refused.append(_refused(line.number, no.code, no.detail, "brand_id"))
            else:
                lines.append(line)
        return Judged(lines, refused)

    async def _unknown_brands(self, brands: Iterable[str]) -> dict[str, Refusal]:
        """Those without a definition. While the database is away nobody knows, and the worker will judge them."""
        unknown = {}
        for brand in dict.fromkeys(brands):
            if brand in self._known:
                continue
            try:
                await asyncio.to_thread(self._check, brand)
            except Refusal as no:
                unknown[brand] = no
            except SQLAlchemyError:
                return unknown
            else:
                self._known.add(brand)
        return unknown

    async def _sent(self, lines: Sequence[Line], timeout: float) -> list[Position | Unsure]:
        """Send them once there is room."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        try:
            async with asyncio.timeout_at(deadline), self._landed:
                await self._landed.wait_for(lambda: not self._flying or self._flying + len(lines) <= IN_FLIGHT)
                self._flying += len(lines)
        except TimeoutError:
            return [Unsure(False, "too many others are being sent")] * len(lines)
        try:
            return await self._sender.send_all(lines, deadline - loop.time())
        finally:
            self._flying -= len(lines)
            async with self._landed:
                self._landed.notify_all()


def _published(judged: Judged, sent: Sequence[Position | Unsure]) -> Published:
    outcomes: list[AcceptedRecord | RefusedRecord] = list(judged.refused)
    last: dict[int, int] = {}
    for line, one in zip(judged.lines, sent, strict=True):
        assert line.number is not None
        if isinstance(one, Unsure):
            outcomes.append(_refused(line.number, UNKNOWN if one.sent else NOT_SENT, one.why))
            continue
        last[one.partition] = max(one.offset, last.get(one.partition, 0))
        at = f"{one.partition}:{one.offset}"
        outcomes.append(AcceptedRecord(index=line.number, event_id=line.value["event_id"], position=at))
    return Published(
        accepted=sum(isinstance(one, AcceptedRecord) for one in outcomes),
        refused=len(judged.refused),
        position=",".join(f"{partition}:{offset}" for partition, offset in sorted(last.items())) or None,
        records=tuple(sorted(outcomes, key=lambda one: one.index)),
    )


def _refused(number: int | None, code: str, why: str, field: str = "") -> RefusedRecord:
    assert number is not None
    return RefusedRecord(index=number, code=code, detail=plain(why), field=plain(field) or None)
