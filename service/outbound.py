"""The ledger for downstream services: entries, balances and standings on topics, at least once, in order per key.

Entries are sent as they were stored. Balances and scores are absolute values, read when the read models include the
events that changed them; each record says the ledger position that it includes, so a consumer drops what is older.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

import sqlalchemy as sa
from aiokafka import AIOKafkaProducer
from pydantic import BaseModel, ConfigDict, Field

from aggregates.ledger import Ledger, Recorded
from projections.movements import Movement, movements
from projections.projection import Page
from projections.queries import changes, read_position
from projections.queries.changes import BalanceChange, ScoreChange
from projections.statements import statement_row
from projections.upkeep.digest import snapshot
from schemas.codec import encode
from schemas.topics import BALANCES, LEDGER, STANDINGS, activity_key
from service.outbox import Message, SentPosition
from service.outbox import position as sent_position

NAME: Final = "topics"
PAGE: Final = 1_000
UNKNOWN: Final = "unknown"
_AS_STATED: Final = (
    *("entry_id", "kind", "points", "occurred_at", "recorded_at", "source_topic", "source_partition", "source_offset"),
    *("event_id", "active_at", "expires_at", "debt", "shortfall"),
)
_EMPTY_IS_NULL: Final = ("campaign_version", "rule", "tier", "entitled", "limited_by", "reverses")
"""Columns of a statement that an entry has under the same name."""


class Republished(BaseModel):
    """What is sent again."""

    model_config = ConfigDict(frozen=True)

    from_position: int = Field(description="First ledger position (notification id) that is sent again")
    to_position: int = Field(description="The last one that had been sent before; what follows is sent as ever")


def republish(engine: sa.Engine, start: int = 1) -> int:
    """Have everything from the ledger position `start` on sent again; the position up to which it was sent before.

    A `start` behind that changes nothing.
    """
    sent = SentPosition(engine, NAME)
    before = sent.read()
    while start <= before and not sent.move(before, start - 1):  # the projector is at work
        before = sent.read()
    return before


class Outbound:
    """Sends what the ledger stored, page by page, behind the read models."""

    def __init__(
        self,
        engine: sa.Engine,
        read_only: sa.Engine,
        ledger: Ledger,
        client: AIOKafkaProducer,
        clock: Callable[[], int],
    ) -> None:
        """`clock` tells the instant that balances are judged at, in epoch milliseconds."""
        self._sent = SentPosition(engine, NAME)
        self._read_only = read_only
        self._ledger = ledger
        self._client = client
        self._clock = clock

    async def step(self) -> int:
        """Send one page, wait for the acknowledgements, then store the position. Returns how many events it read.

        Never more than the read models include. The position is read each time: `replay republish` sets it.
        """
        after, reached = await asyncio.to_thread(self._span)
        if reached <= after:
            return 0
        page = await asyncio.to_thread(self._ledger.notifications, after, PAGE, reached)
        messages = await asyncio.to_thread(self._messages, page)
        if messages is None:
            return 0
        sent = [await self._client.send(m.topic, m.value, key=m.key, headers=m.headers) for m in messages]
        await asyncio.gather(*sent)
        await asyncio.to_thread(self._sent.move, after, page[-1].id)
        return len(page)

    def _span(self) -> tuple[int, int]:
        """The position that was sent, and that of the read models."""
        with self._read_only.connect() as conn:
            return sent_position(conn, NAME), read_position(conn)

    def _messages(self, page: Sequence[Recorded]) -> list[Message] | None:
        """None where older read models were put back meanwhile, which do not include the page."""
        with snapshot(self._read_only) as conn:
            position = read_position(conn)
            if position < page[-1].id:
                return None
            now = self._clock()
            page = Page(page)
            entries = [_entry(movement) for movement in movements(page)]
            changed = changes.of_events(conn, page, now)
            return entries + [_changed(one, position, now) for one in changed]


def _message(topic: str, key: bytes, record_type: str, value: dict[str, Any]) -> Message:
    return Message(topic, None, key, encode(record_type, value), [])


def _entry(movement: Movement) -> Message:
    row = statement_row(movement)
    value = {
        "brand_id": movement.brand,
        "member_id": movement.member,
        "campaign_id": row["campaign"] or None,
        **{name: row[name] for name in _AS_STATED},
        **{name: row[name] or None for name in _EMPTY_IS_NULL},
        "position": movement.seq,
    }
    return _message(LEDGER, activity_key(movement.brand, movement.member), "LedgerEntry", value)


def _changed(change: BalanceChange | ScoreChange, position: int, now: int) -> Message:
    return _balance(change, position, now) if isinstance(change, BalanceChange) else _score(change, position)


def _balance(change: BalanceChange, position: int, now: int) -> Message:
    value = {
        "brand_id": change.brand,
        "member_id": change.member,
        "as_of": now,
        **change.judged._asdict(),
        "spent": change.totals.spent,
        "reversed": change.totals.reversed,
        "position": position,
    }
    return _message(BALANCES, activity_key(change.brand, change.member), "MemberBalance", value)


def _score(change: ScoreChange, position: int) -> Message:
    value = {
        "brand_id": change.brand,
        "campaign_id": change.campaign,
        "member_id": change.member,
        "metric": change.metric,
        "score": whole(change.score),
        "tier": None if change.tier == UNKNOWN else change.tier,
        "rank": change.rank,
        "final": change.final,
        "position": change.seq if change.final else position,
    }
    key = f"{change.brand}/{change.campaign}/{change.member}".encode()
    return _message(STANDINGS, key, "CampaignStanding", value)


def whole(score: int | str | None) -> int | None:
    """A score as the topic has it: a rate, which is kept as exact text, in parts per billion, rounded half to even."""
    if isinstance(score, str):
        return int((Decimal(score) * 10**9).to_integral_value(ROUND_HALF_EVEN))
    return score
