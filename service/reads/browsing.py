"""Reads for a person who looks around: brands, members, how far the data goes, engagement over time, the news."""

from __future__ import annotations

from typing import Any, NamedTuple

from aggregates.events import CommandRefused
from aggregates.ledger import Recorded
from aggregates.program_events import CampaignClosed, CampaignSettled
from projections import queries, rates
from projections.answers import iso
from projections.movements import account_of, movements
from projections.queries import browsing
from projections.queries.browsing import Bucket, Lot
from projections.rates import DAY_MS, Window
from projections.statements import record_type, what_happened
from service.reads.access import Access, check

HOUR_MS = 3_600_000
LOOKED_AT = 400
"""So many of the ledger's last events are looked at for news; those of other brands are among them."""


class Edge(NamedTuple):
    """How far a brand's data goes."""

    at: int
    """The clock's now, or the end of the last activity when that is longer ago; epoch ms."""
    as_of: str | None
    """Where windows end, as reads take it: the end of that hour; None: now."""


class News(NamedTuple):
    """Something that the ledger decided."""

    seq: int
    """Its notification id."""
    member: str | None
    """None: it is about a campaign."""
    occurred_at: int
    """Epoch milliseconds."""
    what: str
    """The type of the record: Interaction, Purchase, ReferralDue, Command; or closed, settled."""
    told: dict[str, Any]
    """What the record said happened."""
    tier: str
    campaigns: tuple[str, ...]
    points: int
    """The signed change of the member's points."""


class BrowseReads(Access):
    """Reads that the console needs beside those of the API."""

    def brands(self) -> list[str]:
        """Every brand with a definition, by id."""
        with self.connection() as conn:
            return browsing.brands(conn)

    def reached(self) -> tuple[int, int]:
        """What moves when anything that is shown changes."""
        with self.connection() as conn:
            return browsing.reached(conn)

    def edge(self, brand: str) -> Edge:
        """How far a brand's data goes. Raises `Refusal` for an unknown brand."""
        now = self.clock()
        with self.connection() as conn:
            check(conn, brand, None)
            last = browsing.last_activity(conn, brand)
        if last is None or last >= now:
            return Edge(now, None)
        hour = -(-last // HOUR_MS) * HOUR_MS  # members are counted by whole hours: the last one is to be in it
        return Edge(last, iso(hour) if hour < now else None)

    def series(self, brand: str, window: str, campaign: str | None = None) -> list[Bucket]:
        """Engagement by hour, in windows longer than a week by day, up to the last activity. Raises `Refusal`."""
        named = rates.window_named(window)
        length = DAY_MS if named in (Window.MONTH, Window.ALL) else HOUR_MS
        edge = self.edge(brand)
        bounds = rates.bounds(named, length, edge.at - 1, None)
        with self.connection() as conn:
            check(conn, brand, campaign)
            return browsing.series(conn, brand, campaign, length, bounds.start)

    def currency(self, brand: str) -> str:
        """The currency of a brand. Raises `Refusal` for an unknown one."""
        with self.connection() as conn:
            return queries.brand_definition(conn, brand, self.clock()).currency

    def tiers_of(self, brand: str) -> list[str]:
        """The influence tiers of a brand, ascending. Raises `Refusal` for an unknown one."""
        with self.connection() as conn:
            return [name for name, _ in queries.brand_definition(conn, brand, self.clock()).tiers]

    def find_members(self, brand: str, prefix: str, limit: int = 8) -> list[str]:
        """The first members whose id begins so. Raises `Refusal` for an unknown brand."""
        with self.connection() as conn:
            check(conn, brand, None)
            return browsing.find_members(conn, brand, prefix, limit)

    def lots(self, brand: str, member: str) -> list[Lot]:
        """A member's lots with anything in them, the first to expire first. Raises `Refusal` for an unknown brand."""
        with self.connection() as conn:
            check(conn, brand, None)
            return browsing.lots(conn, brand, member, self.clock())

    def news(self, brand: str, limit: int = 14) -> list[News]:
        """What the ledger decided last for a brand, the latest first; of its last `LOOKED_AT` events at most."""
        last = self.whole.last_notification()
        page = self.whole.notifications(max(0, last - LOOKED_AT), LOOKED_AT)
        found = [one for recorded in reversed(page) if (one := _news(recorded, brand)) is not None]
        return found[:limit]


def _news(recorded: Recorded, brand: str) -> News | None:
    """What is to be told of a stored event; None when it is another brand's, or moved nothing."""
    event = recorded.event
    if isinstance(event, CampaignClosed | CampaignSettled):
        if event.brand != brand:
            return None
        what, at = ("closed", event.ends_at) if isinstance(event, CampaignClosed) else ("settled", event.settled_at)
        return News(recorded.id, None, at, what, {}, "", (event.campaign,), 0)
    account = account_of(recorded.originator)
    if account is None or account[0] != brand or isinstance(event, CommandRefused):
        return None
    moved = movements([recorded])
    if not moved:
        return None
    campaigns = {getattr(one.entry, "campaign", "") for one in moved} - {""}
    return News(
        recorded.id,
        account[1],
        moved[0].origin.occurred_at,
        record_type(moved[0].event),
        what_happened(moved[0].event),
        getattr(event, "tier", ""),
        tuple(sorted(campaigns)),
        sum(one.points for one in moved),
    )
