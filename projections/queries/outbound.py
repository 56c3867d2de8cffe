"""Reads of what is published to topics: the scores of those whose points have just changed.

Each is one statement: beside a stream they are read many times a second, and a statement costs more than its rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, and_, bindparam, exists, func, select

from aggregates.database import among
from aggregates.definitions import Campaign
from aggregates.parsing import from_content
from projections.engagement.people import UNKNOWN, tiers_of
from projections.programs import CAMPAIGN, PROGRAMS
from projections.queries import shown
from projections.queries.holdings import chunks
from projections.settlements import SETTLEMENTS
from projections.standings import STANDINGS

_S, _P, _G = STANDINGS.table, PROGRAMS.table, SETTLEMENTS.table
_CLOSED: Final = exists().where(_G.c.brand == bindparam("brand"), _G.c.campaign == bindparam("campaign"))
_OPEN: Final = select(_P.c.content).where(
    _P.c.brand == bindparam("brand"), _P.c.subject == CAMPAIGN, _P.c.subject_id == bindparam("campaign"), ~_CLOSED
)
"""The versions of a campaign; none of one that is closed."""


class Score(NamedTuple):
    """A member's points from a campaign, and the member's influence tier now."""

    points: int
    tier: str


def scores(conn: Connection, brand: str, campaign: str, members: Iterable[str]) -> dict[str, Score]:
    """The score of each of these members in a campaign, of those who were ever paid by it."""
    found: dict[str, Score] = {}
    for some in chunks(members):
        rows = conn.execute(_scores(conn.dialect.name), {"brand": brand, "campaign": campaign, "some": some})
        found.update((row.member, Score(row.points, row.tier)) for row in rows)
    return found


@cache
def _scores(dialect: str) -> Select[Any]:
    people, of_brand = tiers_of(bindparam("brand"), None)
    return (
        select(_S.c.member, _S.c.points, func.coalesce(people.c.tier, UNKNOWN).label("tier"))
        .select_from(_S.outerjoin(people, and_(people.c.member == _S.c.member, *of_brand)))
        .where(_S.c.brand == bindparam("brand"), _S.c.campaign == bindparam("campaign"))
        .where(among(dialect, _S.c.member, "some"))
    )


def metric_while_open(conn: Connection, brand: str, campaign: str, at: int) -> str:
    """The metric of a campaign's standings at an instant (epoch milliseconds); empty once it is closed."""
    contents = conn.execute(_OPEN, {"brand": brand, "campaign": campaign}).scalars()
    versions = [one for one in map(from_content, contents) if isinstance(one, Campaign)]
    return shown(versions, at).standings if versions else ""


def metric_of(conn: Connection, brand: str, campaign: str, version: int) -> str:
    """The metric of the standings of a version of a campaign that was accepted."""
    of = (_P.c.brand == brand, _P.c.subject == CAMPAIGN, _P.c.subject_id == campaign, _P.c.version == version)
    found = from_content(conn.execute(select(_P.c.content).where(*of)).scalar_one())
    assert isinstance(found, Campaign)
    return found.standings
