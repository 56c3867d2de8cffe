"""The input of every contest: a simulated community's activity, as it stands on the log, all in one partition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

import yaml

from aggregates.activity import Activity
from aggregates.parsing import parse
from aggregates.programs import Campaign, content_of
from schemas.codec import decode, encode
from schemas.signing import SIGNATURE_HEADER, sign
from service.broker.publisher import record
from service.feeds.simulation import BRAND, START, Broken, community
from streams.intake import Intake, Limits
from streams.readstate import ReadState
from streams.recent import Recent

RECORDS: Final = 50_000
SECRET: Final = b"benchmark"
PUBLISHED: Final = START + 40 * 86_400_000
"""The timestamp of every record: one long batch after the community's month."""
SIMULATED: Final = (1, 3_000, 30)
"""Seed, members and days."""


class LogRecord(NamedTuple):
    """What a consumer record has, as far as the intake reads it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Feed:
    """The log, and what the intake makes of it."""

    log: list[LogRecord]
    activities: list[Activity]
    """Of all accepted records that reach the ledger, in offset order."""
    interactions: list[bytes]
    """The values of the good interactions."""


def make_feed() -> Feed:
    """The same feed every time."""
    log = log_of(SIMULATED, RECORDS)
    taken, letters = intake(ReadState()).take(log)
    refused = {letter.offset for letter in letters}
    good = [one.value for one in log if one.value is not None and one.offset not in refused]
    interactions = [value for value in good if decode(value)[0] == "Interaction"]
    return Feed(log, [activity for activity, _ in taken], interactions)


def intake(state: ReadState) -> Intake:
    """The intake of a topic's only partition."""
    return Intake(0, 1, state, Recent(), SECRET, Limits())


def log_of(simulated: tuple[int, int, int], records: int) -> list[LogRecord]:
    """The first records of a community (seed, members, days), definitions before all others."""
    return list(islice(_records(simulated), records))


def _records(simulated: tuple[int, int, int]) -> Iterator[LogRecord]:
    simulation = community(*simulated)
    documents = list(yaml.safe_load_all(simulation.definitions))
    for offset, document in enumerate(documents):
        yield _definition(offset, document)
    for offset, line in enumerate(simulation, len(documents)):
        if isinstance(line, Broken):
            yield LogRecord(offset, PUBLISHED, line.key, line.raw)
        else:
            key, value, headers = record(SECRET, line.record_type, line.value)
            yield LogRecord(offset, PUBLISHED, key, value, headers)


def _definition(offset: int, document: dict[str, object]) -> LogRecord:
    defined = parse(document, "simulation")
    value = {
        "event_id": f"{defined.id}/{defined.version}",
        "occurred_at": START,
        "brand_id": BRAND,
        "subject": "campaign" if isinstance(defined, Campaign) else "brand",
        "subject_id": defined.id,
        "version": defined.version,
        "effective_at": defined.effective_at,
        "content": content_of(defined),
    }
    key, data = BRAND.encode(), encode("Definition", value)
    return LogRecord(offset, PUBLISHED, key, data, ((SIGNATURE_HEADER, sign(SECRET, key, data)),))
