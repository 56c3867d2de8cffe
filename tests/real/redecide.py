"""The ledger once more: the log that Kafka holds, folded by one undisturbed worker into a database in the side."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from aggregates.ledger import Ledger, Source
from schemas.topics import ACTIVITY
from streams.intake import Intake, Limits
from streams.readstate import ReadState
from streams.recent import Recent
from streams.rewards import Rewards

CHUNK = 5_000
PAGE = 20_000
NO_LIMITS = Limits(run=1 << 60, percent=100, window=1 << 60)
_RECORDED_AT = re.compile(rb'"recorded_at":\d+')


def redecide(log: dict[int, list[Any]], secret: bytes, file: Path) -> Ledger:
    """A ledger that has decided each partition of `log` from its first record to its last."""
    ledger = Ledger(f"sqlite:///{file}")
    ledger.migrate()
    for partition, records in log.items():
        source = Source(ACTIVITY, "undisturbed", partition)
        ledger.take(source, "one", 0)
        intake = Intake(partition, len(log), ReadState(), Recent(), secret, NO_LIMITS)
        rewards = Rewards(ledger, source, 0, "one", lambda: 0)
        for start in range(0, len(records), CHUNK):
            chunk = records[start : start + CHUNK]
            activities, _ = intake.take(chunk)
            rewards.submit([activity for activity, _ in activities], chunk[-1].offset + 1)
    return ledger


def accounts(ledger: Ledger) -> dict[str, str]:
    """A digest of all events of each account, in their order, without when they were recorded."""
    digests: dict[str, Any] = defaultdict(lambda: blake2b(digest_size=16))
    after = 0
    while page := ledger.store.page(after, PAGE):
        for row in page:
            if row.originator.startswith("account:"):
                digests[row.originator].update(f"\0{row.version}\0{row.name}\0".encode() + _timeless(row.state))
        after = page[-1].id
    return {account: digest.hexdigest() for account, digest in digests.items()}


def differences(one: Ledger, other: Ledger) -> Iterator[str]:
    """A line for each account whose events differ, with the first that does."""
    here, there = accounts(one), accounts(other)
    for account in sorted(here.keys() | there.keys()):
        if here.get(account) == there.get(account):
            continue
        rows = [[(name, _timeless(state)) for _, _, name, state in x.store.histories([account])] for x in (one, other)]
        for n in range(max(map(len, rows))):
            mine, its = (side[n] if n < len(side) else None for side in rows)
            if mine != its:
                yield f"{account}: event {n + 1} of {len(rows[0])} is {mine}; undisturbed, of {len(rows[1])}: {its}"
                break


def _timeless(state: bytes) -> bytes:
    return _RECORDED_AT.sub(b"", bytes(state))
