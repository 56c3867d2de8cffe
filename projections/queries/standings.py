"""Reads of a campaign's standings: scores from the ledger, and the ranking of any scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from sqlalchemy import Connection, and_, bindparam, func, select, union_all

from aggregates.settlement import ranked as places
from projections.answers import Standing, Standings
from projections.engagement.people import UNKNOWN
from projections.engagement.tables import MEMBERS
from projections.movements import PRIZE
from projections.queries import MAX_DIGITS, NotFound, read_position, until
from projections.standings import STANDINGS
from projections.statements import STATEMENTS
from projections.upkeep import snapshots

_S = STATEMENTS.table
POINTS: Final = "points"
"""The standings metric that the ledger scores; the others come from the panes."""
COUNTS = _S.c.kind != PRIZE
"""Which of a campaign's movements its standings by points count: a prize comes of them, and is none."""
_R: Final = STANDINGS.table
_OF: Final = (_R.c.brand == bindparam("brand"), _R.c.campaign == bindparam("campaign"))
_PAGE: Final = (
    select(_R.c.member, _R.c.points, MEMBERS.c.tier)
    .join_from(_R, MEMBERS, and_(MEMBERS.c.brand == _R.c.brand, MEMBERS.c.member == _R.c.member), isouter=True)
    .where(*_OF)
    .order_by(_R.c.points.desc(), _R.c.member)
    .limit(bindparam("places"))
    .offset(bindparam("start"))
)
_BETTER: Final = select(func.count()).where(*_OF, _R.c.points > bindparam("points"))
"""Made once: to put a statement together takes as long as to run it."""


def points_scores(
    conn: Connection, brand: str, campaign: str, as_of: int | None = None, known_at: int | None = None
) -> list[tuple[str, int]]:
    """Each member's points from a campaign, earned less reversed, also while they are on hold."""
    table = STANDINGS.table
    if as_of is None and known_at is None:
        of_campaign = (table.c.brand == brand, table.c.campaign == campaign)
        return [(row.member, row.points) for row in conn.execute(select(table).where(*of_campaign))]
    where = [_S.c.brand == brand, _S.c.campaign == campaign, COUNTS, *until(_S, as_of, known_at)]
    since = None
    if as_of is not None and known_at is None:
        since = snapshots.latest_scores(conn, brand, campaign, as_of)
    parts = [select(_S.c.member, _S.c.points).where(*where)]
    if since is not None:
        kept = snapshots.SCORED
        before = select(kept.c.member, kept.c.points).where(*snapshots.of(kept, brand, since))
        parts = [parts[0].where(_S.c.occurred_at > since), before.where(kept.c.campaign == campaign)]
    rows = union_all(*parts).subquery()
    query = select(rows.c.member, func.sum(rows.c.points).label("points")).group_by(rows.c.member)
    return [(row.member, int(row.points)) for row in conn.execute(query)]


def ranked(scores: Sequence[tuple[str, int | Decimal | None]], tiers: Mapping[str, str]) -> list[Standing]:
    """Places by score, greatest first, null last; equal scores share a rank (1, 2, 2, 4), in the order of their ids."""
    return [
        Standing(rank=rank, member_id=member, tier=tiers.get(member, "unknown"), score=score, prize=None)
        for rank, member, score in places(scores)
    ]


def points_page(conn: Connection, brand: str, campaign: str, limit: int = 100, cursor: str | None = None) -> Standings:
    """A page of the ranking by points as it is now, read in its order, each member with the tier of now.

    Raises `NotFound` for a bad cursor.
    """
    start = start_of(cursor)
    of = {"brand": brand, "campaign": campaign}
    rows = conn.execute(_PAGE, {**of, "places": limit + 1, "start": start}).all()
    entries: list[Standing] = []
    rank, score = 0, None
    for place, (member, points, tier) in enumerate(rows[:limit], start + 1):
        if not entries and start:
            rank = 1 + int(conn.execute(_BETTER, {**of, "points": points}).scalar_one())
        elif score != points:
            rank = place
        score = points
        entries.append(Standing(rank=rank, member_id=member, tier=tier or UNKNOWN, score=points, prize=None))
    end = start + limit
    return Standings(
        brand=brand,
        campaign=campaign,
        metric=POINTS,
        final=False,
        entries=tuple(entries),
        next_cursor=str(end) if len(rows) > limit else None,
        position=read_position(conn),
    )


def start_of(cursor: str | None) -> int:
    """The first place of a page, from 0. Raises `NotFound` for a cursor that no answer gave."""
    if cursor is not None and not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= MAX_DIGITS):
        raise NotFound("invalid_cursor", f"cursor: `{cursor}` is not one that an answer gave.")
    return int(cursor or 0)


def standings(
    conn: Connection,
    brand: str,
    campaign: str,
    metric: str,
    scores: Sequence[tuple[str, int | Decimal | None]],
    tiers: Mapping[str, str],
    limit: int = 100,
    cursor: str | None = None,
) -> Standings:
    """A page of the ranking of `scores`. Raises `NotFound` for a bad cursor."""
    start = start_of(cursor)
    ordered = ranked(scores, tiers)
    end = start + limit
    return Standings(
        brand=brand,
        campaign=campaign,
        metric=metric,
        final=False,
        entries=tuple(ordered[start:end]),
        next_cursor=str(end) if end < len(ordered) else None,
        position=read_position(conn),
    )
