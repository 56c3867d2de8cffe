"""Quix Streams: a stateful function over the topic, its state in RocksDB with a changelog."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from quixstreams import Application, State  # type: ignore[import-not-found]
from quixstreams.models import Deserializer  # type: ignore[import-not-found]
from quixstreams.state.rocksdb import RocksDBStorePartition  # type: ignore[import-not-found]

from benchmarks.peers.subject import COMMIT_SECONDS, PANE_MS, PARTITIONS, Interval, arguments, decode, dump

STATE = Path("state")


class OneStateAPartition(Deserializer):  # type: ignore[misc]
    """No message key: state belongs to a key, and the counts of a campaign are its members' together."""

    def __call__(self, value: bytes, ctx: object) -> bytes:
        """The same for all."""
        return b""


def run(options: Namespace) -> str:
    """Count all records; the measured line."""
    interval = Interval()

    def count(value: bytes, state: State) -> None:
        interval.begin()
        interaction = decode(value)
        pane = interaction["occurred_at"] // PANE_MS * PANE_MS
        campaign = f"campaign/{interaction['campaign_id']}/{interaction['kind']}/{pane}"
        state.set(campaign, state.get(campaign, 0) + 1)
        member = f"member/{interaction['member_id']}/{pane}"
        state.set(member, state.get(member, 0) + 1)

    app = Application(
        broker_address=options.bootstrap,
        consumer_group=options.group,
        auto_offset_reset="earliest",
        commit_interval=COMMIT_SECONDS,
        state_dir=STATE,
        loglevel="WARNING",
    )
    topic = app.topic(options.topic, key_deserializer=OneStateAPartition(), value_deserializer="bytes")
    app.dataframe(topic).apply(count, stateful=True)
    app.run(count=options.records, collect=False)
    return interval.end("Quix Streams, state in RocksDB", options.records)


def counts(of: str) -> Iterator[tuple[str, int]]:
    """The closed stores' counts whose key begins so."""
    for number in range(PARTITIONS):
        (path,) = STATE.glob(f"*/*/*/{number}")
        store = RocksDBStorePartition(str(path))
        for stored, count in store.iter_items(lower_bound=json.dumps(of).encode()[:-1]):
            kind, _, key = json.loads(stored).partition("/")
            if kind == of:
                yield key, json.loads(count)
        store.close()


if __name__ == "__main__":
    given = arguments(__doc__)
    print(run(given))
    dump(given.dump, counts("campaign"), counts("member"))
