"""Logs of several partitions, the ledger that a worker made of them, and a replay of both: all in one process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exact_bench import BRAND, CAMPAIGN, NOW, SECRET, Record, definition, interaction, partition_of, purchase, record

from aggregates.database import open_database
from aggregates.ledger import Ledger, Source, brand_aggregate, campaign_aggregate
from aggregates.ledger_store import Encoded, encoded
from aggregates.parsing import parse
from aggregates.program_events import BrandDefined, CampaignDefined
from aggregates.programs import Brand, Campaign, content_of
from schemas.topics import ACTIVITY, activity_key
from streams import readstate
from streams.intake import Intake
from streams.recent import Recent
from streams.rederive import NO_LIMITS, Rederivation
from streams.rederive.causes import Comparison
from streams.rederive.decided import Decided, Scratch
from streams.rewards import Rewards

EPOCH = "e1"
LIMITED = {
    **CAMPAIGN,
    "campaign": "tight",
    "budget": 40,
    "earn": [{"rule": "like", "on": "interaction", "kind": ["like"], "points": 3, "caps": {"per_post": 20}},
             {"rule": "spend", "on": "purchase", "per_minor": 100, "points": 1},
             {"rule": "flat", "on": "purchase", "points": 2}],
}  # fmt: skip
DOCUMENTS: list[dict[str, Any]] = [BRAND, CAMPAIGN, LIMITED]


@dataclass
class MemoryLog:
    """A log in lists."""

    records: list[list[Record]]
    chunk: int = 3
    starts: Mapping[int, int] = field(default_factory=dict)
    topic: str = ACTIVITY
    epoch: str = EPOCH

    @property
    def partitions(self) -> int:
        return len(self.records)

    @property
    def ends(self) -> dict[int, int]:
        return {partition: len(records) for partition, records in enumerate(self.records)}

    def read(self, partition: int, start: int, end: int) -> Iterator[Sequence[Record]]:
        for at in range(start, end, self.chunk):
            yield self.records[partition][at : min(at + self.chunk, end)]


def log_of(
    actions: Sequence[tuple[str, dict[str, Any]]], partitions: int, documents: Sequence[dict[str, Any]] = DOCUMENTS
) -> MemoryLog:
    """Definitions in every partition, then each action on its member's; every record at a time of its own."""
    records: list[list[Record]] = [[] for _ in range(partitions)]
    for part in records:
        part.extend(definition(len(part), document) for document in documents)
    for n, (kind, value) in enumerate(actions):
        if kind == "Definition":
            for part in records:
                part.append(definition(len(part), value)._replace(timestamp=NOW + n))
            continue
        part = records[partition_of(activity_key(value["brand_id"], value["member_id"]), partitions)]
        part.append(record(len(part), kind, value, NOW + n))
    return MemoryLog(records)


class Live:
    """A ledger, and the workers of all partitions, which take as many records at a time as they are told."""

    def __init__(
        self, directory: Path, log: MemoryLog, documents: Sequence[dict[str, Any]] = DOCUMENTS, database: str = ""
    ) -> None:
        self.log = log
        self.database = database or f"sqlite:///{directory / 'live.db'}"
        self.ledger = Ledger(self.database)
        self.ledger.migrate()
        self.engine = open_database(self.database)
        readstate.create_tables(self.engine)
        if not self.ledger.last_notification():
            self.ledger.store.write([_defined(document) for document in documents])
        self._workers: list[tuple[Intake, Rewards]] = []
        for partition in range(log.partitions):
            source = Source(ACTIVITY, log.epoch, partition)
            self.ledger.take(source, "w", 0)
            state = readstate.take(self.engine, source, "w")
            intake = Intake(partition, log.partitions, state, Recent(), SECRET, NO_LIMITS)
            self._workers.append((intake, Rewards(self.ledger, source, 0, "w", lambda: NOW)))

    def work(self, partition: int, count: int = 1 << 30) -> None:
        """Take the next records of a partition as one batch."""
        intake, rewards = self._workers[partition]
        records = self.log.records[partition][rewards.position : rewards.position + count]
        if records:
            activities, _ = intake.take(records)
            rewards.submit([activity for activity, _ in activities], records[-1].offset + 1)

    def finish(self, schedule: Sequence[tuple[int, int]] = ()) -> Live:
        """Take everything, first as the schedule of (partition, count) says, and save the read-state."""
        for partition, count in schedule:
            self.work(partition % self.log.partitions, count)
        for partition, (intake, rewards) in enumerate(self._workers):
            self.work(partition)
            source = Source(ACTIVITY, self.log.epoch, partition)
            readstate.save(self.engine, source, intake.state.take(0, rewards.position), "w", {})
        return self

    def close(self) -> None:
        self.engine.dispose()
        self.ledger.close()


def _defined(document: dict[str, Any]) -> Encoded:
    one = parse(document, "test")
    content = content_of(one)
    if isinstance(one, Brand):
        event: Any = BrandDefined(one.id, one.version, one.effective_at, content, NOW)
        return encoded(brand_aggregate(one.id), one.version, event)
    event = CampaignDefined(one.brand, one.id, one.version, one.effective_at, content, NOW)
    return encoded(campaign_aggregate(one.brand, one.id), one.version, event)


@contextmanager
def lived(log: MemoryLog, schedule: Sequence[tuple[int, int]] = (), **options: Any) -> Iterator[Live]:
    """A ledger that has decided on the whole log."""
    with tempfile.TemporaryDirectory() as directory, closing(Live(Path(directory), log, **options)) as live:
        yield live.finish(schedule)


@contextmanager
def replayed(
    live: Live,
    log: MemoryLog | None = None,
    candidate: Sequence[Brand | Campaign] = (),
    until: int | None = None,
    candidate_of: Callable[[Decided], Sequence[Brand | Campaign]] | None = None,
) -> Iterator[Rederivation]:
    """A replay of a log beside what the ledger decided."""
    engine = open_database(live.database, read_only=True)
    with tempfile.TemporaryDirectory() as directory, closing(Scratch(Path(directory) / "scratch.db")) as scratch:
        decided = Decided(scratch, engine)
        decided.copy()
        candidate = candidate if candidate_of is None else candidate_of(decided)
        yield Rederivation(log or live.log, decided, scratch, SECRET, candidate, until)
    engine.dispose()


def compared(live: Live, log: MemoryLog | None = None, until: int | None = None) -> Comparison:
    """What differs."""
    with replayed(live, log, until=until) as run:
        comparison = Comparison(run)
        for step in run.steps():
            comparison.take(step)
        comparison.finish()
        comparison.gone = list(comparison.missing())  # type: ignore[attr-defined]
        return comparison


def like(member: str, event_id: str, quantity: int = 1, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Likes on a member's post, or unlikes."""
    return "Interaction", interaction(member_id=member, event_id=event_id, quantity=quantity, **fields)


def buy(member: str, event_id: str, amount: int = 1_000, **fields: Any) -> tuple[str, dict[str, Any]]:
    """An order, named as its event unless said otherwise."""
    value = purchase(member_id=member, event_id=event_id, amount_minor=amount, order_id=event_id)
    return "Purchase", {**value, **fields}


def redeem(member: str, event_id: str, points: int) -> tuple[str, dict[str, Any]]:
    """A redemption."""
    value = {"event_id": event_id, "occurred_at": NOW, "brand_id": "acme", "member_id": member, "kind": "redeem"}
    return "Command", {**value, "points": points, "reference": None, "reason": None, "requested_by": "test"}


def followers(member: str, event_id: str, number: int) -> tuple[str, dict[str, Any]]:
    """A profile."""
    value = {"event_id": event_id, "occurred_at": NOW, "brand_id": "acme", "member_id": member}
    return "ProfileSnapshot", {**value, "platform": "x", "followers": number}


def referral(member: str, event_id: str, buyer: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    """A friend's order that is due to a member."""
    value = {"event_id": event_id, "occurred_at": NOW, "brand_id": "acme", "member_id": member, "buyer_id": buyer}
    value |= {"order_id": f"o-{event_id}", "kind": "completed", "amount_minor": 900, "currency": "EUR"}
    return "ReferralDue", {**value, "campaign_id": None, "new_customer": True, **fields}
