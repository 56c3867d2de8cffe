"""Reads of how campaigns end: which are open, what stands before the markers, settled standings and their prizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, and_, exists, func, select

from aggregates.database import among
from aggregates.engagement import CLOSED
from aggregates.settlement import Score
from projections.answers import Standing
from projections.engagement import queries
from projections.engagement.tables import ENGAGEMENT
from projections.programs import CAMPAIGN, PROGRAMS
from projections.queries.standings import COUNTS, POINTS
from projections.settlements import MARKERS, PLACES, SETTLEMENTS
from projections.statements import STATEMENTS

_G, _P, _S, _M, _W = SETTLEMENTS.table, PROGRAMS.table, STATEMENTS.table, MARKERS.table, PLACES.table
_ID_CHUNK = 500
_CLOSED: Final = exists().where(_G.c.brand == _P.c.brand, _G.c.campaign == _P.c.subject_id)
_OPEN: Final = select(_P.c.brand, _P.c.subject_id, _P.c.version, _P.c.content, _P.c.recorded_at).where(
    _P.c.subject == CAMPAIGN, ~_CLOSED
)
_UNSETTLED: Final = (
    select(_G.c.brand, _G.c.campaign).where(_G.c.settled_at.is_(None)).order_by(_G.c.brand, _G.c.campaign)
)


class Defined(NamedTuple):
    """An accepted version of a campaign."""

    brand: str
    campaign: str
    version: int
    content: str
    accepted_at: int


def last_definition(conn: Connection) -> int:
    """The notification id of the latest definition; 0 without any."""
    return int(conn.execute(select(func.max(_P.c.seq))).scalar() or 0)


def open_campaigns(conn: Connection) -> list[Defined]:
    """Every version of every campaign that is not closed."""
    return [Defined(*row) for row in conn.execute(_OPEN)]


def unsettled(conn: Connection) -> list[tuple[str, str]]:
    """Brand and campaign of those that are closed and not settled."""
    return [(row.brand, row.campaign) for row in conn.execute(_UNSETTLED)]


def settlement(conn: Connection, brand: str, campaign: str) -> Any:
    """The row of a campaign that is closed, else None."""
    return conn.execute(select(_G).where(_G.c.brand == brand, _G.c.campaign == campaign)).one_or_none()


def markers(conn: Connection, brand: str, campaign: str) -> dict[int, int]:
    """Partition → notification id of the campaign's marker, where the ledger has passed it."""
    found = conn.execute(select(_M.c.partition, _M.c.seq).where(_M.c.brand == brand, _M.c.campaign == campaign))
    return {int(row.partition): int(row.seq) for row in found}


def scores_before_markers(
    conn: Connection, brand: str, campaign: str, metric: str, min_posts: int
) -> list[tuple[str, Score]]:
    """Each member's score by what stands before the campaign's marker in the member's partition.

    Ask only when every partition's marker is included in the tables that the metric is read from.
    """
    if metric == POINTS:
        before = and_(
            _M.c.brand == _S.c.brand,
            _M.c.campaign == _S.c.campaign,
            _M.c.partition == _S.c.source_partition,
            _S.c.seq < _M.c.seq,
        )
        query = (
            select(_S.c.member, func.sum(_S.c.points).label("points"))
            .join(_M, before)
            .where(_S.c.brand == brand, _S.c.campaign == campaign, COUNTS)
            .group_by(_S.c.member)
        )
        return [(row.member, int(row.points)) for row in conn.execute(query)]
    unmarked = ENGAGEMENT.c.segment < CLOSED
    return list(queries.campaign_scores(conn, brand, campaign, metric, None, min_posts, unmarked))


# Settled standings


def settled_places(conn: Connection, brand: str, campaign: str, start: int, limit: int) -> list[Standing]:
    """Settled places from `start` (0 is the best) on, with what each won; tiers are to be looked up."""
    query = (
        select(_W)
        .where(_W.c.brand == brand, _W.c.campaign == campaign, _W.c.place >= start)
        .order_by(_W.c.place)
        .limit(limit)
    )
    return [_standing(row) for row in conn.execute(query)]


def winners(conn: Connection, brand: str, campaign: str, limit: int) -> list[Standing]:
    """The first of those who won a prize."""
    won = (_W.c.brand == brand, _W.c.campaign == campaign, _W.c.prize > 0)
    return [_standing(row) for row in conn.execute(select(_W).where(*won).order_by(_W.c.place).limit(limit))]


def prizes(conn: Connection, brand: str, campaign: str, members: Iterable[str]) -> dict[str, int]:
    """What each of these members won; those who won nothing are left out."""
    asked = list(members)
    found: dict[str, int] = {}
    for start in range(0, len(asked), _ID_CHUNK):
        some: Sequence[str] = asked[start : start + _ID_CHUNK]
        of_them = among(conn.dialect.name, _W.c.member, "some")
        won = select(_W.c.member, _W.c.prize).where(_W.c.brand == brand, _W.c.campaign == campaign, _W.c.prize > 0)
        found |= {row.member: int(row.prize) for row in conn.execute(won.where(of_them), {"some": some})}
    return found


def number_of(score: str | None) -> int | Decimal | None:
    """The score that the exact text of one says."""
    return None if score is None else Decimal(score) if "." in score else int(score)


def _standing(row: Any) -> Standing:
    return Standing(
        rank=row.rank, member_id=row.member, tier="unknown", score=number_of(row.score), prize=row.prize or None
    )
