"""Reads of a brand's campaigns: which version is in force, how far each is, and what it has spent."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, column, func, select, table, union_all

from aggregates.database import among
from aggregates.definitions import Campaign
from aggregates.engagement import MINUTES_5
from aggregates.programs import from_content
from aggregates.settlement import status
from projections.answers import Campaigns, CampaignSummary, Settlement, Standing, iso
from projections.campaign_results import RESULTS
from projections.engagement.tier_queries import member_tiers
from projections.movements import EARNED
from projections.programs import CAMPAIGN, PROGRAMS
from projections.queries import read_position, shown, until
from projections.queries.settlement import settlement, winners
from projections.settlements import SETTLEMENTS
from projections.statements import STATEMENTS

WINNERS_SHOWN = 100
"""Places that the answer of a settlement lists."""
_P, _G, _R, _S = PROGRAMS.table, SETTLEMENTS.table, RESULTS.table, STATEMENTS.table
_BUDGETS = table("ledger_budgets", column("brand"), column("campaign"), column("spent"))


def campaigns(
    conn: Connection, brand: str, now: int, as_of: int | None = None, known_at: int | None = None
) -> Campaigns:
    """Every campaign of a brand as it is at `now`, or was at `as_of`, by what was recorded by `known_at` (epoch ms).

    By start and id. A settlement is as of the campaign's closing, as its prizes are, and known once it was made.
    """
    defined = select(_P.c.content).where(_P.c.brand == brand, _P.c.subject == CAMPAIGN)
    if known_at is not None:
        defined = defined.where(_P.c.recorded_at <= known_at)
    versions: dict[str, list[Campaign]] = {}
    for content in conn.execute(defined).scalars():
        definition = from_content(content)
        assert isinstance(definition, Campaign)
        versions.setdefault(definition.id, []).append(definition)
    ends: dict[str, tuple[int, int | None]] = {}
    for row in conn.execute(select(_G).where(_G.c.brand == brand)):
        if all(limit is None or row.closed_at <= limit for limit in (as_of, known_at)):
            unknown = known_at is not None and row.settled_at is not None and row.settled_at > known_at
            ends[row.campaign] = row.closed_at, None if unknown else row.settled_at
    spent = _spent(conn, brand, sorted(versions), as_of, known_at)
    at = now if as_of is None else as_of
    found = [_summary(versions[name], ends.get(name, (None, None)), spent.get(name, 0), at) for name in versions]
    found.sort(key=lambda one: (one.starts_at, one.campaign))
    return Campaigns(brand=brand, campaigns=tuple(found), position=read_position(conn))


def _summary(versions: list[Campaign], end: tuple[int | None, int | None], spent: int, at: int) -> CampaignSummary:
    one = shown(versions, at)
    closed_at, settled_at = end
    return CampaignSummary(
        campaign=one.id,
        version=one.version,
        status=status(versions, closed_at is not None, settled_at is not None, at),
        starts_at=iso(one.starts_at),
        ends_at=iso(one.ends_at),
        join=one.join,
        standings=one.standings,
        budget=one.budget,
        budget_spent=None if one.budget is None else spent,
        prizes=dict(one.prizes),
        closed_at=None if closed_at is None else iso(closed_at),
        settled_at=None if settled_at is None else iso(settled_at),
    )


def _spent(
    conn: Connection, brand: str, names: Sequence[str], as_of: int | None, known_at: int | None
) -> dict[str, int]:
    """What each campaign has paid from its budget; what is reversed does not come back to it."""
    if as_of is None and known_at is None:
        kept = select(_BUDGETS.c.campaign, _BUDGETS.c.spent).where(_BUDGETS.c.brand == brand)
        return {row.campaign: int(row.spent) for row in conn.execute(kept)}
    of_brand = (_S.c.brand == brand, among(conn.dialect.name, _S.c.campaign, "names"), _S.c.kind == EARNED)
    paid = select(_S.c.campaign, _S.c.points.label("paid")).where(*of_brand, *until(_S, as_of, known_at))
    parts = [paid]
    if as_of is not None and known_at is None:  # whole stretches are added up already
        begun = as_of - as_of % MINUTES_5
        before = select(_R.c.campaign, _R.c.paid).where(_R.c.brand == brand, _R.c.starts_at < begun)
        parts = [paid.where(_S.c.occurred_at >= begun), before]
    rows = union_all(*parts).subquery()
    added = select(rows.c.campaign, func.sum(rows.c.paid).label("paid")).group_by(rows.c.campaign)
    return {row.campaign: int(row.paid) for row in conn.execute(added, {"names": names})}


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
