"""Reads of a brand's campaigns: which version is in force, how far each is, and what it has spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, column, select, table

from aggregates.definitions import Campaign
from aggregates.programs import campaign_in_force, from_content
from aggregates.settlement import status
from projections.answers import Campaigns, CampaignSummary, Settlement, Standing, iso
from projections.engagement.tier_queries import member_tiers
from projections.programs import CAMPAIGN, PROGRAMS
from projections.queries import read_position
from projections.queries.settlement import settlement, winners
from projections.settlements import SETTLEMENTS

WINNERS_SHOWN = 100
"""Places that the answer of a settlement lists."""
_P, _G = PROGRAMS.table, SETTLEMENTS.table
_BUDGETS = table("ledger_budgets", column("brand"), column("campaign"), column("spent"))


def campaigns(conn: Connection, brand: str, now: int) -> Campaigns:
    """Every campaign of a brand as it is at `now`, by start and id."""
    versions: dict[str, list[Campaign]] = {}
    for content in conn.execute(select(_P.c.content).where(_P.c.brand == brand, _P.c.subject == CAMPAIGN)).scalars():
        definition = from_content(content)
        assert isinstance(definition, Campaign)
        versions.setdefault(definition.id, []).append(definition)
    closed = {row.campaign: row for row in conn.execute(select(_G).where(_G.c.brand == brand))}
    budgets = select(_BUDGETS.c.campaign, _BUDGETS.c.spent).where(_BUDGETS.c.brand == brand)
    spent = {row.campaign: int(row.spent) for row in conn.execute(budgets)}
    found = [_summary(versions[name], closed.get(name), spent.get(name, 0), now) for name in versions]
    found.sort(key=lambda one: (one.starts_at, one.campaign))
    return Campaigns(brand=brand, campaigns=tuple(found), position=read_position(conn))


def _summary(versions: list[Campaign], closed: Any, spent: int, now: int) -> CampaignSummary:
    shown = campaign_in_force(versions, now) or min(versions, key=lambda v: (v.draft, v.effective_at))
    settled_at = closed.settled_at if closed else None
    return CampaignSummary(
        campaign=shown.id,
        version=shown.version,
        status=status(versions, closed is not None, settled_at is not None, now),
        starts_at=iso(shown.starts_at),
        ends_at=iso(shown.ends_at),
        join=shown.join,
        standings=shown.standings,
        budget=shown.budget,
        budget_spent=None if shown.budget is None else spent,
        prizes=dict(shown.prizes),
        closed_at=iso(closed.closed_at) if closed else None,
        settled_at=None if settled_at is None else iso(settled_at),
    )


def settled(conn: Connection, brand: str, campaign: str) -> Settlement | None:
    """What the settlement of a campaign came to; None while it is not settled."""
    row = settlement(conn, brand, campaign)
    if row is None or row.settled_at is None:
        return None
    return Settlement(
        brand=brand,
        campaign=campaign,
        version=row.version,
        metric=row.metric,
        closed_at=iso(row.closed_at),
        settled_at=iso(row.settled_at),
        members=row.members,
        winners=row.winners,
        points=row.points,
        prizes=with_tiers(conn, brand, winners(conn, brand, campaign, WINNERS_SHOWN)),
        position=read_position(conn),
    )


def with_tiers(
    conn: Connection, brand: str, places: Sequence[Standing], as_of: int | None = None
) -> tuple[Standing, ...]:
    """The places, each member with the tier of now, or as of an instant (epoch ms)."""
    tiers = member_tiers(conn, brand, [place.member_id for place in places], as_of)
    return tuple(place.model_copy(update={"tier": tiers[place.member_id]}) for place in places)
