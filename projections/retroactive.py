"""Standings of a campaign as they would be, had it been defined before its log began: derived once, kept to be read.

They come from the log, not from the ledger, so no runner keeps them up; deriving them again takes their place.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, NamedTuple

from sqlalchemy import Connection, MetaData, Table, select

from aggregates.settlement import Ranked
from projections.answers import Standing
from projections.projection import number, text

METADATA: Final = MetaData()
RANKINGS: Final = Table(
    "retroactive_rankings",
    METADATA,
    text("brand", key=True),
    text("campaign", key=True),
    text("metric"),
    number("members"),
    number("position"),
)
PLACES: Final = Table(
    "retroactive_places",
    METADATA,
    text("brand", key=True),
    text("campaign", key=True),
    number("place", key=True),
    number("rank"),
    text("member"),
    text("score", optional=True),
)
_PAGE: Final = 5_000


class Ranking(NamedTuple):
    """What is kept of a campaign's retroactive standings, but for the places."""

    metric: str
    members: int
    position: int
    """The ledger position when they were derived."""


def keep(conn: Connection, brand: str, campaign: str, metric: str, places: Iterable[Ranked], position: int) -> None:
    """Keep the whole standings of a campaign in the place of those that are kept of it."""
    for table in (PLACES, RANKINGS):
        conn.execute(table.delete().where(table.c.brand == brand, table.c.campaign == campaign))
    rows = [
        {"brand": brand, "campaign": campaign, "place": place, "rank": one.rank, "member": one.member,
         "score": None if one.score is None else f"{one.score:f}" if isinstance(one.score, Decimal) else str(one.score)}
        for place, one in enumerate(places)
    ]  # fmt: skip
    for start in range(0, len(rows), _PAGE):
        conn.execute(PLACES.insert(), rows[start : start + _PAGE])
    kept = {"metric": metric, "members": len(rows), "position": position}
    conn.execute(RANKINGS.insert(), {"brand": brand, "campaign": campaign, **kept})


def ranking(conn: Connection, brand: str, campaign: str) -> Ranking | None:
    """What is kept of a campaign; None when its standings were not derived."""
    of_campaign = RANKINGS.c.brand == brand, RANKINGS.c.campaign == campaign
    found = conn.execute(select(RANKINGS.c.metric, RANKINGS.c.members, RANKINGS.c.position).where(*of_campaign))
    row = found.one_or_none()
    return None if row is None else Ranking(*row)


def page(conn: Connection, brand: str, campaign: str, start: int, limit: int) -> list[Standing]:
    """Places from `start` (0 is the best) on; tiers are to be looked up."""
    query = (
        select(PLACES)
        .where(PLACES.c.brand == brand, PLACES.c.campaign == campaign, PLACES.c.place >= start)
        .order_by(PLACES.c.place)
        .limit(limit)
    )
    return [
        Standing(rank=row.rank, member_id=row.member, tier="unknown", score=_score(row.score), prize=None)
        for row in conn.execute(query)
    ]


def _score(kept: str | None) -> int | Decimal | None:
    return None if kept is None else Decimal(kept) if "." in kept else int(kept)
