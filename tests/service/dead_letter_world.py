"""A log with dead letters on a real broker, for tests: publish, refuse as the worker does, run the commands."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from aggregates.database import open_database
from aggregates.ledger import Ledger, brand_aggregate, campaign_aggregate
from aggregates.program_events import BrandDefined, CampaignDefined
from aggregates.programs import content_of, parse
from schemas.codec import encode
from schemas.topics import ACTIVITY, DEAD_LETTERS, activity_key
from service import cli
from service.broker import kafka
from service.broker.topic_admin import create
from service.dead_letters.listing import REDRIVES
from service.migrate import migrate
from service.settings import Settings
from streams import outputs
from streams.intake import Intake, Limits
from streams.readstate import ReadState
from streams.recent import Recent

DAY = 24 * 3_600_000
MARCH = 1_772_323_200_000
"""2026-03-01T00:00:00Z."""
PARTITIONS = 4
NUMBERS = count(1)
NO_LIMITS = Limits(run=10**9, percent=100)


def right_partition(key: bytes) -> int:
    return int(murmur2(key) & 0x7FFFFFFF) % PARTITIONS


@dataclass
class World:
    """A broker, a database and a command line; letters of other tests are of other brands."""

    settings: Settings
    number: int
    capture: pytest.CaptureFixture[str]
    argv: Callable[[list[str]], None]
    contents: list[str] = field(default_factory=list)
    at: dict[int, int] = field(default_factory=dict)
    intakes: dict[int, Intake] = field(default_factory=dict)

    @property
    def brand(self) -> str:
        return f"brand{self.number}"

    @property
    def base(self) -> int:
        """From here on no other test has offsets."""
        return self.number * 1_000_000

    # The command line

    def run(self, *arguments: str, code: int = 0) -> str:
        """What `groundswell dlt ARGUMENTS` prints, on both streams."""
        return "".join(self._run(arguments, code))

    def json(self, command: str, *arguments: str, code: int = 0) -> Any:
        """The JSON it prints; of this brand, where one can choose."""
        of_brand = () if command == "show" else ("--brand", self.brand)
        return json.loads(self._run((command, *arguments, *of_brand, "--json"), code)[0])

    def _run(self, arguments: tuple[str, ...], code: int) -> tuple[str, str]:
        self.argv(["groundswell", "dlt", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = self.capture.readouterr()
        assert int(stop.value.code or 0) == code, printed.out + printed.err
        assert "Traceback" not in printed.err
        return printed.out, printed.err

    def list(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json("list", *arguments)["dead_letters"]
        return found

    def redrive(self, *arguments: str, code: int = 0) -> Any:
        return self.json("redrive", "--yes", *arguments, code=code)

    # The log and its worker

    def purchase(self, event_id: str, member: str = "ann", **changed: Any) -> bytes:
        value = {
            "event_id": event_id,
            "occurred_at": MARCH,
            "brand_id": self.brand,
            "member_id": member,
            "order_id": event_id,
            "kind": "completed",
            "amount_minor": 1_000,
            "currency": "EUR",
        }
        return encode("Purchase", value | changed)

    def command(self, event_id: str) -> bytes:
        head = {"event_id": event_id, "occurred_at": MARCH, "brand_id": self.brand, "member_id": "ann"}
        body = {"kind": "redeem", "points": 1, "reference": None, "reason": None, "requested_by": "test"}
        return encode("Command", head | body)

    def key(self, member: str = "ann") -> bytes:
        return activity_key(self.brand, member)

    def publish(
        self, value: bytes | None, key: bytes | None = None, partition: int | None = None, **headers: bytes
    ) -> str:
        """Put a record on the log; where it stands."""
        key = self.key() if key is None else key
        place = right_partition(key) if partition is None else partition
        names = [(name.replace("_", "-"), content) for name, content in headers.items()]
        offset = asyncio.run(write(self.settings, ACTIVITY, place, [(key, value, names)]))
        return f"{place}:{offset}"

    def log(self) -> list[Logged]:
        """The records that were put on the log since the worker was here."""
        return asyncio.run(read_from(self.settings, self.at))

    def work(self) -> list[tuple[str, str]]:
        """Take what is new as the worker does; its refusals become letters. Position and reason of each."""
        refused = []
        for record in self.log():
            intake = self.intakes.setdefault(record.partition, self.intake(record.partition))
            before = intake.state.counts["accepted"]
            _, letters = intake.take([record])
            self.at[record.partition] = record.offset + 1
            if letters:
                reason, detail = str(letters[0].reason), letters[0].detail
                self.letter(
                    record.partition,
                    record.offset,
                    record.value,
                    reason,
                    detail=detail,
                    timestamp=record.timestamp,
                    key=record.key,
                    headers=record.headers,
                )
                refused.append((f"{record.partition}:{record.offset}", reason))
            elif intake.state.counts["accepted"] == before:
                refused.append((f"{record.partition}:{record.offset}", "duplicate"))
        return refused

    def intake(self, partition: int) -> Intake:
        state = ReadState()
        for content in self.contents:
            state.programs.add(content)
        return Intake(partition, PARTITIONS, state, Recent(), self.settings.signing_key, NO_LIMITS)

    def letter(
        self,
        partition: int,
        offset: int,
        value: bytes | None,
        reason: str,
        *,
        detail: str = "x",
        timestamp: int = MARCH,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        times: int = 1,
    ) -> None:
        """Write a letter as the worker does: our headers, then those of the record."""
        ours = {
            "source_topic": ACTIVITY,
            "source_partition": partition,
            "source_offset": offset,
            "source_timestamp": timestamp,
            "reason": reason,
            "detail": detail,
        }
        assert tuple(ours) == outputs.LETTER_HEADERS
        theirs = [header for header in headers if header[0] not in outputs.LETTER_HEADERS]
        record = (key or self.key(), value, [*((name, str(text).encode()) for name, text in ours.items()), *theirs])
        asyncio.run(write(self.settings, DEAD_LETTERS, partition, [record] * times))

    # Definitions

    def define(self, currency: str = "EUR") -> None:
        """Define the brand, in the ledger and before the worker's next record."""
        brand = parse({"brand": self.brand, "timezone": "UTC", "currency": currency}, "test")
        self._accept(brand_aggregate(self.brand), BrandDefined(self.brand, 1, 0, content_of(brand), MARCH))

    def define_campaign(self, campaign: str) -> None:
        times = {"starts_at": "2026-03-01T00:00:00Z", "ends_at": "2026-04-01T00:00:00Z"}
        earn = [{"rule": "spend", "on": "purchase", "per_minor": 100, "points": 1}]
        defined = parse({"campaign": campaign, "brand": self.brand, **times, "earn": earn}, "test")
        event = CampaignDefined(self.brand, campaign, 1, MARCH, content_of(defined), MARCH)
        self._accept(campaign_aggregate(self.brand, campaign), event)

    def _accept(self, aggregate: str, event: BrandDefined | CampaignDefined) -> None:
        ledger = Ledger(self.settings.database)
        ledger.append({aggregate: [event]}, {aggregate: 0})
        ledger.close()
        self.contents.append(event.content)
        for intake in self.intakes.values():
            intake.state.programs.add(event.content)

    def forget_marks(self) -> None:
        """As if the command had been killed before it noted what it sent."""
        engine = open_database(self.settings.database)
        with engine.begin() as connection:
            connection.execute(sa.delete(REDRIVES))
        engine.dispose()


async def write(settings: Settings, topic: str, partition: int, records: list[Any]) -> int:
    """Write records; the offset of the last."""
    client = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", max_request_size=8 << 20)
    await client.start()
    try:
        for key, value, headers in records:
            written = await client.send_and_wait(topic, value, key=key, partition=partition, headers=headers)
    finally:
        await client.stop()
    return int(written.offset)


class Logged(NamedTuple):
    """A record of the activity log, and where it stands."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


async def read_from(settings: Settings, start: dict[int, int]) -> list[Logged]:
    ends = await kafka.log_ends(settings.brokers, ACTIVITY)
    return [
        Logged(partition, record.offset, record.timestamp, record.key, record.value, record.headers)
        for partition, end in sorted(ends.items())
        async for record in outputs.read(settings.brokers, ACTIVITY, partition, start[partition], end)
    ]


@pytest.fixture
def world(broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> World:
    """Fresh but for the broker, which the tests share."""
    database = f"sqlite:///{tmp_path / 'groundswell.db'}"
    settings = Settings(kafka=broker, database=database, data_dir=tmp_path, secret="s", partitions=PARTITIONS)
    migrate(database)
    asyncio.run(create(settings))
    monkeypatch.setenv("GROUNDSWELL_KAFKA", broker)
    monkeypatch.setenv("GROUNDSWELL_DATABASE", database)
    monkeypatch.setenv("GROUNDSWELL_SECRET", "s")
    monkeypatch.setenv("GROUNDSWELL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "240")
    made = World(settings, next(NUMBERS), capsys, lambda line: monkeypatch.setattr(sys, "argv", line))
    made.at = asyncio.run(kafka.log_ends(settings.brokers, ACTIVITY))
    return made
