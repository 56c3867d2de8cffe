"""Why a decision that is derived again is not the one that the ledger has: each divergence with its cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple

from aggregates.definitions import Brand, Campaign
from aggregates.events import (
    PointsAdjusted,
    PointsRedeemed,
    PrizeAwarded,
    RedemptionCancelled,
    StoredEvent,
    from_stored,
)
from aggregates.ledger_store import CampaignKey
from aggregates.parsing import from_content
from schemas.dead_letters import Reason
from streams.rederive import DUPLICATE, NO_RECORD, Rederivation, Step, granted_of
from streams.rederive.decided import DefinitionKey, definition_key

LISTED: Final = 1_000
"""Divergences that are kept in full; all are counted."""


class Cause(StrEnum):
    """A stable name; the sentence is what a person reads."""

    sentence: str

    def __new__(cls, value: str, sentence: str = "") -> Cause:
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    RULE_CHANGED = (
        "rule_changed",
        "The definitions on the log are not those that the ledger has accepted: the record is judged by another rule.",
    )
    DUPLICATE = (
        "duplicate_beyond_horizon",
        "The record has the id of an earlier one, and one of the two runs was too far from that one to know it again.",
    )
    BUDGET = (
        "budget_grant",
        "What a campaign's budget granted is not what was left of it, in the order in which the ledger decided.",
    )
    MISSING = (
        "missing_input",
        "The log does not have all that the ledger has decided on, so this cannot be derived as it was the first time.",
    )
    FOLLOWS = (
        "follows",
        "The decision is another one because an earlier one on the same account is.",
    )
    CODE_CHANGE = (
        "code_change",
        "The same record under the same definitions: this release decides otherwise than the one that decided it.",
    )


class Divergence(NamedTuple):
    """One decision that differs."""

    cause: Cause
    partition: int
    offset: int
    event_id: str
    account: str
    """The aggregate: `account:BRAND/MEMBER` or `marker:BRAND/CAMPAIGN/PARTITION`."""
    field: str
    """The first field that differs; empty where there is a decision on one side alone."""
    recorded: str
    """What the ledger has there, as text; empty where it has nothing."""
    derived: str
    recorded_points: int
    """What the member's points changed by; below zero: points that were taken."""
    derived_points: int


class Missing(NamedTuple):
    """Decisions of a partition that no record of the log stands behind any more."""

    partition: int
    start: int
    end: int
    """The offsets that the log does not have, [start, end)."""
    decisions: int


class _Granted(NamedTuple):
    """What one decision took from a budget."""

    id: int
    left_at_most: int | None
    """The budget's size, by the version that paid; None: that had none, and what it paid counts for those that have."""
    points: int
    cut: bool
    step: tuple[int, int, str, str]
    """Partition, offset, event id and account."""


class Comparison:
    """Takes the steps of a run, and keeps what differs."""

    def __init__(self, run: Rederivation) -> None:
        self.compared = 0
        """Decisions that the ledger has, or that were derived."""
        self.causes: Counter[Cause] = Counter()
        self.listed: list[Divergence] = []
        self._run = run
        self._decided = run.decided
        self._diverged: set[str] = set()
        self._headless: dict[int, bool] = {}
        self._granted: dict[CampaignKey, list[_Granted]] = {}
        definitions = map(from_content, run.decided.contents.values())
        self._limited = {(c.brand, c.id) for c in definitions if isinstance(c, Campaign) and c.budget is not None}

    def take(self, step: Step) -> None:
        """Compare one step."""
        recorded, derived = step.recorded, step.derived
        if recorded is None and derived is None:
            return
        self.compared += 1
        if step.activity is not None and recorded is not None:
            self._note_budgets(step)
        if derived == recorded and (step.row is None or step.row.originator == step.account):
            return
        cause = self._cause(step)
        account = step.account or (step.row.originator if step.row is not None else "")
        self._diverged.add(account)
        field, mine, theirs = _first_difference(recorded, derived)
        event: Any = recorded if recorded is not None else derived
        self._add(
            Divergence(
                cause, step.partition, step.offset, event.origin.event_id, account, field, mine, theirs,
                points_of(recorded), points_of(derived),
            )
        )  # fmt: skip

    def finish(self) -> None:
        """Compare what the budgets granted with what was left of them, in the order of decisions."""
        elsewhere = self._granted_elsewhere() if self._granted else set()
        for key, granted in sorted(self._granted.items()):
            if key in elsewhere:
                continue  # that is not in sight here
            spent = 0
            for one in sorted(granted):
                before, spent = spent, spent + one.points
                if one.left_at_most is None:
                    continue
                left = max(0, one.left_at_most - before)
                if one.points > left or (one.cut and one.points != left):
                    said = f"{one.points} points of the {left} that were left of the budget of {key[0]}/{key[1]}"
                    place = Divergence(Cause.BUDGET, *one.step, "budget", said, f"at most {left}", one.points, left)
                    self._add(place)
            ledger = self._decided.spent.get(key, 0)
            if ledger != spent:
                event = f"{key[0]}/{key[1]}"
                said = f"the ledger has {ledger} points as spent"
                self._add(
                    Divergence(Cause.BUDGET, -1, -1, "", event, "budget", said, f"{spent} were granted", ledger, spent)
                )

    def missing(self) -> Iterator[Missing]:
        """What the log does not have of what the ledger has decided on, or would have had to."""
        run = self._run
        for partition in range(run.log.partitions):
            start, end = run.bounds(partition)
            before, behind = self._decided.count_outside(partition, start, end)
            if start > 0 or before:
                yield Missing(partition, 0, start, before)
            if run.until is None and run.position(partition) > end:
                yield Missing(partition, end, run.position(partition), behind)

    def _add(self, one: Divergence) -> None:
        self.causes[one.cause] += 1
        if len(self.listed) < LISTED:
            self.listed.append(one)

    # Causes

    def _cause(self, step: Step) -> Cause:
        if step.activity is None:
            return self._cause_of_extra(step)
        behind = self._behind(step)
        if behind & self._differing(step.partition):
            return Cause.RULE_CHANGED
        if step.recorded is None:
            self._decided.index_accounts()
            earlier = self._decided.decided_before(step.account, step.activity.value["event_id"], step.offset)
            if earlier is not None:
                gone = earlier.offset < self._run.bounds(step.partition)[0]
                return Cause.MISSING if gone else Cause.DUPLICATE
        if self._is_headless(step.partition) and (
            _tells_of_profiles(step) or behind - self._run.states[step.partition].contents.keys()
        ):
            return Cause.MISSING
        return Cause.FOLLOWS if step.account in self._diverged else Cause.CODE_CHANGE

    def _cause_of_extra(self, step: Step) -> Cause:
        """Why today's intake makes nothing of a record that was decided."""
        if step.why == DUPLICATE:
            return Cause.DUPLICATE
        if step.why == NO_RECORD:
            return Cause.MISSING
        if step.why in (Reason.UNKNOWN_BRAND, Reason.UNKNOWN_CAMPAIGN, Reason.WRONG_CURRENCY):
            brand = "" if step.row is None else brand_of(step.row.originator)
            if any(key[0] == brand for key in self._differing(step.partition)):
                return Cause.RULE_CHANGED
            if self._is_headless(step.partition):
                return Cause.MISSING
        return Cause.CODE_CHANGE

    def _is_headless(self, partition: int) -> bool:
        """Whether something was decided, or could have been, on records before the log's first one."""
        if partition not in self._headless:
            start, end = self._run.bounds(partition)
            self._headless[partition] = start > 0 or self._decided.count_outside(partition, start, end)[0] > 0
        return self._headless[partition]

    def _behind(self, step: Step) -> set[DefinitionKey]:
        """The definitions behind either decision."""
        activity = step.activity
        assert activity is not None
        definitions: list[Brand | Campaign] = [activity.brand, *activity.campaigns, *activity.not_joined]
        keys = {definition_key(one) for one in definitions}
        for event in (step.recorded, step.derived):
            for one in (*getattr(event, "grants", ()), *getattr(event, "refusals", ())):
                if one.campaign and one.version:
                    keys.add((activity.brand.id, one.campaign, one.version))
        return keys

    def _differing(self, partition: int) -> set[DefinitionKey]:
        """The definitions that the log has, so far, with other content than the ledger, or that one of them lacks.

        Of a log without its beginning it is not known what it lacks.
        """
        ours, theirs = self._run.states[partition].contents, self._decided.contents
        keys = ours.keys() if self._is_headless(partition) else ours.keys() | theirs.keys()
        return {key for key in keys if ours.get(key) != theirs.get(key)}

    # Budgets

    def _note_budgets(self, step: Step) -> None:
        activity, row = step.activity, step.row
        assert activity is not None
        assert row is not None
        for campaign in activity.campaigns:
            key = campaign.brand, campaign.id
            if key not in self._limited:
                continue
            points, cut = granted_of(step.recorded, campaign.id)
            if points or cut:
                place = (step.partition, step.offset, activity.value["event_id"], step.account)
                self._granted.setdefault(key, []).append(_Granted(row.id, campaign.budget, points, cut, place))

    def _granted_elsewhere(self) -> set[CampaignKey]:
        """Campaigns that paid something on records outside of the run."""
        found = set()
        for partition in range(self._run.log.partitions):
            for row in self._decided.outside(partition, *self._run.bounds(partition)):
                brand = brand_of(row.originator)
                event = from_stored(row.name, row.state)
                found |= {(brand, grant.campaign) for grant in getattr(event, "grants", ())}
        return found


def brand_of(aggregate: str) -> str:
    """The brand of an account or a marker."""
    return aggregate.partition(":")[2].partition("/")[0]


def points_of(event: StoredEvent | None) -> int:
    """What an event changes a member's points by."""
    if isinstance(event, PointsRedeemed):
        return -event.points
    if isinstance(event, RedemptionCancelled | PointsAdjusted | PrizeAwarded):
        own = event.points
    else:
        own = sum(grant.points for grant in getattr(event, "grants", ()))
    back: int = sum(reversal.points for reversal in getattr(event, "reversals", ()))
    return own - back


def _first_difference(recorded: StoredEvent | None, derived: StoredEvent | None) -> tuple[str, str, str]:
    """The first field that differs with both values as text; the kinds of the events where these differ."""
    if type(recorded) is not type(derived):
        return "", _kind(recorded), _kind(derived)
    for name in getattr(type(recorded), "__struct_fields__", ()):
        ours, theirs = getattr(recorded, name), getattr(derived, name)
        if ours != theirs:
            return _deepest(name, ours, theirs)
    return "account", "", ""


def _deepest(path: str, ours: Any, theirs: Any) -> tuple[str, str, str]:
    if isinstance(ours, tuple) and isinstance(theirs, tuple) and len(ours) == len(theirs):
        for n, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            if one != other:
                return _deepest(f"{path}[{n}]", one, other)
    names = getattr(type(ours), "__struct_fields__", ())
    if names and type(ours) is type(theirs):
        for name in names:
            if getattr(ours, name) != getattr(theirs, name):
                return _deepest(f"{path}.{name}", getattr(ours, name), getattr(theirs, name))
    return path, _text(ours), _text(theirs)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "; ".join(map(_text, value)) or "none"
    reason = getattr(value, "reason", None)
    if reason is not None:
        return f"{value.campaign}/{value.rule} refused: {reason}"
    rule = getattr(value, "rule", None)
    return f"{value.campaign}/{rule} {value.points} points" if rule is not None else str(value)


def _kind(event: StoredEvent | None) -> str:
    return "" if event is None else type(event).__name__


def _tells_of_profiles(step: Step) -> bool:
    """Whether tier or followers are not those of the first time: the profiles before the log's start are not known."""
    for name in ("tier", "followers"):
        if getattr(step.recorded, name, None) != getattr(step.derived, name, None):
            return True
    return False
