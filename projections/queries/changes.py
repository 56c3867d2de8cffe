"""Whose balances and scores ledger events changed, and what they are since: for whoever follows them.

Values are absolute, those of the caller's snapshot, so a value may include more than the event that is named with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

from sqlalchemy import Connection, TextClause, select, text

from aggregates.events import from_stored
from aggregates.ledger import Recorded
from aggregates.ledger_store import EVENTS
from aggregates.program_events import StandingsKept
from projections.balances import Judged, Totals, judge
from projections.engagement.tier_queries import member_tiers
from projections.movements import EARNED, REVERSED, account_of, movements
from projections.programs import CAMPAIGN, PROGRAMS
from projections.queries import outbound
from projections.queries.holdings import members_hold
from projections.queries.standings import POINTS
from projections.settlements import PLACES, SETTLEMENTS

_ACCOUNT: Final = "account:"
_CAMPAIGN: Final = "campaign:"


class BalanceChange(NamedTuple):
    """What a member has since."""

    seq: int
    """The ledger position (notification id) of the last of the events that changed it."""
    brand: str
    member: str
    totals: Totals
    """By entries; what is owed now is in `judged`."""
    judged: Judged


class ScoreChange(NamedTuple):
    """A member's score in a campaign since."""

    seq: int
    """The ledger position (notification id) of the last of the events that changed it."""
    brand: str
    campaign: str
    member: str
    metric: str
    score: int | str | None
    """A rate is the exact text of a decimal number; None where there is nothing to rate."""
    tier: str
    """The member's influence tier now; `unknown` without a profile."""
    final: bool = False
    rank: int | None = None
    """Set once the standings are final; None before, and for who is not ranked."""


Change = BalanceChange | ScoreChange


def events(conn: Connection, after: int, upto: int, limit: int) -> list[Recorded]:
    """At most `limit` ledger events with a notification id above `after` and up to `upto`, oldest first."""
    rows = conn.execute(_events(conn.dialect.name), {"after": after, "upto": upto, "limit": limit})
    return [Recorded(row.id, row.originator_id, from_stored(row.topic, row.state)) for row in rows]


@cache
def _events(dialect: str) -> TextClause:
    table, number = EVENTS[dialect]
    return text(
        f"SELECT {number} AS id, originator_id, topic, state FROM {table} "
        f"WHERE {number} > :after AND {number} <= :upto ORDER BY {number} LIMIT :limit"
    )


def of_events(conn: Connection, page: Sequence[Recorded], now: int) -> Iterator[Change]:
    """What these events changed: balances, scores by points of open campaigns, and the places of settled ones.

    `now` (epoch milliseconds) is the instant that balances are judged at. Other metrics come when they are final.
    """
    balances: dict[str, dict[str, int]] = {}
    scores: dict[tuple[str, str], dict[str, int]] = {}
    for movement in movements(page):
        balances.setdefault(movement.brand, {})[movement.member] = movement.seq
        if movement.kind in (EARNED, REVERSED):
            campaign = movement.entry.campaign  # type: ignore[union-attr]
            scores.setdefault((movement.brand, campaign), {})[movement.member] = movement.seq
    for brand, members in balances.items():
        yield from _balances(conn, brand, members, now)
    for (brand, campaign), members in scores.items():
        yield from _scores(conn, brand, campaign, members, now)
    for recorded in page:
        if isinstance(recorded.event, StandingsKept):
            yield from _kept(conn, recorded.id, recorded.event)


class Touched(NamedTuple):
    """An account or campaign with events."""

    aggregate: str
    seq: int
    """The last of them."""


def touched(conn: Connection, after: int, upto: int, brand: str | None) -> list[Touched]:
    """The accounts and campaigns, of one brand if it is named, with events above `after` and up to `upto`, by the last.

    Nothing is decoded: a million events take about a second.
    """
    table, number = EVENTS[conn.dialect.name]
    prefixes = [f"{kind}{brand}/" if brand else kind for kind in (_ACCOUNT, _CAMPAIGN)]
    query = text(
        f"SELECT originator_id, MAX({number}) AS seq FROM {table} WHERE {number} > :after AND {number} <= :upto "
        "AND (substr(originator_id, 1, :a_length) = :account OR substr(originator_id, 1, :c_length) = :campaign) "
        "GROUP BY originator_id ORDER BY 2"
    )
    of = {"account": prefixes[0], "a_length": len(prefixes[0]), "campaign": prefixes[1], "c_length": len(prefixes[1])}
    return [Touched(row.originator_id, row.seq) for row in conn.execute(query, {"after": after, "upto": upto, **of})]


def of_touched(conn: Connection, some: Iterable[Touched], now: int) -> Iterator[Change]:
    """What these have now: balances, scores in every open campaign by points, and the places of settled ones.

    More than what changed, and nothing less.
    """
    balances: dict[str, dict[str, int]] = {}
    for aggregate, seq in some:
        account = account_of(aggregate)
        if account is not None:
            balances.setdefault(account[0], {})[account[1]] = seq
        elif aggregate.startswith(_CAMPAIGN):
            brand, _, campaign = aggregate[len(_CAMPAIGN) :].partition("/")
            yield from _places(conn, brand, campaign, seq)
    for brand, members in balances.items():
        yield from _balances(conn, brand, members, now)
        for campaign in _campaigns(conn, brand):
            yield from _scores(conn, brand, campaign, members, now)


def _balances(conn: Connection, brand: str, members: Mapping[str, int], now: int) -> Iterator[BalanceChange]:
    for member, holding in members_hold(conn, brand, members).items():
        yield BalanceChange(members[member], brand, member, holding.totals, judge(holding, now))


def _scores(conn: Connection, brand: str, campaign: str, members: Mapping[str, int], now: int) -> Iterator[ScoreChange]:
    if outbound.metric_while_open(conn, brand, campaign, now) != POINTS:
        return
    for member, score in outbound.scores(conn, brand, campaign, members).items():
        yield ScoreChange(members[member], brand, campaign, member, POINTS, *score)


def _kept(conn: Connection, seq: int, event: StandingsKept) -> Iterator[ScoreChange]:
    """Places that prizes were paid by: final, and nothing follows them."""
    metric = outbound.metric_of(conn, event.brand, event.campaign, event.version)
    tiers = member_tiers(conn, event.brand, [place.member for place in event.places])
    for place in event.places:
        rank = None if place.score is None else place.rank
        of = event.brand, event.campaign, place.member
        yield ScoreChange(seq, *of, metric, place.score, tiers[place.member], True, rank)


def _campaigns(conn: Connection, brand: str) -> list[str]:
    table = PROGRAMS.table
    query = select(table.c.subject_id).where(table.c.brand == brand, table.c.subject == CAMPAIGN).distinct()
    return list(conn.execute(query.order_by(table.c.subject_id)).scalars())


def _places(conn: Connection, brand: str, campaign: str, seq: int) -> Iterator[ScoreChange]:
    """The places of a campaign if it is settled."""
    table = SETTLEMENTS.table
    of = (table.c.brand == brand, table.c.campaign == campaign, table.c.settled_at.is_not(None))
    metric = conn.execute(select(table.c.metric).where(*of)).scalar_one_or_none()
    if metric is None:
        return
    kept = PLACES.table
    query = select(kept).where(kept.c.brand == brand, kept.c.campaign == campaign).order_by(kept.c.place)
    rows = conn.execute(query).all()
    tiers = member_tiers(conn, brand, [row.member for row in rows])
    for row in rows:
        score = row.score if row.score is None or "." in row.score else int(row.score)
        rank = None if row.score is None else row.rank
        yield ScoreChange(seq, brand, campaign, row.member, metric, score, tiers[row.member], True, rank)
