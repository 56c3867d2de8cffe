"""The dead letters: reading them from their topic, telling open ones from redriven ones, and choosing some."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from aiokafka.errors import KafkaError

from aggregates.database import open_database
from schemas.dead_letters import REDRIVEN_HEADER
from schemas.topics import DEAD_LETTERS
from service import instants
from service.broker import kafka
from service.problems import Refusal, Unusable
from service.settings import Settings
from streams import outputs
from streams.outputs import LETTER_HEADERS

METADATA = sa.MetaData()
REDRIVES = sa.Table(
    "dead_letter_redrives",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True, comment="topic/partition where the refused record stands"),
    sa.Column("offset", sa.BigInteger, primary_key=True),
    sa.Column("timestamp", sa.BigInteger, primary_key=True, comment="of the refused record, epoch milliseconds"),
    sa.Column("times", sa.BigInteger, nullable=False, comment="how often this letter was sent again"),
    sa.Column("at", sa.BigInteger, nullable=False, comment="the last time, epoch milliseconds"),
)
"""Which letters were sent again. A row is written once the broker has acknowledged the record."""

OPEN: Final = "open"
REDRIVEN: Final = "redriven"

_AT: Final = re.compile(r"(\d{1,9}):(\d{1,18})")
_REDRIVEN: Final = re.compile(r"([1-9]\d{0,8}) (\d{1,9}):(\d{1,18})")
_DIGITS: Final = re.compile(r"\d{1,18}")


class At(NamedTuple):
    """A place in the activity log."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(slots=True)
class Letter:
    """A dead letter as it stands in its topic, and what became of it."""

    partition: int
    offset: int
    topic: str
    source: At
    timestamp: int
    key: bytes | None
    value: bytes | None
    reason: str
    detail: str
    headers: list[tuple[str, bytes]]
    """Those of the refused record, without ours."""
    origin: At
    """Where the record stood the first time; `source`, unless it was redriven before."""
    redrives: int
    """How often it had been redriven when it was refused."""
    redriven_at: int | None = None
    refused_again: At | None = None
    """Where it stood when it was refused after a redrive."""

    @property
    def brand(self) -> str:
        """The brand that the key names; empty without a key."""
        return (self.key or b"").split(b"/", 1)[0].decode("utf-8", "backslashreplace")

    @property
    def state(self) -> str:
        """`redriven` once it was sent again, else `open`."""
        return OPEN if self.redriven_at is None and self.refused_again is None else REDRIVEN


class Loaded(NamedTuple):
    """The letters in the order of their records, and how many records of the topic are none."""

    letters: list[Letter]
    foreign: int


@dataclass(slots=True, frozen=True)
class Selection:
    """Which letters are wanted; what is empty or None wants all."""

    reasons: frozenset[str] = frozenset()
    partition: int | None = None
    since: int | None = None
    until: int | None = None
    brand: str | None = None
    state: str | None = None
    positions: frozenset[At] = frozenset()

    def of(self, letters: Iterable[Letter]) -> list[Letter]:
        """The letters that are wanted."""
        return [letter for letter in letters if self._takes(letter)]

    def _takes(self, letter: Letter) -> bool:
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (self.partition is None or letter.source.partition == self.partition)
            and (self.since is None or letter.timestamp >= self.since)
            and (self.until is None or letter.timestamp < self.until)
            and (self.brand is None or letter.brand == self.brand)
            and (self.state is None or letter.state == self.state)
            and (not self.positions or letter.source in self.positions)
        )


# What is asked for


def at(text: str) -> At:
    """A place in the activity log, written `partition:offset`. Raises `Refusal`."""
    found = _AT.fullmatch(text.strip())
    if found is None:
        raise Refusal(
            "invalid_position", f"`{text}` is not PARTITION:OFFSET of a refused record, such as 0:15", field="position"
        )
    return At(int(found[1]), int(found[2]))


def moment(text: str | None, name: str) -> int | None:
    """Epoch milliseconds of such a number or of an ISO 8601 time with zone. Raises `Refusal`."""
    if text is None or _DIGITS.fullmatch(text.strip()):
        return None if text is None else int(text)
    return instants.instant(text, name)


def check_found(positions: Iterable[At], letters: Iterable[Letter]) -> None:
    """Raises `Refusal` for a position at which no record was refused."""
    missing = sorted(set(positions) - {letter.source for letter in letters})
    if missing:
        raise Refusal(
            "not_found", f"no record at {missing[0]} was refused: `groundswell dlt list` shows those that were"
        )


# Reading


async def load(settings: Settings, told: Callable[[int], None] = lambda _: None) -> Loaded:
    """Every letter that is in the topic now, with its state; one that was written twice (after a crash) comes once.

    `told` gets how many records were read. Raises `Unusable` without a broker or the topic.
    """
    found: dict[tuple[str, At, int], Letter] = {}
    read = foreign = 0
    ends = await kafka.log_ends(settings.brokers, DEAD_LETTERS)
    try:
        for partition, end in sorted(ends.items()):
            async for record in outputs.read(settings.brokers, DEAD_LETTERS, partition, 0, end):
                read += 1
                told(read)
                letter = _letter(partition, record)
                if letter is None:
                    foreign += 1
                else:
                    found.setdefault((letter.topic, letter.source, letter.timestamp), letter)
    except KafkaError as error:
        raise Unusable(f"the dead letters cannot be read: {error}") from None
    letters = sorted(found.values(), key=lambda letter: (letter.source, letter.timestamp))
    _find_states(settings, letters)
    return Loaded(letters, foreign)


def _letter(partition: int, record: Any) -> Letter | None:
    """The letter of a record; None for one that has not our headers."""
    ours: dict[str, str] = {}
    theirs: list[tuple[str, bytes]] = []
    for name, value in record.headers:
        if name in LETTER_HEADERS:
            ours.setdefault(name, (value or b"").decode("utf-8", "replace"))
        else:
            theirs.append((name, value))
    if len(ours) < len(LETTER_HEADERS):
        return None
    try:
        source = At(int(ours["source_partition"]), int(ours["source_offset"]))
        timestamp = int(ours["source_timestamp"])
    except ValueError:
        return None
    redrives, origin = _redriven(theirs) or (0, source)
    return Letter(
        partition,
        record.offset,
        ours["source_topic"],
        source,
        timestamp,
        record.key,
        record.value,
        ours["reason"],
        ours["detail"],
        theirs,
        origin,
        redrives,
    )


def _redriven(headers: Iterable[tuple[str, bytes | None]]) -> tuple[int, At] | None:
    """How often it was redriven and where it stood first, by the header; whoever publishes may write nonsense there."""
    for name, value in headers:
        if name == REDRIVEN_HEADER:
            found = _REDRIVEN.fullmatch((value or b"").decode("utf-8", "replace"))
            return (int(found[1]), At(int(found[2]), int(found[3]))) if found else None
    return None


def _find_states(settings: Settings, letters: Sequence[Letter]) -> None:
    """Note which letters were sent again: by the table, or since a later letter of the same record says so.

    Only the very same bytes count as the same record, so nobody can hide another's letter by a header.
    """
    engine = open_database(settings.database, read_only=True)
    try:
        with engine.connect() as connection:
            marks = {(r.source, r.offset, r.timestamp): r.at for r in connection.execute(sa.select(REDRIVES))}
    finally:
        engine.dispose()
    last: dict[tuple[At, bytes | None, bytes | None], Letter] = {}
    for letter in letters:
        record = (letter.origin, letter.key, letter.value)
        if record not in last or letter.redrives > last[record].redrives:
            last[record] = letter
    for letter in letters:
        letter.redriven_at = marks.get(mark_of(letter))
        latest = last[letter.origin, letter.key, letter.value]
        if latest.redrives > letter.redrives:
            letter.refused_again = latest.source


def mark_of(letter: Letter) -> tuple[str, int, int]:
    """Primary key of the letter's row in `dead_letter_redrives`.

    A letter does not say which creation of the log its record stood in; the record's timestamp tells it from the one
    at the same offset of a log that was made anew.
    """
    return f"{letter.topic}/{letter.source.partition}", letter.source.offset, letter.timestamp
