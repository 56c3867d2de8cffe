"""What `whatif` prints: each campaign and rule with what it makes of the event, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from service.render.tables import NOTHING, number, row, table, titled

if TYPE_CHECKING:
    from service.whatif_answers import WhatIf

_VERDICTS = {"pays": "pays", "refuses": "refuses", "does_not_match": "no match"}


def what_if(found: WhatIf) -> RenderableType:
    """What an event would earn."""
    made = table(("campaign", "rule", "verdict", "why"), ("points",))
    for campaign in found.campaigns:
        name = campaign.campaign if campaign.version is None else f"{campaign.campaign} v{campaign.version}"
        if not campaign.counts:
            row(made, (name, NOTHING, "does not count", campaign.sentence, 0))
        for rule in campaign.rules:
            row(made, (name, rule.rule, _VERDICTS[rule.verdict], rule.sentence, rule.points))
    after = [Text(f"It pays nothing: {objection.sentence}") for objection in found.objections]
    after += [Text(f"Taken back of entry {one.reverses}: {number(one.points)} points") for one in found.taken_back]
    if found.referral is not None:
        after.append(Text(f"The referrer's reward: {found.referral}"))
    title = (
        f"{number(found.points)} points for {found.brand}/{found.member_id} ({found.tier}), "
        f"{found.type} at {found.occurred_at}"
    )
    return titled(title, made, *after)
