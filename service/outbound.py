"""The ledger for downstream services: entries, balances and standings on topics, at least once, in order per key.

Entries are sent as they were stored. Balances and scores are absolute values, read when the read models include the
events that changed them; each record says the ledger position that it includes, so a consumer drops what is older.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

import sqlalchemy as sa
from aiokafka import AIOKafkaProducer
from pydantic import BaseModel, ConfigDict, Field

from aggregates.ledger import Ledger, Recorded
from aggregates.program_events import StandingsKept
from projections import outbound_queries
from projections.balances import judge
from projections.digest import snapshot
from projections.engagement_queries import member_tiers
from projections.movements import EARNED, REVERSED, Movement, movements
from projections.queries import read_position
from projections.standings_queries import POINTS
from projections.statements import statement_row
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
            moved = movements(page)
            return [
                *(_entry(movement) for movement in moved),
                *_balances(conn, moved, position, self._clock()),
                *_scores(conn, moved, position, self._clock()),
                *_settled(conn, page),
            ]


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


def _balances(conn: sa.Connection, moved: Iterable[Movement], position: int, now: int) -> Iterator[Message]:
    members: dict[str, dict[str, None]] = {}
    for movement in moved:
        members.setdefault(movement.brand, {})[movement.member] = None
    for brand, ids in members.items():
        for member, (totals, lots) in outbound_queries.held(conn, brand, ids).items():
            judged = judge(totals.debt, lots, now)
            value = {
                "brand_id": brand,
                "member_id": member,
                "as_of": now,
                **judged._asdict(),
                "spent": totals.spent,
                "reversed": totals.reversed,
                "debt": totals.debt,
                "position": position,
            }
            yield _message(BALANCES, activity_key(brand, member), "MemberBalance", value)


def _scores(conn: sa.Connection, moved: Iterable[Movement], position: int, now: int) -> Iterator[Message]:
    """Scores by points that have changed, of campaigns that are not closed; other metrics come when these are final."""
    members: dict[tuple[str, str], dict[str, None]] = {}
    for movement in moved:
        if movement.kind in (EARNED, REVERSED):
            campaign = movement.entry.campaign  # type: ignore[union-attr]
            members.setdefault((movement.brand, campaign), {})[movement.member] = None
    for (brand, campaign), ids in members.items():
        if outbound_queries.metric_while_open(conn, brand, campaign, now) != POINTS:
            continue
        tiers = member_tiers(conn, brand, ids)
        for member, points in outbound_queries.points(conn, brand, campaign, ids).items():
            yield _score(brand, campaign, member, POINTS, points, tiers[member], position)


def _settled(conn: sa.Connection, page: Iterable[Recorded]) -> Iterator[Message]:
    """The places that prizes were paid by: final, and nothing follows them."""
    for recorded in page:
        event = recorded.event
        if not isinstance(event, StandingsKept):
            continue
        of = event.brand, event.campaign
        metric = outbound_queries.metric_of(conn, *of, event.version)
        tiers = member_tiers(conn, event.brand, [place.member for place in event.places])
        for place in event.places:
            rank = None if place.score is None else place.rank
            score, tier = whole(place.score), tiers[place.member]
            yield _score(*of, place.member, metric, score, tier, recorded.id, final=True, rank=rank)


def whole(score: int | str | None) -> int | None:
    """A score as the topic has it: a rate, which is kept as exact text, in parts per billion, rounded half to even."""
    if isinstance(score, str):
        return int((Decimal(score) * 10**9).to_integral_value(ROUND_HALF_EVEN))
    return score


def _score(
    brand: str,
    campaign: str,
    member: str,
    metric: str,
    score: int | None,
    tier: str,
    position: int,
    *,
    final: bool = False,
    rank: int | None = None,
) -> Message:
    value = {
        "brand_id": brand,
        "campaign_id": campaign,
        "member_id": member,
        "metric": metric,
        "score": score,
        "tier": None if tier == UNKNOWN else tier,
        "rank": rank,
        "final": final,
        "position": position,
    }
    return _message(STANDINGS, f"{brand}/{campaign}/{member}".encode(), "CampaignStanding", value)
