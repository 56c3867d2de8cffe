"""The activity log once more: the worker's own intake and decisions, beside what the ledger decided the first time.

Nothing is written but the scratch file, and nothing is sent. Each partition is derived by itself, from its first record
on. What a campaign's budget granted is taken as it was recorded, since what was left depended on the other partitions;
only campaigns of a candidate have budgets of their own, which are served first come, first served, by the time that
records have on the log.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol

from aggregates.account import decide, evolve
from aggregates.activity import MARKER, Activity
from aggregates.events import AccountEvent, Grant, Origin, Refusal, StoredEvent, from_stored
from aggregates.ledger import Source, account_id, marker_aggregate
from aggregates.ledger_store import PLENTY, CampaignKey
from aggregates.program_events import MarkerPassed
from aggregates.programs import Brand, Campaign, content_of, from_content
from aggregates.refusals import Refusal as Why
from schemas.codec import DecodeError, decode
from schemas.dead_letters import Reason
from streams.intake import DeadLetter, Intake, Limits
from streams.readstate import ReadState
from streams.recent import Recent
from streams.rederive.decided import Accounts, Decided, DefinitionKey, Row, Scratch, definition_key

NO_LIMITS: Final = Limits(run=1 << 62, percent=100, window=1 << 62)
"""Whatever the worker was told to let pass, it let pass."""
DUPLICATE: Final = "duplicate"
"""Why today's intake accepts nothing of a record whose id it has seen within the horizon."""
NO_RECORD: Final = "no_record"
"""Why there is nothing at an offset that was decided."""


class Log(Protocol):
    """An activity log, in its topic or in an archive."""

    @property
    def topic(self) -> str:
        """Its name."""

    @property
    def epoch(self) -> str:
        """Which log it is."""

    @property
    def partitions(self) -> int:
        """How many it has."""

    @property
    def starts(self) -> Mapping[int, int]:
        """Partition → its first offset."""

    @property
    def ends(self) -> Mapping[int, int]:
        """Partition → the offset after its last one."""

    def read(self, partition: int, start: int, end: int) -> Iterator[Sequence[Any]]:
        """The records in [start, end), in chunks."""


class WrongSecret(Exception):
    """The log was signed with another secret: none of its own records would be believed."""


class Step(NamedTuple):
    """What was decided on one record, then and now; either is None where it was nothing."""

    partition: int
    offset: int
    activity: Activity | None
    """None where today's intake accepts nothing; `why` says the reason."""
    account: str
    """The aggregate of the event that is derived."""
    derived: StoredEvent | None
    row: Row | None
    """What the ledger stored, as it stands there."""
    recorded: StoredEvent | None
    """The same, read."""
    why: str


class _Judged(NamedTuple):
    time: int
    """The greatest time of the partition's records so far; 0 where nobody needs the order."""
    partition: int
    offset: int
    activity: Activity | None
    row: Row | None
    why: str


@dataclass(slots=True)
class LogState(ReadState):
    """A read-state that keeps the text of the definitions it has met, and does not take those of some subjects."""

    contents: dict[DefinitionKey, str] = field(default_factory=dict)
    replaced: frozenset[tuple[str, str]] = frozenset()
    """Brand and campaign (empty: the brand itself) that other definitions stand for, from the start."""

    def define(self, offset: int, brand: str, content: str) -> bool:
        """Take in a definition of the log, unless another one takes its place."""
        key = definition_key(from_content(content))
        if key[:2] in self.replaced:
            return False
        self.contents[key] = content
        return super(LogState, self).define(offset, brand, content)


class Rederivation:
    """One run over a log."""

    def __init__(
        self,
        log: Log,
        decided: Decided,
        scratch: Scratch,
        secret: bytes,
        candidate: Sequence[Brand | Campaign] = (),
        until: int | None = None,
    ) -> None:
        """`candidate`: definitions that stand for all others of their brand or campaign, from the first record on.

        `until` (epoch milliseconds): the last time of records on the log that is derived; None: all that was decided.
        """
        self.log = log
        self.decided = decided
        self.accounts = Accounts(scratch)
        self.states: dict[int, LogState] = {}
        """Partition → its read-state, as far as it has come."""
        self.records = 0
        """Records read so far."""
        self.spent: dict[CampaignKey, int] = {}
        """Points that each campaign which is judged anew has paid so far."""
        self._secret = secret
        self.candidate = candidate
        self.until = until
        self._stopped: dict[int, int] = {}
        self._anew = {(one.brand, one.id) for one in candidate if isinstance(one, Campaign)}
        self._brands = {one.id for one in candidate if isinstance(one, Brand)}
        limited = any(isinstance(one, Campaign) and one.budget is not None for one in candidate)
        self._in_order = limited or bool(self._brands)

    def bounds(self, partition: int) -> tuple[int, int]:
        """The offsets that are derived: those that the log has and the ledger has decided, [start, end)."""
        start = self.log.starts.get(partition, 0)
        end = self._stopped.get(partition, min(self.log.ends.get(partition, 0), self.position(partition)))
        return start, max(start, end)

    def position(self, partition: int) -> int:
        """The next offset of the log that the ledger has not decided."""
        return self.decided.positions.get(Source(self.log.topic, self.log.epoch, partition).name, 0)

    def steps(self) -> Iterator[Step]:
        """Every record that makes a decision, or made one. Raises `WrongSecret`, and what the log raises."""
        runs = [self._judged(partition) for partition in range(self.log.partitions)]
        judged = heapq.merge(*runs, key=lambda one: one.time) if self._in_order else chain(*runs)
        for one in judged:
            row = one.row
            recorded = None if row is None else from_stored(row.name, row.state)
            activity = one.activity
            if activity is None:
                yield Step(one.partition, one.offset, None, "", None, row, recorded, one.why)
                continue
            account, derived = self._derive(one.partition, activity, recorded)
            yield Step(one.partition, one.offset, activity, account, derived, row, recorded, "")

    # Intake

    def _judged(self, partition: int) -> Iterator[_Judged]:
        """A partition's records as the intake makes activities of them, each with what was decided on it."""
        start, end = self.bounds(partition)
        state = self.states[partition] = self._state_at(partition, start)
        intake = Intake(
            partition, self.log.partitions, state, Recent(), self._secret, NO_LIMITS, anew=bool(self.candidate)
        )
        at = start
        for chunk in self.log.read(partition, start, end):
            records = self._until_then(partition, state, chunk)
            if records:
                times = self._times(state.greatest_record_time, records) if self._in_order else {}
                activities, letters = intake.take(records)
                for letter in letters:
                    self._check_signature(letter)
                following = records[-1].offset + 1
                rows = {row.offset: row for row in self.decided.between(partition, at, following)}
                for activity, _ in activities:
                    offset = activity.offset
                    row = rows.pop(offset, None)
                    yield _Judged(times.get(offset, 0), partition, offset, activity, row, "")
                if rows:
                    yield from self._nothing_of(partition, rows, records, letters, times)
                at = following
                self.records += len(records)
                self.accounts.make_room()
            if len(records) < len(chunk):
                self._stopped[partition] = at
                return

    def _until_then(self, partition: int, state: LogState, chunk: Sequence[Any]) -> Sequence[Any]:
        """The records up to the first that came to the log after `until`."""
        if self.until is None:
            return chunk
        late = next((n for n, record in enumerate(chunk) if record.timestamp > self.until), len(chunk))
        return chunk[:late]

    @staticmethod
    def _times(greatest: int, records: Sequence[Any]) -> dict[int, int]:
        times = {}
        for record in records:
            greatest = times[record.offset] = max(greatest, record.timestamp)
        return times

    @staticmethod
    def _nothing_of(
        partition: int,
        rows: dict[int, Row],
        records: Sequence[Any],
        letters: Sequence[DeadLetter],
        times: Mapping[int, int],
    ) -> Iterator[_Judged]:
        """What was decided on records of which today's intake makes no activity."""
        offsets = {record.offset for record in records}
        rejected = {letter.offset: letter.reason for letter in letters}
        for offset, row in rows.items():
            why = rejected.get(offset, DUPLICATE) if offset in offsets else NO_RECORD
            yield _Judged(times.get(offset, 0), partition, offset, None, row, why)

    def _state_at(self, partition: int, start: int) -> LogState:
        """The read-state before a partition's first record, and the accounts that earlier decisions have left."""
        replaced = frozenset(definition_key(one)[:2] for one in self.candidate)
        state = LogState(replaced=replaced)
        source = Source(self.log.topic, self.log.epoch, partition)
        for content in self.decided.state_before(source, state, start):
            state.define(-1, definition_key(from_content(content))[0], content)
        for definition in self.candidate:
            state.programs.add(content_of(definition))
        for row in self.decided.outside(partition, start, PLENTY):
            event = from_stored(row.name, row.state)
            if not isinstance(event, MarkerPassed):
                evolve(self.accounts.get(row.originator), event)  # type: ignore[arg-type]
                self.accounts.make_room()
        return state

    def _check_signature(self, letter: DeadLetter) -> None:
        """A definition that the ledger has accepted, and that is not ours by its signature, shows another secret."""
        if letter.reason != Reason.UNSIGNED or letter.value is None:
            return
        try:
            kind, value = decode(letter.value)
        except DecodeError:
            return
        if kind == "Definition" and value["content"] in self.decided.contents.values():
            raise WrongSecret(
                f"the definition at offset {letter.offset} of the log is not signed with the secret at hand: set "
                "GROUNDSWELL_SECRET to the one that the log was written with"
            )

    # Decisions

    def _derive(
        self, partition: int, activity: Activity, recorded: StoredEvent | None
    ) -> tuple[str, StoredEvent | None]:
        """The aggregate, and what today's code decides on it."""
        value = activity.value
        known = getattr(recorded, "origin", None)
        recorded_at = 0 if known is None else known.recorded_at
        origin = Origin(
            self.log.topic, partition, activity.offset, value["event_id"], value["occurred_at"], recorded_at
        )
        brand = value["brand_id"]
        if activity.type == MARKER:
            campaign = value["campaign_id"]
            return marker_aggregate(brand, campaign, partition), MarkerPassed(origin, brand, campaign)
        name = account_id(brand, value["member_id"])
        account = self.accounts.get(name)
        made: AccountEvent | None = None
        for made in decide(account, activity, origin, self._left(activity, recorded)):
            evolve(account, made)
            if self._in_order:
                self._spend(activity, made)
        return name, made

    def _is_anew(self, campaign: Campaign) -> bool:
        """Whether its budget is spent anew, instead of as it was recorded."""
        return campaign.brand in self._brands or (campaign.brand, campaign.id) in self._anew

    def _left(self, activity: Activity, recorded: StoredEvent | None) -> dict[str, int]:
        """Points left by campaign, of those of the activity that have a budget."""
        left = {}
        for campaign in activity.campaigns:
            if campaign.budget is None:
                continue
            if self._is_anew(campaign):
                left[campaign.id] = campaign.budget - self.spent.get((campaign.brand, campaign.id), 0)
            else:
                granted, cut = granted_of(recorded, campaign.id)
                left[campaign.id] = granted if cut else PLENTY
        return left

    def _spend(self, activity: Activity, made: AccountEvent) -> None:
        for campaign in activity.campaigns:
            if self._is_anew(campaign):  # with no budget too: a later version may have one
                key = campaign.brand, campaign.id
                self.spent[key] = self.spent.get(key, 0) + granted_of(made, campaign.id)[0]


def granted_of(event: StoredEvent | None, campaign: str) -> tuple[int, bool]:
    """Points that an event grants under a campaign, and whether its budget kept something of them back.

    What was kept back tells what was left of the budget: all of it was granted.
    """
    grants: tuple[Grant, ...] = getattr(event, "grants", ())
    refusals: tuple[Refusal, ...] = getattr(event, "refusals", ())
    ours = [grant for grant in grants if grant.campaign == campaign]
    cut = any(grant.limited_by == Why.BUDGET for grant in ours) or any(
        refusal.campaign == campaign and refusal.reason == Why.BUDGET for refusal in refusals
    )
    return sum(grant.points for grant in ours), cut
