"""What `explain` prints: a tree from each entry back to its cause, or from an event forward to all it caused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from service.render.tables import number, row, table, titled

if TYPE_CHECKING:
    from projections.answers import Explained, Explanation, Unpaid
    from projections.answers.effects import Caused, Effects, Judged, LotNow, Prize, Traced


def explanation(found: Explanation) -> RenderableType:
    """Where each entry comes from, and what paid nothing."""
    tree = _tree(f"Why {found.brand}/{found.member_id} has these points")
    for why in found.entries:
        _leaves(_branch(tree, _entry(why)), _causes(why))
    if not found.entries:
        _leaves(tree, ["no movements"])
    return Group(tree, _unpaid(found.unpaid)) if found.unpaid else tree


def _tree(title: str) -> Tree:
    return Tree(Text(title, style="bold"))


def _branch(tree: Tree, line: str) -> Tree:
    return tree.add(Text(line))


def _leaves(tree: Tree, lines: Iterable[str]) -> None:
    for line in lines:
        tree.add(Text(line))


def _entry(why: Explained) -> str:
    entry = why.entry
    return f"{entry.points:+,} {entry.kind} at {entry.occurred_at}, entry {entry.entry_id}"


def _causes(why: Explained) -> Iterator[str]:
    """Backward: the rule, what it comes to, the record, and where the points came from or went."""
    source = why.entry.source
    yield from _rule(why)
    yield f"record {source.event_id} at {source.topic}:{source.partition}:{source.offset}"
    yield _said({name: value for name, value in why.happened.items() if name != "formula"})
    yield from _dates(why)
    yield from _undone(why)
    yield from _moved(why)


def _said(happened: Mapping[str, Any]) -> str:
    return "it said: " + ", ".join(f"{name} {value}" for name, value in happened.items())


def _rule(why: Explained) -> Iterator[str]:
    entry, formula = why.entry, why.happened.get("formula")
    if entry.rule:
        by = f" by {number(why.tier_followers)} followers" if why.tier_followers is not None else ""
        tier = f", tier {why.tier}{by}" if why.tier else ""
        yield f"rule {entry.rule} of {entry.campaign} version {entry.campaign_version}{tier}"
    elif entry.campaign:
        yield f"of {entry.campaign} version {entry.campaign_version}"
    if isinstance(formula, Mapping):
        yield f"{_formula(formula)} comes to {number(why.entitled)}"
    if why.limited_by:
        yield f"of which {why.limited_by} kept back {number(why.entitled - entry.points)}"


def _dates(why: Explained) -> Iterator[str]:
    if why.entry.active_at:
        yield f"to be spent from {why.entry.active_at}, expires {why.entry.expires_at or 'never'}"


def _undone(why: Explained) -> Iterator[str]:
    if why.reverses:
        yield f"{'cancels' if why.entry.kind == 'cancelled' else 'takes back'} entry {why.reverses}"


def _moved(why: Explained) -> Iterator[str]:
    """Where the points came from or went; below zero they went the other way."""
    for lot, points in why.takes.items():
        if lot != why.entry.entry_id:
            yield f"took {number(points)} from lot {lot}" if points > 0 else f"gave {number(-points)} back to lot {lot}"
    if why.debt:
        yield f"{number(abs(why.debt))} of it {'became a debt' if why.debt > 0 else 'paid off debt'}"
    if why.shortfall > 0:
        yield f"{number(why.shortfall)} more could not be taken back"
    elif why.shortfall:
        yield f"{number(-why.shortfall)} of it had been given up before"


def _formula(formula: Mapping[str, Any]) -> str:
    per = {"flat": "", "unit": " a unit", "money": f" per {formula['per']} minor units"}[formula["basis"]]
    milli = formula["multiplier_milli"]
    times = "" if milli == 1000 else f" × {milli / 1000:g} for the tier"
    return f"{number(formula['rate'])} points{per}{times}"


def _unpaid(found: Iterable[Unpaid]) -> RenderableType:
    made = table(("occurred", "record", "campaign", "rule", "why"))
    for one in found:
        campaign = f"{one.campaign} v{one.campaign_version}" if one.campaign_version else one.campaign
        row(made, (one.occurred_at, f"{one.record_type} {one.event_id}", campaign, one.rule, one.sentence))
    return titled("Paid nothing", made)


# Forward


def effects(found: Effects) -> RenderableType:
    """Everything that came of an event."""
    tree = _tree(f"What came of it for {found.brand}/{found.member_id}")
    for one in found.events:
        _caused(tree, one)
    return tree


def _caused(tree: Tree, one: Caused) -> None:
    branch = _judged(tree, one)
    if one.referral is not None:
        due = _branch(branch, f"due to {one.referral.member_id}, who referred: record {one.referral.event_id}")
        if one.referral.judged is None:
            _leaves(due, ["not judged yet"])
        else:
            _judged(due, one.referral.judged)
    elif not (one.entries or one.unpaid or one.refused):
        _leaves(branch, ["no points came of it"])


def _judged(tree: Tree, one: Judged) -> Tree:
    source = one.source
    branch = _branch(tree, f"{one.record_type} {source.event_id} at {source.topic}:{source.partition}:{source.offset}")
    tier = f", tier {one.tier}" if one.tier else ""
    by = f" by {number(one.tier_followers)} followers" if one.tier_followers is not None else ""
    _leaves(branch, [f"occurred at {one.occurred_at}, recorded at {one.recorded_at}{tier}{by}", _said(one.happened)])
    for traced in one.entries:
        _traced(branch, traced)
    for unpaid in one.unpaid:
        what = f"rule {unpaid.rule} of {unpaid.campaign}" if unpaid.rule else unpaid.campaign or one.record_type
        version = f" version {unpaid.campaign_version}" if unpaid.campaign_version else ""
        _leaves(branch, [f"{what}{version} paid nothing: {unpaid.sentence} [{unpaid.reason}]"])
    if one.refused is not None:
        _leaves(branch, [f"refused: {one.refused}"])
    if one.prize is not None:
        _leaves(branch, [_prize(one.prize)])
    return branch


def _traced(tree: Tree, traced: Traced) -> None:
    why = traced.why
    branch = _branch(tree, _entry(why))
    _leaves(branch, [*_rule(why), *_dates(why), *_undone(why), *_moved(why)])
    for later in traced.later:
        source = later.entry.source
        line = f"{_entry(later)}: record {source.event_id} at {source.partition}:{source.offset}"
        _leaves(_branch(branch, line), _touched(later, why.entry.entry_id))
    if traced.lot is not None:
        _leaves(branch, [_lot(traced.lot)])


def _touched(later: Explained, entry: str) -> Iterator[str]:
    """What a later entry did to an entry and its lot."""
    if later.reverses == entry:
        yield "cancels it" if later.entry.kind == "cancelled" else "takes it back"
    taken = later.takes.get(entry, 0)
    if taken:
        yield f"took {number(taken)} of its points" if taken > 0 else f"gave {number(-taken)} back to it"


def _lot(lot: LotNow) -> str:
    if lot.state == "used_up":
        return "nothing of it is left"
    return f"{number(lot.left)} of it {'are' if lot.left != 1 else 'is'} left, {lot.state}"


def _prize(prize: Prize) -> str:
    by = f" of {number(prize.members)} by {prize.metric}" if prize.members is not None else ""
    score = f", score {prize.score}" if prize.score is not None else ""
    when = f", settled at {prize.settled_at}" if prize.settled_at else ""
    return f"rank {number(prize.rank)}{by} in {prize.campaign} version {prize.version}{score}{when}"
