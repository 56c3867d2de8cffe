"""What became of commands is known as soon as the ledger has it, wherever the read model stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from aggregates.database import open_database
from aggregates.events import CommandRefused, Origin, PointsRedeemed
from aggregates.ledger import Ledger, account_id
from aggregates.ledger_store import encoded
from projections import registry
from projections.queries import decisions
from projections.queries.decisions import Key
from projections.upkeep.runner import Runner, prepare


def origin(key: str) -> Origin:
    return Origin("members.activity.v1", 0, 7, key, 1_000, 2_000)


def redeemed(key: str, points: int) -> PointsRedeemed:
    return PointsRedeemed(origin(key), f"entry-{key}", points, (), "api")


EVENTS = [
    ("ann", redeemed("k1", 10)),
    ("bob", redeemed("k1", 20)),
    ("ann", CommandRefused(origin("k2"), "redeem", 99, "insufficient_points", "api")),
    ("ann", redeemed("k3", 30)),
]


@pytest.fixture(params=range(len(EVENTS) + 1), ids=lambda n: f"read-model-at-{n}")
def conn(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A ledger with `EVENTS`, whose read model includes some of them."""
    database = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = Ledger(database)
    ledger.migrate()
    versions: dict[str, int] = {}
    for member, event in EVENTS:
        versions[member] = versions.get(member, 0) + 1
        ledger.store.write([encoded(account_id("acme", member), versions[member], event)])
    engine = open_database(database)
    prepare(engine, registry.LEDGER)
    Runner(engine, ledger.notifications, registry.LEDGER).catch_up(stop_at=request.param)
    with engine.connect() as conn:
        yield conn
    engine.dispose()
    ledger.close()


def test_an_outcome_is_the_same_from_the_read_model_and_ahead_of_it(conn: Connection) -> None:
    done = decisions.outcome(conn, Key("acme", "ann", "k1"))
    assert done is not None
    assert (done.kind, done.points, done.reason, done.entry_id, done.position) == ("redeem", 10, "", "entry-k1", 1)
    refused = decisions.outcome(conn, Key("acme", "ann", "k2"))
    assert refused is not None
    assert (refused.points, refused.reason, refused.entry_id) == (99, "insufficient_points", "")


def test_a_key_is_a_members_own_and_one_never_used_has_no_outcome(conn: Connection) -> None:
    bobs = decisions.outcome(conn, Key("acme", "bob", "k1"))
    assert bobs is not None
    assert bobs.points == 20
    assert decisions.outcome(conn, Key("acme", "bob", "k2")) is None
    assert decisions.outcome(conn, Key("other", "ann", "k1")) is None


def test_those_who_follow_the_ledger_are_told_each_decision_once_in_order(conn: Connection) -> None:
    position, found = decisions.since(conn, 1)
    assert position == 4
    assert [(key.member, key.key, outcome.points) for key, outcome in found] == [
        ("bob", "k1", 20),
        ("ann", "k2", 99),
        ("ann", "k3", 30),
    ]
    assert decisions.since(conn, position) == (4, [])
