"""Dead letters on the audit page: how many of what, each in full, and sending them again."""

from __future__ import annotations

import json
from typing import Final

from markupsafe import Markup
from nicegui import ui
from nicegui.events import GenericEventArguments

from schemas.dead_letters import Reason
from service.console import shell
from service.console.markup import NOTHING, Child, count, empty, join, loading, moment, table, tag, unseen
from service.dead_letters import answers, listing, redrive
from service.dead_letters.answers import Count, DeadLetter, DeadLetterInFull
from service.dead_letters.listing import OPEN, Letter, Selection
from service.dead_letters.redrive import Plan, Refused
from service.settings import Settings

SHOWN: Final = 10
MAX_REDRIVES: Final = 3
EVERY_SECONDS: Final = 20.0
LETTERS: Final = "dead letters"


class Letters:
    """The dead letters of one open page, and which of them are chosen."""

    def __init__(self) -> None:
        self.all: list[Letter] = []
        self.reason = ""
        self.brand = ""

    def chosen(self) -> list[Letter]:
        """Those of the reason and the brand that are chosen."""
        reasons = frozenset([self.reason]) if self.reason else frozenset[str]()
        return Selection(reasons, brand=self.brand or None).of(self.all)


def build(frame: shell.Frame) -> None:
    """Lay out the card, and fill it."""
    letters = Letters()
    summary = shell.block(loading(4))
    with ui.element("div").classes("row").style("margin: 16px 0 4px"):
        actions = shell.block()
    planned = shell.block()
    listed = shell.block()
    detail = shell.block()

    def draw() -> None:
        summary.content = str(summed(answers.counts(letters.all), letters))
        chosen = letters.chosen()
        actions.content = str(buttons(chosen, letters)) if letters.all else ""
        listed.content = str(rows([answers.described(one) for one in chosen[:SHOWN]], len(chosen)))

    async def load() -> None:
        if frame.paused:
            return
        found = await frame.attempt_async(lambda: listing.load(shell.settings()), LETTERS)
        if found is not None:
            letters.all = found.letters
            draw()

    async def choose(event: GenericEventArguments) -> None:
        if not await frame.attempt_async(_nothing_more, LETTERS):
            return
        letters.reason, letters.brand = (str(part) for part in event.args)
        planned.content = detail.content = ""
        draw()

    async def show(event: GenericEventArguments) -> None:
        place = str(event.args)
        found = [one for one in letters.all if str(one.source) == place][-1:]
        if found:
            said = await frame.attempt_async(lambda: redrive.verdicts(shell.settings(), found), LETTERS)
            if said is not None:
                no = said[0][1]
                detail.content = str(in_full(answers.described_in_full(found[0], f"{no[0]}: {no[1]}" if no else "")))

    async def send(event: GenericEventArguments) -> None:
        settings, chosen = shell.settings(), letters.chosen()
        made = await frame.attempt_async(lambda: redrive.plan(settings, chosen, max_redrives=MAX_REDRIVES), LETTERS)
        if made is None:
            return
        dry = event.args != "send"
        if not dry and made.sending:
            too_large = await frame.attempt_async(lambda: _send(frame, settings, made), LETTERS)
            if too_large is None:
                return
            made.leave_out(too_large)
            await load()
        planned.content = str(plan(made, dry))

    summary.on("click", choose, js_handler=_pick("reason", "[b.dataset.reason, b.dataset.brand]"))
    listed.on("click", show, js_handler=_pick("letter", "b.dataset.letter"))
    actions.on("click", send, js_handler=_pick("act", "b.dataset.act"))
    ui.timer(EVERY_SECONDS, load)


async def _nothing_more() -> bool:
    """All that an attempt needs that shows what was read before: the key has to be good still."""
    return True


async def _send(frame: shell.Frame, settings: Settings, made: Plan) -> list[Refused]:
    frame.note("redrive", records=len(made.sending))
    return await redrive.send(settings, made.sending)


def _pick(name: str, value: str) -> str:
    return f"e => {{ const b = e.target.closest('[data-{name}]'); if (b) emit({value}); }}"


def summed(counts: list[Count], letters: Letters) -> Markup:
    """How many letters of which reason and brand; each line chooses them."""
    if not counts:
        return empty("No dead letters", "Every record that came could be read and was valid.")
    made: list[tuple[Child, ...]] = []
    for one in counts:
        current = (one.reason, one.brand) == (letters.reason, letters.brand)
        choose = tag(
            "button",
            "Chosen" if current else "Choose",
            cls="button small",
            type="button",
            data_reason="" if current else one.reason,
            data_brand="" if current else one.brand,
            aria_pressed="true" if current else "false",
            aria_label=f"Choose {one.reason} of {one.brand or 'no brand'}",
        )
        made.append(
            (
                tag("code", one.reason),
                one.brand or NOTHING,
                tag("div", meaning(one.reason), cls="wide-text"),
                choose,
                count(one.open),
                count(one.redriven),
            )
        )
    return table(
        "Dead letters by reason", ("Reason", "Brand", "Meaning", unseen("Choose"), "Open", "Redriven"), made, 2
    )


def meaning(reason: str) -> str:
    """What a reason means."""
    return next((one.sentence for one in Reason if one == reason), "This release has no such reason.")


def buttons(chosen: list[Letter], letters: Letters) -> Markup:
    """What can be done with the chosen letters."""
    number = sum(one.state == OPEN for one in chosen)
    of = f" of {letters.reason}" if letters.reason else ""
    return join(
        tag("button", "Dry run", cls="button", type="button", data_act="dry", disabled=number == 0),
        " ",
        tag(
            "button",
            f"Send {count(number)} again",
            cls="button primary",
            type="button",
            data_act="send",
            disabled=number == 0,
        ),
        tag("span", f" open ones{of}; what would only be refused again is left out.", cls="why"),
    )


def rows(found: list[DeadLetter], total: int) -> Markup:
    """The chosen letters, in log order."""
    if not found:
        return Markup("")
    made: list[tuple[Child, ...]] = [
        (
            tag(
                "button",
                f"{one.source_partition}:{one.source_offset}",
                cls="button small",
                type="button",
                data_letter=f"{one.source_partition}:{one.source_offset}",
            ),
            one.key,
            tag("code", one.reason),
            tag("div", one.detail, cls="wide-text"),
            tag("span", one.state, cls="chip" if one.state != OPEN else "chip warn"),
        )
        for one in found
    ]
    left = total - len(found)
    more = tag("p", f"and {count(left)} more: ", tag("code", "groundswell dlt list"), cls="foot") if left else None
    return join(table("Dead letters", ("Place", "Key", "Reason", "Detail", "State"), made), more)


def in_full(one: DeadLetterInFull) -> Markup:
    """Everything about one letter, and what can be done."""
    now = (
        tag("span", "would be taken now", cls="chip good")
        if not one.now
        else tag("span", f"refused now too: {one.now}", cls="chip warn")
    )
    event = json.dumps(one.event, indent=2, ensure_ascii=False) if one.event else f"cannot be decoded: {one.hex[:400]}"
    stamp = moment(one.source_timestamp) if one.source_timestamp.endswith("Z") else one.source_timestamp
    facts = join("Key ", tag("code", one.key), ", stamped ", stamp, f", redriven {one.redrives} times")
    return tag(
        "div",
        tag("h3", f"Record {one.source_partition}:{one.source_offset}"),
        tag("p", now, " ", one.meaning),
        tag("p", one.remedy, cls="foot"),
        tag("p", facts, cls="foot"),
        tag("pre", event, tabindex="0"),
        cls="note-box",
        role="status",
    )


def plan(made: Plan, dry: bool) -> Markup:
    """What would be sent, or was."""
    done = "would be sent again" if dry else "were sent again"
    sent = tag("span", f"{count(len(made.sending))} {done}", cls=f"chip {'good' if made.sending else ''}")
    words: list[Child] = [
        sent,
        " ",
        f"{count(len(made.refused))} would only be refused again, {count(len(made.before))} were redriven before.",
    ]
    lines: list[tuple[Child, ...]] = [
        (tag("code", one.reason), count(one.redriven), count(one.refused), count(one.already_redriven))
        for one in made.by_reason()
    ]
    heads = ("Reason", "Would be sent" if dry else "Sent", "Refused", "Redriven before")
    by_reason = table("By reason", heads, lines, 3) if lines else None
    return tag("div", tag("p", *words), by_reason, cls="note-box", role="status")
