"""What `replay rederive` prints for people: what differs and why, and what a candidate would have paid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.text import Text

from service.render.tables import NOTHING, number, row, table, titled
from streams.rederive.causes import Cause

if TYPE_CHECKING:
    from service.replay.known import Known
    from service.replay.rederive_answers import CandidateReport, Compared, Diverged, RederiveReport, WouldStandings

SHOWN: Final = 20
"""Divergences that are shown; `--json` has more."""


def report(found: RederiveReport) -> RenderableType:
    """What was derived again, and what differs."""
    title = (
        f"{number(found.records)} records of {found.source} derived again, {number(found.decisions)} decisions "
        f"compared at ledger position {number(found.position)}"
    )
    if found.same:
        return Group(Text(title, style="bold"), Text("Every decision is the one that the ledger has."))
    made = table(("cause", "what it means"), ("decisions",))
    for cause, count in found.causes.items():
        row(made, (cause, Cause(cause).sentence, count))
    return titled(title, made, *_missing(found), *_first(found.divergences))


def _missing(found: RederiveReport | CandidateReport) -> Iterator[RenderableType]:
    for one in found.missing:
        yield Text(one.sentence)


def _first(divergences: Sequence[Diverged]) -> Iterator[RenderableType]:
    if not divergences:
        return
    made = table(
        ("record", "account", "cause", "differs in", "the ledger has", "derived"), ("points", "derived points")
    )
    for one in divergences[:SHOWN]:
        where = NOTHING if one.partition < 0 else f"{one.partition}:{one.offset} {one.event_id}"
        cells = (where, one.account.removeprefix("account:"), one.cause, one.field, one.recorded, one.derived)
        row(made, (*cells, one.recorded_points, one.derived_points))
    yield titled("The first of them", made)
    if len(divergences) > SHOWN:
        yield Text(f"--json lists {number(len(divergences))} of them.")


def candidate(found: CandidateReport, top: int) -> RenderableType:
    """What would have been paid, and the standings."""
    made = table(("campaign",), (*_POINTS, "budget spent"))
    for one in found.campaigns:
        row(made, (f"{one.brand}/{one.campaign}", *_compared(one), one.budget_spent))
    said = (
        "Nothing would have been otherwise."
        if found.same
        else "Nothing of this is paid: it is what these definitions would have made of the same records."
    )
    title = f"{number(found.records)} records of {found.source} under {', '.join(found.definitions)}"
    parts: list[RenderableType] = [titled(title, made), *_missing(found)]
    for name, rows in (
        ("tier", [(one.tier, one) for one in found.tiers]),
        ("day", [(one.day, one) for one in found.days]),
        ("member", [(one.member_id, one) for one in found.members[:top]]),
    ):
        parts.append(_by(name, rows))
    if len(found.members) > top:
        parts.append(Text(f"and {number(len(found.members) - top)} more members: --top N or --json"))
    if found.commands:
        parts.append(_commands(found, top))
    parts += [_standings(one, top) for one in found.standings]
    return Group(*parts, Text(said, style="bold"))


_POINTS: Final = ("paid", "would be", "difference", "paid, minor", "would be, minor")


def _compared(one: Compared) -> tuple[object, ...]:
    difference = f"{one.difference:+,}" if one.difference else "0"
    return one.paid, one.would, difference, one.paid_minor, one.would_minor


def _by(name: str, rows: Sequence[tuple[str, Compared]]) -> RenderableType:
    made = table((name, "campaign"), _POINTS)
    for key, one in rows:
        row(made, (key, one.campaign, *_compared(one)))
    return titled(f"By {name}", made)


def _commands(found: CandidateReport, top: int) -> RenderableType:
    made = table(("member", "command", "it was", "it would be"), ("points",))
    for one in found.commands[:top]:
        row(made, (f"{one.brand}/{one.member_id}", one.event_id, one.recorded, one.would, one.points))
    return titled(f"{number(len(found.commands))} commands would have gone otherwise", made)


def _standings(found: WouldStandings, top: int) -> RenderableType:
    made = table(("member", "tier"), ("rank", "score", "prize", "paid in fact"))
    for place in found.entries[:top]:
        row(made, (place.member_id, place.tier, place.rank, place.score, place.prize, place.paid))
    shown = f", first {top} of {number(len(found.entries))}" if len(found.entries) > top else ""
    return titled(f"Standings of {found.campaign} by {found.metric}, retroactive{shown}", made)


def known(found: Known) -> RenderableType:
    """What was made, and how it is read."""
    made = (
        f"{found.directory} has what was known at {found.known_at}: {number(found.records)} records, "
        f"{number(found.events)} ledger events"
    )
    lost = f"{number(found.missing)} records are not on the log any more: engagement lacks what they brought."
    return Group(
        Text(made),
        *([Text(lost, style="bold")] if found.missing else []),
        Text(f"Read it: groundswell engagement BRAND --window all --data-dir {found.directory}"),
    )
