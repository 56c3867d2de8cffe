"""The arithmetic of engagement reads: which panes a window holds, what the counters are, and exact rates.

Pure integers and fractions; nothing here knows that a database exists. Times are epoch milliseconds UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Final, NamedTuple

from aggregates.engagement import ENGAGEMENTS, HOUR, MINUTES_5, PARTS_PER_BILLION

DAY_MS: Final = 24 * HOUR

GROUP_PANE_MS: Final = MINUTES_5
"""Length of a pane of a brand, a campaign, or one of their tiers."""
MEMBER_PANE_MS: Final = HOUR
"""Length of a pane of a member or a post."""

KINDS: Final = ("like", "comment", "share", "save", "click", "view", "reach", "post", "mention", "follow")
GROUPS: Final = ("member_post", "brand_post", "self")
TOTALS: Final = (
    "rate_ppb",
    "unrated",
    "purchases",
    "revenue_minor",
    "refunds",
    "refunds_minor",
    "referred_revenue_minor",
)
"""Counters that are of no group and kind; `rate_ppb` is Σ quantity · ⌊10⁹ ÷ followers⌋, in parts per billion."""
COUNTERS: Final = (*(f"{group}.{kind}" for group in GROUPS for kind in KINDS), *TOTALS)
"""Every counter that a pane may have; one that it lacks is 0."""

PLACES: Final = 9
"""Decimal places of a rate."""


class Window(StrEnum):
    """How far back an engagement read looks."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"
    ALL = "all"


LENGTH_MS: Final[Mapping[Window, int]] = {
    Window.HOUR: HOUR,
    Window.DAY: DAY_MS,
    Window.WEEK: 7 * DAY_MS,
    Window.MONTH: 30 * DAY_MS,
}
"""Lengths of the windows; `all` has none."""


class UnknownWindow(ValueError):
    """A window that is not one of `Window`; the message names those that are."""

    def __init__(self, window: str) -> None:
        super().__init__(f"window: `{window}` is not a window; use one of {', '.join(Window)}")
        self.window = window


class Bounds(NamedTuple):
    """The half-open range [start, end) of pane starts that a window holds; None is unbounded."""

    start: int | None
    end: int | None


class Part(NamedTuple):
    """A part of a window that is summed from panes or roll-ups of one length: those that start in [start, end)."""

    length_ms: int
    start: int | None
    end: int | None


def window_named(name: str) -> Window:
    """The window that is written `1h`, `24h`, `7d`, `30d` or `all`. Raises UnknownWindow for anything else."""
    try:
        return Window(name)
    except ValueError:
        raise UnknownWindow(name) from None


def floored(time_ms: int, pane_ms: int) -> int:
    """The start of the pane that holds this instant."""
    return time_ms - time_ms % pane_ms


def bounds(window: Window, pane_ms: int, now_ms: int, as_of: int | None = None) -> Bounds:
    """The panes of `window` at `as_of`, both ends floored to the pane; without `as_of` the open pane is the last one.

    `all` has no start, and without `as_of` no end either.
    """
    if as_of is None and window is Window.ALL:
        return Bounds(None, None)
    end = floored(now_ms, pane_ms) + pane_ms if as_of is None else floored(as_of, pane_ms)
    length = LENGTH_MS.get(window)
    return Bounds(None if length is None else floored(end - length, pane_ms), end)


def cover(held: Bounds, lengths: tuple[int, ...] = (DAY_MS, HOUR, MINUTES_5)) -> list[Part]:
    """A window of whole panes of 5 minutes as days where it holds whole ones, hours and panes at its ragged ends.

    The parts are in order, meet and do not overlap.
    """
    length, *finer = lengths
    if not finer:
        return [Part(length, *held)]
    first = None if held.start is None else floored(held.start - 1, length) + length
    last = None if held.end is None else floored(held.end, length)
    if first is not None and last is not None and first >= last:
        return cover(held, tuple(finer))
    before = [] if first == held.start else cover(Bounds(held.start, first), tuple(finer))
    after = [] if last == held.end else cover(Bounds(last, held.end), tuple(finer))
    return [*before, Part(length, first, last), *after]


def engagements(counters: Mapping[str, int]) -> int:
    """Likes, comments, shares, saves and clicks received on members' own posts."""
    return sum(counters.get(f"member_post.{kind}", 0) for kind in ENGAGEMENTS)


def interactions(counters: Mapping[str, int]) -> int:
    """Engagements on members' posts and on the brand's posts together; a self-interaction is in neither."""
    return engagements(counters) + sum(counters.get(f"brand_post.{kind}", 0) for kind in ENGAGEMENTS)


def posts(counters: Mapping[str, int]) -> int:
    """Posts of members."""
    return counters.get("member_post.post", 0)


def reach(counters: Mapping[str, int]) -> int:
    """People whom members' posts reached."""
    return counters.get("member_post.reach", 0)


def rate_by_followers(counters: Mapping[str, int]) -> Fraction | None:
    """Engagements per follower and post, exact; None without posts."""
    return _quotient(counters.get("rate_ppb", 0), PARTS_PER_BILLION * posts(counters))


def rate_of_post(counters: Mapping[str, int]) -> Fraction:
    """Engagements per follower of one post, exact: it is one post whether or not it was published in the window."""
    return Fraction(counters.get("rate_ppb", 0), PARTS_PER_BILLION)


def rate_by_reach(counters: Mapping[str, int]) -> Fraction | None:
    """Engagements per person reached, exact; None without reach."""
    return _quotient(engagements(counters), reach(counters))


def per_post(counters: Mapping[str, int]) -> Fraction | None:
    """Engagements per post, exact; None without posts."""
    return _quotient(engagements(counters), posts(counters))


def advantage(counters: Mapping[str, int], over: Mapping[str, int]) -> Fraction | None:
    """How many times one rate by followers is another; None when either is None or the other is zero."""
    ours, theirs = rate_by_followers(counters), rate_by_followers(over)
    return ours / theirs if ours is not None and theirs else None


def rounded(exact: Fraction | None) -> Decimal | None:
    """The decimal of nine places next to an exact quotient, half to even; None stays None."""
    return None if exact is None else nine_places(exact)


def nine_places(exact: Fraction) -> Decimal:
    """The decimal of nine places next to an exact quotient, half to even."""
    units = round(exact * 10**PLACES)
    digits = tuple(int(digit) for digit in str(abs(units)))
    return Decimal((int(units < 0), digits, -PLACES))


def _quotient(amount: int, of: int) -> Fraction | None:
    """`amount` ÷ `of`; None when there is nothing to divide by (unlikely corrections can even leave it negative)."""
    return Fraction(amount, of) if of > 0 else None
