"""Rebuilding and verifying on the audit page: buttons, how far it is, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from markupsafe import Markup
from nicegui import ui
from nicegui.events import GenericEventArguments

from projections import registry
from projections.engagement.digest import TOPIC_OF
from projections.upkeep.verify import Progress, Report
from service.console import apart, shell
from service.console.markup import count, join, tag
from service.replay import rebuilding, verification
from service.replay.rebuilding import RebuildReport
from service.settings import Settings

SHOW_PROGRESS_SECONDS: Final = 0.2
PICK: Final = "e => { const b = e.target.closest('[data-model]'); if (b) emit(b.dataset.model); }"
VERIFY: Final = "verify"


def verify(settings: Settings, _names: Sequence[str], told: Progress) -> Report:
    """Every read model rebuilt in the side and compared."""
    return asyncio.run(verification.verify(settings, lambda reached: told(reached, 0)))


def rebuild(settings: Settings, names: Sequence[str], told: Progress) -> RebuildReport:
    """These read models built anew, compared and swapped. Raises `Unusable`."""
    return rebuilding.run(settings, names, None, told)


class Work:
    """The rebuild or verification of one open page, and how far it is."""

    def __init__(self) -> None:
        self.running = False
        self.at = 0
        self.to = 0

    def told(self, at: int, to: int) -> None:
        """Events or records done, and to do in all; 0: that is not known."""
        self.at, self.to = at, to


def build(frame: shell.Frame, models: ui.html) -> None:
    """Lay out the buttons and the place of the outcome; `models` has a button for each read model."""
    work = Work()
    with ui.element("div").classes("row").style("margin-top: 14px"):
        buttons = shell.block(
            join(
                tag("button", "Verify all", cls="button primary", type="button", data_model=VERIFY),
                " ",
                tag("button", "Rebuild all", cls="button", type="button", data_model=rebuilding.ALL),
            )
        )
    bar, result = shell.block(), shell.block()

    async def run(name: str, act: Callable[..., Any], names: Sequence[str], says: Callable[[Any], Markup]) -> None:
        if work.running:
            return
        work.running, work.at, work.to = True, 0, 0
        result.content = ""
        timer = ui.timer(SHOW_PROGRESS_SECONDS, lambda: bar.set_content(str(going(work))))
        settings = shell.settings()

        async def acted() -> Any:
            frame.note(name.lower(), models=" ".join(names))
            return await apart.run(act, settings, names, work.told)

        found = await frame.attempt_async(acted, name)
        timer.cancel()
        work.running = False
        bar.content = ""
        words = (
            says(found) if found is not None else join(tag("span", name, cls="chip bad"), " did not work; see above.")
        )
        result.content = str(tag("div", words, cls="note-box", role="status"))

    async def pressed(event: GenericEventArguments) -> None:
        model = str(event.args)
        if model == VERIFY:
            await run("Verification", verify, [], verified)
        elif model in {rebuilding.ALL, *TOPIC_OF, *(one.name for one in registry.LEDGER)}:
            await run("Rebuild", rebuild, [model], rebuilt)

    for place in (buttons, models):
        place.on("click", pressed, js_handler=PICK)


def going(work: Work) -> Markup:
    """How far it is."""
    words = (
        f"{count(work.at)} of {count(work.to)} ledger events" if work.to else f"{count(work.at)} ledger events folded"
    )
    value = f"{100 * work.at / work.to:.0f}" if work.to else None
    bar = tag("progress", "", max="100", value=value, aria_label=words)
    return tag("div", bar, words, ", then they are compared", cls="note-box")


def verified(report: Report) -> Markup:
    """What a verification came to."""
    if report.same:
        return join(tag("span", "✓", cls="chip good"), " Every read model is what the log says.")
    wrong = [f"{one.name} ({count(one.differing)} rows)" for one in report.projections if not one.same]
    first = next((one.first for one in report.projections if one.first is not None), None)
    key = ", ".join(f"{name}={value}" for name, value in first.key.items()) if first else ""
    more = f" First: {first.table}, the row {key} is {first.what}." if first else ""
    return join(tag("span", "differs", cls="chip bad"), f" Not what the log says: {', '.join(wrong)}.{more}")


def rebuilt(report: RebuildReport) -> Markup:
    """What a rebuild came to."""
    names = ", ".join(one.name for one in report.projections)
    if report.same:
        return join(tag("span", "✓", cls="chip good"), f" Built again, and serving: {names}. No row differed.")
    wrong = ", ".join(one.name for one in report.projections if one.compared and not one.compared.same)
    return join(
        tag("span", "differed", cls="chip warn"),
        f" Built again, and serving: {names}. What served before differed: {wrong}.",
    )
