"""Reads of what is published to topics: the balances and scores of those whose points have just changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sqlalchemy import Connection, select

from aggregates.definitions import Campaign
from aggregates.parsing import from_content
from projections.balances import BALANCES, LotLeft, Totals
from projections.lots import LOTS
from projections.programs import CAMPAIGN, PROGRAMS
from projections.queries import campaign_definition
from projections.settlements import SETTLEMENTS
from projections.standings import STANDINGS

_B, _L, _S, _P, _G = BALANCES.table, LOTS.table, STANDINGS.table, PROGRAMS.table, SETTLEMENTS.table
_ID_CHUNK = 500


class Held(NamedTuple):
    """A member's totals and what is left of each lot."""

    totals: Totals
    lots: list[LotLeft]


NOTHING_HELD = Held(Totals(), [])
"""By a member who never had a movement."""


def held(conn: Connection, brand: str, members: Iterable[str]) -> dict[str, Held]:
    """What each of these members of a brand has, of those who ever had a movement."""
    found: dict[str, Held] = {}
    for some in _chunks(members):
        for _, member, *totals in conn.execute(select(_B).where(_B.c.brand == brand, _B.c.member.in_(some))):
            found[member] = Held(Totals(*totals), [])
        lots = select(_L.c.member, _L.c.points_left, _L.c.active_at, _L.c.expires_at)
        for member, *lot in conn.execute(lots.where(_L.c.brand == brand, _L.c.member.in_(some), _L.c.points_left != 0)):
            found[member].lots.append(LotLeft(*lot))
    return found


def points(conn: Connection, brand: str, campaign: str, members: Iterable[str]) -> dict[str, int]:
    """The points that each of these members has from a campaign, of those who were ever paid by it."""
    found: dict[str, int] = {}
    for some in _chunks(members):
        scores = select(_S.c.member, _S.c.points).where(_S.c.brand == brand, _S.c.campaign == campaign)
        found.update((row.member, row.points) for row in conn.execute(scores.where(_S.c.member.in_(some))))
    return found


def metric_while_open(conn: Connection, brand: str, campaign: str, at: int) -> str:
    """The metric of a campaign's standings at an instant (epoch milliseconds); empty once it is closed."""
    closed = select(_G.c.campaign).where(_G.c.brand == brand, _G.c.campaign == campaign)
    defined = select(_P.c.seq).where(_P.c.brand == brand, _P.c.subject == CAMPAIGN, _P.c.subject_id == campaign)
    if conn.execute(closed).first() is not None or conn.execute(defined).first() is None:
        return ""
    return campaign_definition(conn, brand, campaign, at).standings


def metric_of(conn: Connection, brand: str, campaign: str, version: int) -> str:
    """The metric of the standings of a version of a campaign that was accepted."""
    of = (_P.c.brand == brand, _P.c.subject == CAMPAIGN, _P.c.subject_id == campaign, _P.c.version == version)
    found = from_content(conn.execute(select(_P.c.content).where(*of)).scalar_one())
    assert isinstance(found, Campaign)
    return found.standings


def _chunks(members: Iterable[str]) -> Iterator[list[str]]:
    ids = list(members)
    return (ids[start : start + _ID_CHUNK] for start in range(0, len(ids), _ID_CHUNK))
