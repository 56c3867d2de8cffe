"""How far the end of each campaign is: closed, its markers passed, settled; and the standings it was settled by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aggregates.program_events import CampaignClosed, CampaignSettled, MarkerPassed, StandingsKept
from projections.projection import Changes, Coalesced, Projection, ReadTable, Row, number, read_table, text

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

SETTLEMENTS = ReadTable(
    read_table(
        "settlements",
        text("brand", key=True),
        text("campaign", key=True),
        number("version"),
        number("closed_at"),
        text("metric", optional=True),
        number("members", optional=True),
        number("winners", optional=True),
        number("points", optional=True),
        number("settled_at", optional=True),
    ),
    latest=("metric", "members", "winners", "points", "settled_at"),
    volatile=frozenset({"closed_at", "settled_at"}),
)
"""A row for each campaign that is closed; what is empty comes with its settlement. `points`: of all prizes together."""

MARKERS = ReadTable(
    read_table(
        "settlement_markers",
        text("brand", key=True),
        text("campaign", key=True),
        number("partition", key=True),
        number("seq"),
    ),
    volatile=frozenset({"seq"}),
)
"""`seq`: what the ledger has of the partition with a lower notification id stands before the marker."""

PLACES = ReadTable(
    read_table(
        "settlement_places",
        text("brand", key=True),
        text("campaign", key=True),
        number("place", key=True),
        text("member"),
        number("rank"),
        text("score", optional=True),
        number("prize"),
    ),
)
"""Places in order, from 0; `score` is the exact text of a number."""


def fold(events: Sequence[Recorded]) -> Changes:
    """Campaigns as they close and are settled."""
    settlements, markers, places = Coalesced(SETTLEMENTS), Coalesced(MARKERS), Coalesced(PLACES)
    for seq, _, event in events:
        match event:
            case CampaignClosed():
                settlements.add(_settlement(event, None))
            case CampaignSettled():
                settlements.add(_settlement(event, event))
            case MarkerPassed():
                of = {"brand": event.brand, "campaign": event.campaign}
                markers.add({**of, "partition": event.origin.partition, "seq": seq})
            case StandingsKept():
                for place, one in enumerate(event.places, event.first):
                    places.add(
                        {
                            "brand": event.brand,
                            "campaign": event.campaign,
                            "place": place,
                            "member": one.member,
                            "rank": one.rank,
                            "score": None if one.score is None else str(one.score),
                            "prize": one.prize,
                        }
                    )
    return {**settlements.changes(), **markers.changes(), **places.changes()}


def _settlement(event: CampaignClosed | CampaignSettled, settled: CampaignSettled | None) -> Row:
    return {
        "brand": event.brand,
        "campaign": event.campaign,
        "version": event.version,
        "closed_at": event.closed_at,
        "metric": settled.metric if settled else None,
        "members": settled.members if settled else None,
        "winners": settled.winners if settled else None,
        "points": settled.points if settled else None,
        "settled_at": settled.settled_at if settled else None,
    }


_HANDLED: Final = frozenset({CampaignClosed, CampaignSettled, MarkerPassed, StandingsKept})
PROJECTION = Projection("settlements", 1, (SETTLEMENTS, MARKERS, PLACES), fold, handles=_HANDLED)
