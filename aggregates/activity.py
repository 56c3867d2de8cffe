"""One accepted record of the activity log, with everything that its folds need already looked up.

The intake makes these in log order; the engagement fold and the ledger read the same one, so that both see the
same tier, followers and campaigns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from aggregates.programs import Brand, Campaign

MARKER: Final = "CampaignClosing"
"""The record type of the marker that closes a campaign in a partition; it is of no member."""


class Activity(NamedTuple):
    """A record that was decoded, validated, found new, and judged against the definitions before it in the log."""

    type: str
    """Record type: `Interaction`, `Purchase`, `ReferralDue`, `Command`, …"""
    offset: int
    value: Mapping[str, Any]
    """The record's fields, as in its schema; times are epoch milliseconds."""
    brand: Brand
    """The brand's definition in force when it occurred."""
    campaigns: tuple[Campaign, ...]
    """The campaign versions it counts for: live when it occurred, and the member takes part."""
    not_live: bool
    """It names a campaign that was not live when it occurred: it counts nowhere."""
    not_joined: tuple[Campaign, ...]
    """Live opt-in campaigns that it would count for had the member joined."""
    tier: str
    """The member's influence tier as of this record, in log order; `unknown` without a profile."""
    followers: int | None
    """The followers that a rate on its platform divides by; None or 0: unrated."""
    is_self: bool
    """An interaction whose actor is the member: counted apart, never rated, never paid."""
    tier_followers: int | None = None
    """The followers behind the tier: those on the platform where the member has the most; None without a profile."""
