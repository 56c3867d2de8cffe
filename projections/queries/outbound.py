"""Reads of what is published to topics: the scores of those whose points have just changed."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, select

from aggregates.database import among
from aggregates.definitions import Campaign
from aggregates.parsing import from_content
from projections.programs import CAMPAIGN, PROGRAMS
from projections.queries import campaign_definition
from projections.queries.holdings import chunks
from projections.settlements import SETTLEMENTS
from projections.standings import STANDINGS

_S, _P, _G = STANDINGS.table, PROGRAMS.table, SETTLEMENTS.table


def points(conn: Connection, brand: str, campaign: str, members: Iterable[str]) -> dict[str, int]:
    """The points that each of these members has from a campaign, of those who were ever paid by it."""
    found: dict[str, int] = {}
    for some in chunks(members):
        scores = select(_S.c.member, _S.c.points).where(_S.c.brand == brand, _S.c.campaign == campaign)
        found.update((row.member, row.points) for row in conn.execute(scores.where(among(conn, _S.c.member, some))))
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
