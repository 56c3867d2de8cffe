"""The outbox: records that follow from committed ledger events, sent in order, at least once, with a stored position.

Definitions go to every partition of the activity log and to their own topic, a closed campaign's marker to every
partition; a referred purchase, or its refund, goes to the referrer's key, a prize to the winner's. Ids are computed
from the event that caused them, so a repetition is a duplicate downstream.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from aiokafka import AIOKafkaProducer

from aggregates.events import CommandRefused, PrizeAwarded, PurchaseRecorded, ReferralJudged, RefundRecorded
from aggregates.ledger import Ledger, Recorded
from aggregates.program_events import BrandDefined, CampaignClosed, CampaignDefined, StandingsKept
from aggregates.rules import record_id
from schemas.codec import decode, encode
from schemas.signing import SIGNATURE_HEADER, sign
from schemas.topics import ACTIVITY, DEFINITIONS
from schemas.validate import problem
from service.broker.publisher import record
from streams import readstate, readstate_tables

METADATA = sa.MetaData()
POSITION = sa.Table(
    "outbox_position",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False, comment="last ledger notification whose records are sent"),
)
_SENT: Final = sa.select(POSITION.c.position).where(POSITION.c.name == sa.bindparam("of"))
_MOVED: Final = sa.update(POSITION).where(
    POSITION.c.name == sa.bindparam("of"), POSITION.c.position == sa.bindparam("old")
)
NAME: Final = "activity"
"""Of the position up to which records are on the activity log."""
PAGE: Final = 1_000


class Message(NamedTuple):
    """One record to send; `partition` None: where its key belongs."""

    topic: str
    partition: int | None
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def position(connection: sa.Connection, name: str = NAME) -> int:
    """The last notification whose records are all acknowledged."""
    return connection.execute(_SENT, {"of": name}).scalar_one_or_none() or 0


class SentPosition:
    """A stored position of its own name: the last ledger notification whose records are all acknowledged."""

    def __init__(self, engine: sa.Engine, name: str) -> None:
        """Starts at 0 where it is not there yet."""
        self._engine = engine
        self._name = name
        with engine.begin() as connection:
            if connection.execute(sa.select(POSITION).where(POSITION.c.name == name)).one_or_none() is None:
                connection.execute(POSITION.insert(), {"name": name, "position": 0})

    def read(self) -> int:
        """The position."""
        with self._engine.connect() as connection:
            return position(connection, self._name)

    def move(self, old: int, new: int) -> bool:
        """Store `new` in the place of `old`; False when it is not at `old` any more."""
        with self._engine.begin() as connection:
            return connection.execute(_MOVED, {"of": self._name, "old": old, "position": new}).rowcount == 1


def messages(recorded: Recorded, secret: bytes, partitions: int, ledger: Ledger | None = None) -> Iterator[Message]:
    """What follows from one ledger event; with a ledger, a friend's refund says what its order counted for."""
    event = recorded.event
    if isinstance(event, BrandDefined | CampaignDefined):
        yield from _definition(event, secret, partitions)
    elif isinstance(event, CampaignClosed):
        yield from _closing(event, secret, partitions)
    elif isinstance(event, StandingsKept):
        yield from _prizes(event, secret)
    elif isinstance(event, PurchaseRecorded) and event.referral == "due":
        yield _referral(recorded, event, secret)
    elif isinstance(event, RefundRecorded) and event.referrer_id is not None:
        yield _referral(recorded, event, secret, ledger)


def _definition(event: BrandDefined | CampaignDefined, secret: bytes, partitions: int) -> Iterator[Message]:
    subject = "campaign" if isinstance(event, CampaignDefined) else "brand"
    subject_id = event.campaign if isinstance(event, CampaignDefined) else event.brand
    value: dict[str, Any] = {
        "occurred_at": event.recorded_at,
        "brand_id": event.brand,
        "subject": subject,
        "subject_id": subject_id,
        "version": event.version,
        "effective_at": event.effective_at,
        "content": event.content,
    }
    name = f"{event.brand}/{subject}/{subject_id}/{event.version}"
    key = event.brand.encode()
    definition = {"event_id": record_id("definition", name), **value}
    _check("Definition", definition)
    data = encode("Definition", definition)
    for partition in range(partitions):
        yield Message(ACTIVITY, partition, key, data, [(SIGNATURE_HEADER, sign(secret, key, data))])
    output = {**value, "recorded_at": event.recorded_at}
    del output["occurred_at"]
    yield Message(DEFINITIONS, None, name.encode(), encode("ProgramDefinition", output), [])


def _closing(event: CampaignClosed, secret: bytes, partitions: int) -> Iterator[Message]:
    value = {
        "event_id": record_id("closing", event.brand, event.campaign),
        "occurred_at": event.closed_at,
        "brand_id": event.brand,
        "campaign_id": event.campaign,
    }
    _check("CampaignClosing", value)
    key, data = event.brand.encode(), encode("CampaignClosing", value)
    for partition in range(partitions):
        yield Message(ACTIVITY, partition, key, data, [(SIGNATURE_HEADER, sign(secret, key, data))])


def _prizes(event: StandingsKept, secret: bytes) -> Iterator[Message]:
    for place in event.places:
        if not place.prize:
            continue
        value = {
            "event_id": record_id("prize", event.brand, event.campaign, str(place.rank), place.member),
            "occurred_at": event.closed_at,
            "brand_id": event.brand,
            "member_id": place.member,
            "kind": "prize",
            "points": place.prize,
            "reference": event.campaign,
            "reason": None,
            "campaign_version": event.version,
            "rank": place.rank,
            "requested_by": "settlement",
        }
        _check("Command", value)
        key, data, headers = record(secret, "Command", value)
        yield Message(ACTIVITY, None, key, data, headers)


def _referral(
    recorded: Recorded, event: PurchaseRecorded | RefundRecorded, secret: bytes, ledger: Ledger | None = None
) -> Message:
    brand, _, buyer = recorded.originator.removeprefix("account:").partition("/")
    if isinstance(event, PurchaseRecorded):
        # What was refunded before the purchase came named no referrer: the referrer is judged on the net.
        kind, refunded, ordered_at, counted_for = "completed", event.refunded_minor, None, None
    else:
        kind, refunded, ordered_at = "refunded", 0, event.ordered_at
        counted_for = _counted_for(ledger, brand, buyer, event) if ledger else None
    value = {
        "event_id": record_id("referral", buyer, event.origin.event_id),
        "occurred_at": event.origin.occurred_at,
        "brand_id": brand,
        "member_id": event.referrer_id,
        "buyer_id": buyer,
        "order_id": event.order_id,
        "kind": kind,
        "amount_minor": max(0, event.amount_minor - refunded),
        "currency": event.currency,
        "campaign_id": event.campaign_id,
        "new_customer": event.new_customer,
        "ordered_at": ordered_at,
        "counted_for": counted_for,
    }
    _check("ReferralDue", value)
    key, data, headers = record(secret, "ReferralDue", value)
    return Message(ACTIVITY, None, key, data, headers)


def _counted_for(ledger: Ledger, brand: str, buyer: str, refund: RefundRecorded) -> str | None:
    """The campaigns that an order counted for on the referrer's account; None where it is not judged there yet."""
    assert refund.referrer_id is not None
    assert refund.order_id is not None
    order = ledger.account(brand, refund.referrer_id).referrals.get((buyer, refund.order_id))
    return "/".join(order.campaigns) if order and order.known else None


def _check(record_type: str, value: dict[str, Any]) -> None:
    fault = problem(record_type, value)
    if fault is not None:  # it would be a dead letter that nobody looks for
        raise RuntimeError(f"the outbox made a {record_type} that the intake would refuse: {fault.message}")


async def send_outputs_again(engine: sa.Engine, ledger: Ledger, client: AIOKafkaProducer, secret: bytes) -> None:
    """Fill topics that are nobody's input, such as the definitions', as far as the outbox was: on a new broker."""
    with engine.connect() as connection:
        reached = position(connection)
    after = 0
    while page := ledger.notifications(after, PAGE, reached):
        for recorded in page:
            for m in messages(recorded, secret, 0):
                if m.topic != ACTIVITY:
                    await client.send(m.topic, m.value, key=m.key, partition=m.partition, headers=m.headers)
        after = page[-1].id
    await client.flush()


class _Read(NamedTuple):
    """What a partition has read of the records that every partition gets."""

    contents: set[str]
    """Of definitions."""
    closed: set[tuple[str, str]]
    """Brand and campaign of markers."""

    def includes(self, record_type: str, value: dict[str, Any]) -> bool:
        if record_type == "Definition":
            return value["content"] in self.contents
        return (value["brand_id"], value["campaign_id"]) in self.closed


def _read(connection: sa.Connection) -> dict[int, _Read]:
    """By partition, of the saved read-state."""
    found: dict[int, _Read] = {}
    definitions, closings = readstate_tables.DEFINITIONS, readstate_tables.CLOSINGS
    for row in readstate.positions(connection):
        read = found.setdefault(row.partition, _Read(set(), set()))
        contents = sa.select(definitions.c.content).where(definitions.c.source == row.source)
        read.contents.update(connection.execute(contents).scalars())
        closed = sa.select(closings.c.brand, closings.c.campaign).where(closings.c.source == row.source)
        read.closed.update((one.brand, one.campaign) for one in connection.execute(closed))
    return found


async def send_lost_again(
    engine: sa.Engine, ledger: Ledger, client: AIOKafkaProducer, secret: bytes, partitions: int
) -> Counter[str]:
    """Send what a lost part of the activity log may have held unread, as far as the outbox was; counts by record type.

    That is, to each partition, the definitions and markers that its read-state lacks, and the referrals and prizes that
    the ledger has not decided on. What is still on the log, and is sent again too, is a duplicate downstream. The
    definitions' own topic gets all.
    """
    with engine.connect() as connection:
        reached, read = position(connection), _read(connection)
    sent: Counter[str] = Counter()

    async def send(m: Message, kind: str) -> None:
        await client.send(m.topic, m.value, key=m.key, partition=m.partition, headers=m.headers)
        sent[kind] += 1

    undecided: dict[str, tuple[Message, str, Recorded]] = {}
    after = 0
    while after < reached and (page := await asyncio.to_thread(ledger.notifications, after, PAGE, reached)):
        for recorded in page:
            if isinstance(recorded.event, ReferralJudged | PrizeAwarded | CommandRefused):
                undecided.pop(recorded.event.origin.event_id, None)
            for m in messages(recorded, secret, partitions):
                kind, value = decode(m.value)
                if m.topic != ACTIVITY:
                    await send(m, kind)
                elif m.partition is None:
                    undecided[value["event_id"]] = m, kind, recorded
                elif m.partition not in read or not read[m.partition].includes(kind, value):
                    await send(m, kind)
        after = page[-1].id
    for m, kind, recorded in undecided.values():
        if isinstance(recorded.event, RefundRecorded):
            (m,) = await asyncio.to_thread(lambda refund: list(messages(refund, secret, partitions, ledger)), recorded)
        await send(m, kind)
    await client.flush()
    return sent


class Outbox:
    """Sends what follows from the ledger's events, page by page."""

    def __init__(
        self, engine: sa.Engine, ledger: Ledger, client: AIOKafkaProducer, secret: bytes, partitions: int
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._secret = secret
        self._partitions = partitions
        self._sent = SentPosition(engine, NAME)
        self._position = self._sent.read()

    async def step(self) -> int:
        """Send one page, wait for the acknowledgements, then store the position. Returns how many events it read."""
        page, following = await asyncio.to_thread(self._read)
        if not page:
            return 0
        sent = [
            await self._client.send(m.topic, m.value, key=m.key, partition=m.partition, headers=m.headers)
            for m in following
        ]
        await asyncio.gather(*sent)
        await asyncio.to_thread(self._store, page[-1].id)
        return len(page)

    def _read(self) -> tuple[list[Recorded], list[Message]]:
        page = self._ledger.notifications(self._position, PAGE)
        return page, [m for one in page for m in messages(one, self._secret, self._partitions, self._ledger)]

    def _store(self, reached: int) -> None:
        if not self._sent.move(self._position, reached):
            raise RuntimeError(
                f"another projector moved the outbox from {self._position}: run one projector on this database"
            )
        self._position = reached
