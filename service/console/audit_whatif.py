"""What-if on the audit page: an event that is only thought of, and what it would earn."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from markupsafe import Markup
from nicegui.events import GenericEventArguments

from aggregates.definitions import KINDS, SURFACES
from service import whatif
from service.console import shell
from service.console.markup import Child, count, empty, join, signed, tag, tier
from service.whatif_answers import CampaignVerdict, RuleVerdict, WhatIf

FIELDS = {
    "interaction": ("surface", "kind", "quantity", "platform", "post_id", "campaign_id", "occurred_at"),
    "purchase": ("amount_minor", "referrer_id", "campaign_id", "occurred_at"),
    "referral": ("amount_minor", "buyer_id", "campaign_id", "occurred_at"),
}
"""Which fields of the form an event of each type has."""
WHOLE = frozenset({"quantity", "amount_minor"})


def build(frame: shell.Frame) -> None:
    """Lay out the form, and the place of the answer."""
    form = shell.block(_form())
    answer = shell.block(
        empty("Nothing asked yet", "Fill in an event above: what it would earn is worked out as the worker would.")
    )

    async def ask(event: GenericEventArguments) -> None:
        asked: dict[str, Any] = dict(event.args)
        found, problem = await frame.tried(lambda: asyncio.to_thread(_ask, frame.brand, asked))
        answer.content = str(shell.alert(problem) if found is None else told(found))

    form.on("submit", ask, js_handler="e => { e.preventDefault(); emit(Object.fromEntries(new FormData(e.target))); }")


def _ask(brand: str, asked: dict[str, Any]) -> WhatIf:
    """Raises `Refusal` for an event that would be a dead letter."""
    return shell.reads().what_if(brand, str(asked.get("member", "")).strip(), whatif.read_event(event_of(asked)))


def event_of(asked: dict[str, Any]) -> bytes:
    """The event that the form's fields describe, as JSON; what is empty is left out."""
    kind = str(asked.get("type", "interaction"))
    event: dict[str, Any] = {"type": kind}
    for name in FIELDS.get(kind, ()):
        text = str(asked.get(name, "")).strip()
        if text:
            event[name] = int(text) if name in WHOLE and text.lstrip("-").isdecimal() else text
    return json.dumps(event).encode()


def _form() -> Markup:
    def choice(label: str, name: str, options: tuple[str, ...], chosen: str) -> Markup:
        made = [tag("option", one.replace("_", " "), value=one, selected=one == chosen) for one in options]
        return tag("label", label, tag("select", *made, name=name))

    def text(label: str, name: str, value: str = "", size: int = 14, **more: str | bool) -> Markup:
        return tag("label", label, tag("input", name=name, value=value, size=size, autocomplete="off", **more))

    return tag(
        "form",
        text("Member", "member", required=True, placeholder="Member id"),
        choice("Event", "type", tuple(FIELDS), "interaction"),
        choice("Kind", "kind", KINDS, "share"),
        choice("Surface", "surface", SURFACES, "brand_post"),
        text("Quantity", "quantity", "1", 6, inputmode="numeric"),
        text("Platform", "platform", "instagram", 10),
        text("Post", "post_id", size=10, placeholder="none"),
        text("Amount (minor units)", "amount_minor", "4990", 9, inputmode="numeric"),
        text("Campaign", "campaign_id", size=12, placeholder="none named"),
        text("When", "occurred_at", size=22, placeholder="now, or 2026-03-05T12:00Z"),
        tag("button", "What would it earn?", cls="button primary", type="submit"),
        cls="form",
    )


def told(found: WhatIf) -> Markup:
    """The answer: points in all, then campaign by campaign and rule by rule."""
    way = "plus" if found.points > 0 else "minus" if found.points < 0 else ""
    head = tag(
        "p",
        tag("b", signed(found.points), cls=way),
        " points for ",
        found.member_id,
        " ",
        tier(found.tier),
        " at ",
        found.occurred_at,
    )
    objections = [tag("li", tag("span", one.reason, cls="chip warn"), " ", one.sentence) for one in found.objections]
    back = [
        tag(
            "li",
            tag("span", "takes back", cls="chip bad"),
            f" {count(one.points)} of {one.rule} ({one.campaign}), entry {one.reverses}",
        )
        for one in found.taken_back
    ]
    referral = tag("li", f"The referral is {found.referral.replace('_', ' ')}.") if found.referral else None
    campaigns = [_campaign(one) for one in found.campaigns]
    none: Child = None if campaigns else tag("li", "The brand has no campaign.")
    return tag(
        "div",
        head,
        tag("ul", *objections, *back, referral, *campaigns, none, cls="verdicts"),
        cls="note-box",
        role="status",
    )


def _campaign(one: CampaignVerdict) -> Markup:
    rules = tag("ul", *(_rule(rule) for rule in one.rules), cls="tree") if one.rules else None
    version = f" version {one.version}" if one.version else ""
    return tag("li", join(tag("b", one.campaign), version, ": ", one.sentence), rules)


def _rule(one: RuleVerdict) -> Markup:
    cls = {"pays": "chip good", "refuses": "chip warn"}.get(one.verdict, "chip")
    return tag(
        "li",
        tag("span", one.verdict.replace("_", " "), cls=cls),
        " ",
        tag("b", one.rule),
        " ",
        tag("span", one.sentence, cls="is"),
    )
