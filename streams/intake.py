"""Intake: decode, check, and find duplicates; what is accepted goes on as activities, what is not as dead letters.

Records are taken in log order, and each sees the profiles, memberships and definitions before it. The outcome is a
function of the log alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka.partitioner import murmur2

from aggregates.activity import MARKER, Activity
from aggregates.definitions import UNKNOWN_TIER
from aggregates.programs import Judgement
from schemas.codec import DecodeError, decode, picker
from schemas.dead_letters import Reason
from schemas.signing import SIGNATURE_HEADER, verify
from schemas.topics import INPUTS, TRUSTED, activity_key
from schemas.validate import problem
from streams.readstate import MemberKey, ReadState
from streams.recent import Recent, identity

FUTURE_MS = 24 * 3_600_000
"""How far ahead of its record's own timestamp an event may be."""
BROADCAST = frozenset({"Definition", MARKER})
"""Record types that stand in every partition, under any key."""
PANE_TYPES = frozenset({"Interaction", "Purchase", "ReferralDue"})
"""Record types that make panes; only they move event time."""


_ids_of = picker("brand_id", "member_id", "event_id")


class DeadLetter(NamedTuple):
    """A rejected record, kept whole."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    reason: str
    detail: str
    headers: Sequence[tuple[str, bytes]] = ()
    """As the publisher sent them."""


class TooManyRejected(Exception):
    """Bad input passed a limit: the worker stops instead of draining a log that it cannot read."""


@dataclass(slots=True, frozen=True)
class Limits:
    """When rejected records stop the worker. Ratio in percent of the last `window` records."""

    run: int = 1_000
    percent: int = 50
    window: int = 2_000


class Rejected(Exception):
    """A record that is a dead letter, with the reason and a detail for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def remember(recent: Recent, record: Any) -> None:
    """Note a record of the log's tail that was not rejected when it was first taken, to rebuild the set of ids."""
    kind, (brand, member, event_id) = _ids_of(record.value)
    if kind not in BROADCAST:
        recent.add(identity(kind, brand, member, event_id), record.offset)


class Intake:
    """The intake of one partition."""

    def __init__(
        self,
        partition: int,
        partitions: int,
        state: ReadState,
        recent: Recent,
        secret: bytes,
        limits: Limits,
        anew: bool = False,
    ) -> None:
        """`anew`: other definitions stand for those of the log, so nothing is taken over of what these made of it."""
        self.partition = partition
        self.partitions = partitions
        self.state = state
        self.recent = recent
        self.secret = secret
        self.limits = limits
        self._anew = anew
        self.changed_members: dict[MemberKey, None] = {}
        """Members whose followers changed, or whose brand's tiers did, since they were last told; in that order."""
        self._bands_ahead = state.programs.bands_after(state.greatest_record_time)
        self._members: dict[bytes | None, tuple[str, str]] = {}
        """Good keys that were seen, and whose they are."""
        self._run = self._run_before(state)
        self._window = [0, 0]
        self._last: Rejected | None = None

    @staticmethod
    def _run_before(state: ReadState) -> int:
        """How many records in a row were rejected right before the read-state's position: a restart ends no run."""
        run = 0
        for offset in reversed(state.rejected):
            if offset != state.saved - 1 - run:
                break
            run += 1
        return run

    def take(self, records: Iterable[Any]) -> tuple[list[tuple[Activity, int]], list[DeadLetter]]:
        """The activities of `records`, each with the greatest event time before it, and the dead letters.

        Raises `TooManyRejected`.
        """
        activities: list[tuple[Activity, int]] = []
        letters: list[DeadLetter] = []
        state = self.state
        for record in records:
            if record.timestamp > state.greatest_record_time:
                state.greatest_record_time = record.timestamp
                while self._bands_ahead and self._bands_ahead[0][0] <= record.timestamp:
                    self.changed_members.update(dict.fromkeys(state.members_of(self._bands_ahead.pop(0)[1])))
            before = state.greatest_event_time
            try:
                activity = self._accept(record)
            except Rejected as no:
                kept = (record.offset, record.timestamp, record.key, record.value)
                letters.append(DeadLetter(*kept, no.reason, no.detail, tuple(record.headers)))
                state.reject(record.offset)
                state.counts[f"rejected_{no.reason}"] += 1
                self._limit(record.offset, no)
                continue
            if self._window[0] + 1 < self.limits.window:  # `_limit`, where it has nothing to look at
                self._window[0] += 1
                self._run = 0
            else:
                self._limit(record.offset, None)
            if activity is not None:
                activities.append((activity, before))
        return activities, letters

    def _accept(self, record: Any) -> Activity | None:
        try:
            kind, value = decode(record.value)
        except DecodeError as error:
            raise Rejected(error.reason, error.detail) from error
        if kind not in INPUTS:
            raise Rejected(Reason.NOT_INPUT, f"{kind} is a record type of an output topic")
        if kind in TRUSTED and not self._is_signed(record):
            raise Rejected(Reason.UNSIGNED, f"{kind}: the {SIGNATURE_HEADER} header is missing or not ours")
        fault = problem(kind, value)
        if fault is not None:
            raise Rejected(Reason.INVALID, fault.message)
        brand: str = value["brand_id"]
        if kind in BROADCAST:
            return self._broadcast(kind, value, record.offset)
        member: str = value["member_id"]
        self._check_key(record.key, brand, member)
        if value["occurred_at"] > record.timestamp + FUTURE_MS:
            raise Rejected(
                Reason.IN_THE_FUTURE, f"occurred_at {value['occurred_at']} is more than a day after {record.timestamp}"
            )
        ident = identity(kind, brand, member, value["event_id"])
        judged: Judgement | None = None
        try:
            judged = self._judge(kind, value, brand, member)
        except Rejected:  # the first record with an id counts, whatever a later one says
            if not self.recent.has(ident, record.offset):
                raise
        if self.recent.add(ident, record.offset):
            self.state.counts["duplicate"] += 1
            return None
        assert judged is not None
        self.state.counts["accepted"] += 1
        return self._enrich(kind, value, judged, record.offset)

    def activity(self, kind: str, value: dict[str, Any], offset: int) -> Activity | None:
        """The activity of a valid record of a member, as if it were new and next; None for one that makes none.

        Raises `Rejected` for a brand, campaign or currency that the definitions before it do not have.
        """
        judged = self._judge(kind, value, value["brand_id"], value["member_id"])
        return self._enrich(kind, value, judged, offset)

    def _is_signed(self, record: Any) -> bool:
        return any(
            name == SIGNATURE_HEADER and verify(self.secret, record.key or b"", record.value, signature)
            for name, signature in record.headers
        )

    def _check_key(self, key: bytes | None, brand: str, member: str) -> None:
        if self._members.get(key) == (brand, member):
            return
        expected = activity_key(brand, member)
        if key != expected:
            raise Rejected(Reason.WRONG_KEY, f"the key is {key!r}, not {expected!r}")
        partition = (murmur2(key) & 0x7FFFFFFF) % self.partitions
        if partition != self.partition:
            raise Rejected(
                Reason.WRONG_KEY, f"key {key!r} belongs to partition {partition} (murmur2), it came in {self.partition}"
            )
        if len(self._members) > 100_000:
            self._members.clear()
        self._members[key] = brand, member

    def _judge(self, kind: str, value: dict[str, Any], brand: str, member: str) -> Judgement:
        occurred_at: int = value["occurred_at"]
        ordered_at = value.get("ordered_at") if kind == "ReferralDue" else None
        at = occurred_at if ordered_at is None else ordered_at
        named = value.get("campaign_id")
        judged = self.state.programs.judge(
            brand, named, at, lambda campaign: self.state.is_member((brand, member, campaign), at)
        )
        if ordered_at is not None:
            judged = self._as_the_order(value, judged, ordered_at)
        if judged.problem:
            subject = brand if judged.problem == Reason.UNKNOWN_BRAND else f"{brand}/{named}"
            raise Rejected(judged.problem, f"{subject} is not defined before this record")
        assert judged.brand is not None
        currency = value.get("currency")
        if currency is not None and currency != judged.brand.currency:
            raise Rejected(Reason.WRONG_CURRENCY, f"currency {currency}: {brand} has {judged.brand.currency}")
        return judged

    def _as_the_order(self, refund: dict[str, Any], judged: Judgement, ordered_at: int) -> Judgement:
        """A friend's refund, judged by when its order occurred: it counts for the campaigns that this counted for.

        The order names them, since more may be known of the past by now than when it came.
        """
        programs, brand = self.state.programs, refund["brand_id"]
        judged = judged._replace(brand=programs.brand(brand, refund["occurred_at"]))
        counted_for: str | None = refund["counted_for"]
        if counted_for is None or self._anew:
            return judged
        campaigns = programs.named(brand, filter(None, counted_for.split("/")), ordered_at)
        return judged._replace(campaigns=campaigns, not_live=judged.not_live and not campaigns)

    def _broadcast(self, kind: str, value: dict[str, Any], offset: int) -> Activity | None:
        state = self.state
        if kind == "Definition":
            brand_id: str = value["brand_id"]
            if state.define(offset, brand_id, value["content"]):
                self.changed_members.update(dict.fromkeys(state.members_of(brand_id)))
                self._bands_ahead = state.programs.bands_after(state.greatest_record_time)
            state.counts["definition"] += 1
            return None
        brand = state.programs.brand(value["brand_id"], value["occurred_at"])
        if brand is None:
            raise Rejected(Reason.UNKNOWN_BRAND, f"{value['brand_id']} is not defined before this record")
        if not state.close(value["brand_id"], value["campaign_id"], offset):
            state.counts["duplicate"] += 1  # the outbox sends at least once; the first marker counts
            return None
        state.counts["closing"] += 1
        return Activity(MARKER, offset, value, brand, (), False, (), UNKNOWN_TIER, None, False)

    def _enrich(self, kind: str, value: dict[str, Any], judged: Judgement, offset: int) -> Activity | None:
        state = self.state
        brand_id, member, at = value["brand_id"], value["member_id"], value["occurred_at"]
        if kind == "ProfileSnapshot":
            self._profile(value, value["followers"])
            return None
        if kind == "Enrolment":
            state.set_membership((brand_id, member, value["campaign_id"]), at, offset, value["kind"] == "joined")
            return None
        followers: int | None = None
        is_self = False
        profile = state.profiles.get((brand_id, member))
        if kind == "Interaction":
            is_self = value["actor_id"] == member and value["kind"] != "post"
            known = profile.get(value["platform"]) if profile else None
            followers = value["followers"] if value["surface"] == "member_post" else None
            if followers is None:
                followers = known
            elif followers != known:
                self._profile(value, followers)
                profile = state.profiles[brand_id, member]
        assert judged.brand is not None
        behind: int | None = None
        if kind == "ReferralDue":
            # Where a derived record stands among the member's others depends on when it was sent: log order would make
            # its tier a matter of chance.
            _, _, tier, _, behind = state.tier_at((brand_id, member), at)
        elif profile:
            behind = max(profile.values())
            tier = judged.brand.tier_of(behind)
        else:
            tier = UNKNOWN_TIER
        if kind in PANE_TYPES and at > state.greatest_event_time:
            state.greatest_event_time = at
        if judged.not_live:
            state.counts["not_live"] += 1
        return Activity(
            kind, offset, value, judged.brand, judged.campaigns, judged.not_live, judged.not_joined, tier, followers,
            is_self, behind,
        )  # fmt: skip

    def _profile(self, value: dict[str, Any], followers: int) -> None:
        key = value["brand_id"], value["member_id"]
        if self.state.set_followers(key, value["occurred_at"], value["platform"], followers):
            self.changed_members[key] = None

    def _limit(self, offset: int, no: Rejected | None) -> None:
        self._run = self._run + 1 if no else 0
        self._last = no or self._last
        self._window[0] += 1
        self._window[1] += no is not None
        seen, bad = self._window
        over = self._run >= self.limits.run
        if seen >= self.limits.window:
            over = over or bad * 100 > seen * self.limits.percent
            self._window = [0, 0]
        if over and self._last is not None:
            raise TooManyRejected(
                f"partition {self.partition} offset {offset}: {self._run} records in a row and {bad} of the last "
                f"{seen} were rejected, the last as {self._last.reason} ({self._last.detail}). They are not committed. "
                "See what is written to the topic, or raise GROUNDSWELL_DEAD_LETTER_RUN and "
                "GROUNDSWELL_DEAD_LETTER_PERCENT to let them pass to the dead letters."
            )
