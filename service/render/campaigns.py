"""What the commands print for people of campaigns: which there are, their standings, and how they were settled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from service.render.tables import more, number, plain, row, table, titled

if TYPE_CHECKING:
    from rich.table import Table

    from projections.answers import Campaigns, Settlement, Standing, Standings


def campaigns(found: Campaigns) -> RenderableType:
    """A brand's campaigns."""
    made = table(("campaign", "status", "starts", "ends", "standings by"), ("version", "spent", "budget"))
    for one in found.campaigns:
        window = one.starts_at.removesuffix(".000Z"), one.ends_at.removesuffix(".000Z")
        row(
            made,
            (one.campaign, one.status, *window, one.standings, one.version, one.budget_spent, one.budget),
        )
    return titled(f"Campaigns of {found.brand} (times UTC)", made)


def standings(found: Standings) -> RenderableType:
    """A page of a ranking."""
    state = "retroactive, nothing of it is paid" if found.retroactive else "final" if found.final else "not final"
    title = f"Standings of {found.brand}/{found.campaign} by {found.metric} ({state})"
    return titled(title, _places(found.entries, with_prizes=found.final), *more(found.next_cursor))


def settlement(found: Settlement) -> RenderableType:
    """What a settlement came to."""
    said = (
        f"{found.brand}/{found.campaign} version {found.version} is settled by {found.metric}: "
        f"{number(found.members)} in its standings, {number(found.winners)} won {number(found.points)} points"
    )
    return titled(said, _places(found.prizes, with_prizes=True)) if found.prizes else Text(said)


def _places(places: Sequence[Standing], *, with_prizes: bool) -> Table:
    made = table(("member", "tier"), ("rank", "score", *(("prize",) if with_prizes else ())))
    for place in places:
        score = place.score if place.score is None or isinstance(place.score, int) else plain(place.score)
        row(made, (place.member_id, place.tier, place.rank, score, *((place.prize,) if with_prizes else ())))
    return made
