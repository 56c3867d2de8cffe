"""`dlt redrive`: sends refused records again, each at most so often, once what they were refused for is mended.

A letter is noted as redriven only after the broker has acknowledged its record. A command that is killed in between
leaves it open, and the next one sends it a second time: harmless, since an accepted record's id makes the second one
a duplicate, and a refused one's new letter says that it was redriven. Only letters that were in the topic when the
command began are sent, so it ends, whatever the worker refuses meanwhile.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.partitioner import murmur2

from aggregates.database import insert_into, open_database
from aggregates.ledger import Ledger, brand_aggregate, campaign_aggregate
from aggregates.program_events import BrandDefined, CampaignDefined
from aggregates.programs import Programs
from schemas.codec import DecodeError, decode
from schemas.dead_letters import REDRIVEN_HEADER
from schemas.topics import ACTIVITY
from schemas.validate import problem
from service.broker import kafka
from service.dead_letters.listing import OPEN, REDRIVES, Letter, mark_of
from service.instants import now_ms
from service.problems import Unusable
from service.settings import Settings
from streams.intake import BROADCAST, Intake, Limits
from streams.readstate import ReadState
from streams.recent import Recent

IN_FLIGHT: Final = 2_000
"""Records sent and not yet acknowledged and noted, at most."""

TOO_OFTEN: Final = "redriven_too_often"
NOTHING_IN_IT: Final = "nothing_to_send"
TOO_LARGE: Final = "too_large"


class Record(NamedTuple):
    """A letter's record as it would come now."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Outgoing(NamedTuple):
    """A letter to be sent again, and the partition of the activity log it belongs on."""

    letter: Letter
    partition: int


class Refused(NamedTuple):
    """A letter that is not sent, and why; `code` is the intake's reason or one of ours."""

    letter: Letter
    code: str
    why: str


class ByReason(NamedTuple):
    """How many letters of one reason are sent, are refused, and were redriven already."""

    reason: str
    redriven: int
    refused: int
    already_redriven: int


@dataclass(slots=True)
class Plan:
    """What becomes of the letters that were chosen."""

    sending: list[Outgoing] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    before: list[Letter] = field(default_factory=list)
    """Redriven already."""

    def by_reason(self) -> list[ByReason]:
        """How many of each reason."""
        sent = Counter(one.letter.reason for one in self.sending)
        refused = Counter(one.letter.reason for one in self.refused)
        before = Counter(letter.reason for letter in self.before)
        reasons = sorted({*sent, *refused, *before})
        return [ByReason(reason, sent[reason], refused[reason], before[reason]) for reason in reasons]

    def leave_out(self, refused: Sequence[Refused]) -> None:
        """Take letters that were to be sent for refused."""
        places = {(one.letter.partition, one.letter.offset) for one in refused}
        self.sending = [one for one in self.sending if (one.letter.partition, one.letter.offset) not in places]
        self.refused += refused


# What would be sent


async def plan(
    settings: Settings,
    letters: Iterable[Letter],
    *,
    max_redrives: int,
    force: bool = False,
    limit: int | None = None,
) -> Plan:
    """Which letters can be sent again, in the order in which their records first stood in the log; `limit` at most.

    One that the intake would refuse as it is now is refused here, unless `force`. Raises `Unusable` without a broker.
    """
    made = Plan()
    fit: list[Letter] = []
    for letter in letters:
        if letter.state != OPEN:
            made.before.append(letter)
        elif letter.redrives >= max_redrives:
            why = f"it was redriven {letter.redrives} times: see what refuses it, or raise --max-redrives"
            made.refused.append(Refused(letter, TOO_OFTEN, why))
        elif letter.key is None and letter.value is None:
            made.refused.append(Refused(letter, NOTHING_IN_IT, "it has neither key nor value"))
        else:
            fit.append(letter)
    fit.sort(key=lambda letter: (letter.origin, letter.source, letter.timestamp))
    for outgoing, no in await verdicts(settings, fit):
        if no is None or force:
            made.sending.append(outgoing)
        else:
            made.refused.append(Refused(outgoing.letter, *no))
    if limit is not None:
        del made.sending[limit:]
    return made


async def verdicts(settings: Settings, letters: Sequence[Letter]) -> list[tuple[Outgoing, tuple[str, str] | None]]:
    """Where each letter belongs, and with what reason and detail the intake would refuse it now; None: it would not.

    The worker's own intake is asked, with the definitions that the ledger has accepted. Nothing is signed here: a
    record of an internal type passes only with the signature that it came with. Raises `Unusable` without a broker.
    """
    async with kafka.producer(settings) as client:
        partitions = await kafka.partition_count(client)
    return await asyncio.to_thread(_ask, settings, letters, partitions)


def _ask(
    settings: Settings, letters: Sequence[Letter], partitions: int
) -> list[tuple[Outgoing, tuple[str, str] | None]]:
    contents = _definitions(settings, letters)
    no_limits = Limits(run=len(letters) + 1, percent=100)

    @cache
    def intake(partition: int) -> Intake:
        programs = Programs()
        for content in contents:
            programs.add(content)
        state = ReadState(programs=programs)
        return Intake(partition, partitions, state, Recent(), settings.signing_key, no_limits)

    said: list[tuple[Outgoing, tuple[str, str] | None]] = []
    now = now_ms()
    for number, letter in enumerate(letters):
        partition = _belongs_on(letter, partitions)
        record = Record(number, now, letter.key, letter.value, letter.headers)
        _, refused = intake(partition).take([record])
        said.append((Outgoing(letter, partition), (str(refused[0].reason), refused[0].detail) if refused else None))
    return said


def _belongs_on(letter: Letter, partitions: int) -> int:
    """By its key, as every publisher chooses it; what stands in every partition goes to the one it came in."""
    if letter.key is None or _decoded(letter)[0] in BROADCAST:
        return letter.source.partition % partitions
    return int(murmur2(letter.key) & 0x7FFFFFFF) % partitions


def _decoded(letter: Letter) -> tuple[str, dict[str, Any]]:
    try:
        return decode(letter.value)
    except DecodeError:
        return "", {}


def _definitions(settings: Settings, letters: Iterable[Letter]) -> list[str]:
    """The content of every accepted version of the brands and campaigns that the letters name."""
    named: set[str] = set()
    for kind, value in map(_decoded, letters):
        if not kind or problem(kind, value) is not None or "brand_id" not in value:
            continue
        named.add(brand_aggregate(value["brand_id"]))
        if value.get("campaign_id"):
            named.add(campaign_aggregate(value["brand_id"], value["campaign_id"]))
    with closing(Ledger(settings.database)) as ledger:
        return [
            event.content
            for aggregate in sorted(named)
            for event in ledger.history(aggregate)
            if isinstance(event, BrandDefined | CampaignDefined)
        ]


# Sending


async def send(
    settings: Settings, outgoing: Sequence[Outgoing], told: Callable[[int], None] = lambda _: None
) -> list[Refused]:
    """Send the records again and note each one that the broker has acknowledged; returns those it does not take.

    `told` gets how many are done. Raises `Unusable` when the broker fails; what was acknowledged by then is noted.
    """
    refused: list[Refused] = []
    engine = open_database(settings.database)
    try:
        async with kafka.producer(settings) as client:
            for start in range(0, len(outgoing), IN_FLIGHT):
                batch = outgoing[start : start + IN_FLIGHT]
                try:
                    refused += await _send_batch(engine, client, batch)
                except KafkaError as error:
                    raise Unusable(
                        f"Kafka does not take what is sent ({error}); what it took is noted as "
                        "redriven: run the same command again for the rest"
                    ) from None
                told(start + len(batch))
    finally:
        engine.dispose()
    return refused


async def _send_batch(engine: sa.Engine, client: AIOKafkaProducer, batch: Sequence[Outgoing]) -> list[Refused]:
    flying: list[tuple[Letter, Future[Any]]] = []
    refused: list[Refused] = []
    try:
        for letter, partition in batch:
            try:
                sent = await client.send(
                    ACTIVITY, letter.value, key=letter.key, partition=partition, headers=headers(letter)
                )
            except MessageSizeTooLargeError as error:
                refused.append(Refused(letter, TOO_LARGE, str(error)))
            else:
                flying.append((letter, sent))
    finally:  # also when it is interrupted: what the broker has is noted
        if flying:
            await asyncio.wait([sent for _, sent in flying])
        taken = [letter for letter, sent in flying if not sent.cancelled() and sent.exception() is None]
        await asyncio.to_thread(_note, engine, taken)
    for letter, sent in flying:
        failure = sent.exception()
        if isinstance(failure, MessageSizeTooLargeError):
            refused.append(Refused(letter, TOO_LARGE, str(failure)))
        elif failure is not None:
            raise failure
    return refused


def headers(letter: Letter) -> list[tuple[str, bytes]]:
    """The record's own headers, and the one that says how often it was redriven by now."""
    theirs = [(name, value) for name, value in letter.headers if name != REDRIVEN_HEADER]
    return [*theirs, (REDRIVEN_HEADER, f"{letter.redrives + 1} {letter.origin}".encode())]


def _note(engine: sa.Engine, letters: Iterable[Letter]) -> None:
    keys = ("source", "offset", "timestamp")
    now = now_ms()
    rows = [dict(zip(keys, mark_of(letter), strict=True), times=1, at=now) for letter in letters]
    if not rows:
        return
    with engine.begin() as connection:
        statement = insert_into(connection.dialect.name, REDRIVES)
        changed = {"times": REDRIVES.c.times + 1, "at": statement.excluded.at}
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), rows)
