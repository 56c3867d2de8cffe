"""A ledger that grows event by event, its read models, and clients of live events that come and go."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from aggregates.database import open_database
from aggregates.events import Grant, InteractionRewarded, Origin, StoredEvent
from aggregates.ledger import Ledger
from aggregates.ledger_store import encoded
from projections import registry
from projections.upkeep.runner import Runner
from schemas.topics import ACTIVITY
from service.api.live import LiveEvents
from service.api.live_readers import Batch, Interest, Subscription

MARCH = 1_772_323_200_000
"""2026-03-01T00:00:00Z."""


def rewarded(number: int, points: int) -> InteractionRewarded:
    """A share that paid so many points by the campaign `spring`."""
    origin = Origin(ACTIVITY, 0, number, f"e{number}", MARCH, MARCH + 1_000)
    grant = Grant(f"lot-e{number}", "spring", 1, "share", points, points, "unit", 10, 0, 1000, MARCH)
    return InteractionRewarded(origin, "share", "brand_post", "x", 1, "nano", 500, "p1", None, (grant,), ())


class World:
    """A ledger and its read models."""

    def __init__(self, database: str) -> None:
        self.ledger = Ledger(database)
        self._engine = open_database(database)
        self._versions: Counter[str] = Counter()
        for recorded in self.ledger.notifications(0, 1_000):
            self._versions[recorded.originator] += 1

    def append(self, events: Iterable[tuple[str, StoredEvent]]) -> None:
        """Store events, each with its aggregate; read models do not have them yet."""
        stored = []
        for aggregate, event in events:
            self._versions[aggregate] += 1
            stored.append(encoded(aggregate, self._versions[aggregate], event))
        self.ledger.store.write(stored)

    def project(self) -> int:
        """Bring the read models up to the ledger; its position."""
        Runner(self._engine, self.ledger.notifications, registry.LEDGER).catch_up()
        return self.ledger.last_notification()

    def close(self) -> None:
        self.ledger.close()
        self._engine.dispose()


def parsed(text: str) -> list[dict[str, str]]:
    """Server-sent events as fields, in order, as a browser reads them; comments are left out."""
    found = []
    for block in text.split("\n\n"):
        fields = [line.partition(":") for line in block.splitlines() if line and not line.startswith(":")]
        if fields:
            found.append({name: value.removeprefix(" ") for name, _, value in fields})
    return found


class Client:
    """Keeps of each thing the value of the greatest position, and comes back with the last id it has seen."""

    def __init__(self, live: LiveEvents, interest: Interest) -> None:
        self.live = live
        self.interest = interest
        self.last: int | None = None
        self.values: dict[tuple[str, ...], dict[str, Any]] = {}
        self.reader: Subscription | None = None

    async def connect(self) -> None:
        self.reader = await self.live.subscribe(self.interest, self.last)
        self.last = self.reader.position

    def cut(self) -> None:
        if self.reader is not None:
            self.reader.close()
        self.reader = None

    def hear(self, frames: bytes, most: int | None = None) -> None:
        """Take what is sent, or only the first events of it."""
        for event in parsed(frames.decode())[:most]:
            assert int(event["id"]) >= (self.last or 0), "ids never go back"
            self.last = int(event["id"])
            if "data" in event:
                body = json.loads(event["data"])
                key = (event["event"], body["brand"], body.get("campaign", ""), body["member_id"])
                if body["position"] >= self.values.get(key, {"position": 0})["position"]:
                    self.values[key] = body

    async def some(self, most: int | None = None) -> Batch | None:
        """Take one batch, or the first events of it."""
        assert self.reader is not None
        batch = await self.reader.take(0.2)
        if batch is not None:
            self.hear(batch.frames, most)
        return batch

    async def all(self, position: int) -> None:
        """Take everything up to a ledger position."""
        assert self.reader is not None
        while self.reader.position < position:
            await self.some()
        self.last = self.reader.position

    def known(self) -> dict[tuple[str, ...], dict[str, Any]]:
        """The values without the positions that they were read at."""
        return {key: {name: v for name, v in body.items() if name != "position"} for key, body in self.values.items()}
