"""What the dead-letter commands answer: a letter as it is listed, one in full, and counts by reason and brand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from projections.answers import iso
from schemas.codec import DecodeError, decode
from schemas.dead_letters import Reason
from service.dead_letters.listing import OPEN, REDRIVEN, Letter


class DeadLetter(BaseModel):
    """A record that was refused, where it stood and why."""

    model_config = ConfigDict(frozen=True)

    partition: int = Field(description="Partition of the dead-letter topic")
    offset: int = Field(description="Offset in the dead-letter topic")
    source_partition: int = Field(description="Partition of the activity log")
    source_offset: int = Field(description="Offset in the activity log")
    source_timestamp: str = Field(description="The record's own timestamp, ISO 8601 UTC")
    key: str = Field(description="The record's key; bytes that are not UTF-8 are escaped")
    brand: str = Field(description="Brand that the key names; empty without a key")
    reason: str = Field(description="Stable reason code")
    detail: str = Field(description="What is wrong, for a person")
    state: str = Field(description="open, or redriven once it was sent again")
    redriven_at: str | None = Field(description="When it was last sent again, ISO 8601 UTC; null where none was noted")
    refused_again: str | None = Field(description="partition:offset at which it was refused after that")
    redrives: int = Field(description="How often the record had been redriven when it was refused")
    origin: str = Field(description="partition:offset at which the record stood the first time")
    event: dict[str, Any] | None = Field(description="The decoded record; null when it cannot be decoded")
    hex: str = Field(description="The original bytes in hexadecimal")


class Header(BaseModel):
    """A header of the refused record."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="Name")
    value: str = Field(description="Its text; bytes that are no printable text as 0x and hexadecimal")


class DeadLetterInFull(DeadLetter):
    """Everything about one dead letter."""

    headers: list[Header] = Field(description="The record's own headers")
    meaning: str = Field(description="What the reason means")
    remedy: str = Field(description="What one can do about the reason")
    now: str = Field(description="What would be said to the record if it came now; empty: it would be taken")


def described(letter: Letter) -> DeadLetter:
    """A letter as it is listed."""
    return DeadLetter(**_fields(letter))


def described_in_full(letter: Letter, now: str) -> DeadLetterInFull:
    """A letter as it is shown."""
    reason = next((one for one in Reason if one == letter.reason), None)
    meaning = reason.sentence if reason else "This release has no such reason."
    remedy = reason.remedy if reason else "Ask a release that has it."
    headers = [Header(name=name, value=_shown(value)) for name, value in letter.headers]
    return DeadLetterInFull(**_fields(letter), headers=headers, meaning=meaning, remedy=remedy, now=now)


def _fields(letter: Letter) -> dict[str, Any]:
    try:
        kind, value = decode(letter.value)
        event: dict[str, Any] | None = {"type": kind, **value}
    except DecodeError:
        event = None
    return {
        "partition": letter.partition,
        "offset": letter.offset,
        "source_partition": letter.source.partition,
        "source_offset": letter.source.offset,
        "source_timestamp": _when(letter.timestamp),
        "key": (letter.key or b"").decode("utf-8", "backslashreplace"),
        "brand": letter.brand,
        "reason": letter.reason,
        "detail": letter.detail,
        "state": letter.state,
        "redriven_at": None if letter.redriven_at is None else _when(letter.redriven_at),
        "refused_again": None if letter.refused_again is None else str(letter.refused_again),
        "redrives": letter.redrives,
        "origin": str(letter.origin),
        "event": event,
        "hex": (letter.value or b"").hex(),
    }


def _when(timestamp: int) -> str:
    try:
        return iso(timestamp)
    except OverflowError:  # timestamps are the publishers' to set
        return str(timestamp)


def _shown(value: bytes | None) -> str:
    try:
        text = (value or b"").decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    return text if text.isprintable() else f"0x{(value or b'').hex()}"


class Count(BaseModel):
    """How many letters of one reason and brand there are."""

    model_config = ConfigDict(frozen=True)

    reason: str = Field(description="Stable reason code")
    brand: str = Field(description="Brand that the keys name; empty without one")
    open: int = Field(description="Letters not sent again")
    redriven: int = Field(description="Letters sent again")


def counts(letters: Iterable[Letter]) -> list[Count]:
    """Letters by reason and brand, those with the most open ones first."""
    found = Counter((letter.reason, letter.brand, letter.state) for letter in letters)
    rows = [
        Count(reason=reason, brand=brand, open=found[reason, brand, OPEN], redriven=found[reason, brand, REDRIVEN])
        for reason, brand in {(reason, brand) for reason, brand, _ in found}
    ]
    return sorted(rows, key=lambda row: (-row.open, -row.redriven, row.reason, row.brand))
