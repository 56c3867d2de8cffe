"""The end of a campaign: when it is over, who closes it, and what its last standings win. Decisions of `Campaign`.

A campaign is closed by a marker in every partition of the activity log; its standings as of the markers are kept whole
and pay its prizes, once. State and evolve are in `program_decisions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import Final, NamedTuple

from aggregates.definitions import Campaign
from aggregates.program_decisions import CampaignState
from aggregates.program_events import CampaignClosed, CampaignSettled, Place, StandingsKept
from aggregates.programs import campaign_in_force

PAGE: Final = 5_000
"""Places an event keeps at most."""
ENGAGEMENT_RATE: Final = "engagement_rate"

Score = int | Decimal | None
"""A whole number, a rate, or None when there is nothing to rate."""


class CloseRefused(Exception):
    """A campaign that cannot be closed yet; `code` names why, the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Ranked(NamedTuple):
    """One member's place."""

    rank: int
    member: str
    score: Score


def ranked(scores: Iterable[tuple[str, Score]]) -> Iterator[Ranked]:
    """Places by score, greatest first, None last; equal scores share a rank (1, 2, 2, 4), in the order of their ids."""
    rank, before = 0, None
    for place, (member, score) in enumerate(sorted(scores, key=_best_first), 1):
        if place == 1 or score != before:
            rank, before = place, score
        yield Ranked(rank, member, score)


def _best_first(one: tuple[str, Score]) -> tuple[bool, Score, str]:
    member, score = one
    return score is None, -(score or 0), member


# Lifecycle


def last_live(versions: Iterable[Campaign]) -> tuple[Campaign, int] | None:
    """The version that is live last, and the first instant at which it is no more; None when all are drafts.

    Of a campaign that is never live it is the version that comes last in force, and that one's end.
    """
    ordered = sorted((v for v in versions if not v.draft), key=lambda v: (v.effective_at, v.version))
    found = (ordered[-1], ordered[-1].ends_at) if ordered else None
    for version, following in zip_longest(ordered, ordered[1:]):
        end = version.ends_at if following is None else min(version.ends_at, following.effective_at)
        if max(version.starts_at, version.effective_at) < end:
            found = version, end
    return found


def status(versions: Sequence[Campaign], is_closed: bool, is_settled: bool, now: int) -> str:
    """`draft`, `scheduled`, `live`, `ended` or `settled`."""
    last = last_live(versions)
    if is_settled:
        return "settled"
    if last is None:
        return "draft"
    if is_closed or now >= last[1]:
        return "ended"
    current = campaign_in_force(versions, now)
    return "live" if current is not None and current.live_at(now) else "scheduled"


def closes_at(state: CampaignState, grace_ms: int) -> int | None:
    """When a campaign is closed without being asked: its end and the grace; None where somebody must ask.

    That is one whose versions were all accepted after that time (what it judges is an import of the past, and may take
    any time), a draft, and one that is closed.
    """
    last = last_live(state.versions())
    if last is None or state.closed is not None:
        return None
    at = last[1] + grace_ms
    accepted = min(state.accepted_at[version.version] for version in state.versions() if not version.draft)
    return at if accepted < at else None


# Decisions


def close(state: CampaignState, now: int, requested_by: str = "") -> list[CampaignClosed]:
    """Close a campaign that is over; no event for one that is closed. Raises `CloseRefused`."""
    if state.closed is not None:
        return []
    last = last_live(state.versions())
    if last is None:
        raise CloseRefused("campaign_is_draft", "The campaign is a draft: it has nothing to settle.")
    version, end = last
    if now < end:
        raise CloseRefused(
            "campaign_not_ended",
            f"Version {version.version} of the campaign is not over yet: settle it after its end, or publish a version "
            "that ends it before.",
        )
    return [CampaignClosed(version.brand, version.id, version.version, end, now, requested_by)]


def settle(
    state: CampaignState, scores: Iterable[tuple[str, Score]], min_posts: int, now: int
) -> list[StandingsKept | CampaignSettled]:
    """Keep the standings as of the markers, with what each place wins; no event for a campaign that is settled.

    Equal scores share a rank, and each gets that rank's prize. A score that is not above zero wins nothing.
    """
    closed = state.closed
    if closed is None or state.settled is not None:
        return []
    version = next(version for version in state.versions() if version.version == closed.version)
    prizes = dict(version.prizes)
    places = [
        Place(one.member, one.rank, _kept(one.score), prizes.get(one.rank, 0) if (one.score or 0) > 0 else 0)
        for one in ranked(scores)
    ]
    pages = [
        StandingsKept(
            closed.brand, closed.campaign, closed.version, closed.closed_at, first, tuple(places[first : first + PAGE])
        )
        for first in range(0, len(places), PAGE)
    ]
    settled = CampaignSettled(
        closed.brand, closed.campaign, closed.version, version.standings, len(places),
        sum(place.prize > 0 for place in places), sum(place.prize for place in places), closed.closed_at, now,
        min_posts if version.standings == ENGAGEMENT_RATE else 0,
    )  # fmt: skip
    return [*pages, settled]


def _kept(score: Score) -> int | str | None:
    return f"{score:f}" if isinstance(score, Decimal) else score
