"""The same on a real PostgreSQL: what is derived again from there, and standings over the past kept in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rederive_world import DOCUMENTS, Live, buy, compared, followers, like, log_of, redeem, replayed

from aggregates.settlement import ranked
from projections import retroactive


@pytest.fixture(scope="module")
def address(postgresql_server: Any) -> str:
    """A database of a real PostgreSQL server."""
    postgresql_server.psql("CREATE DATABASE rederived")
    return str(postgresql_server.get_uri("rederived"))


@pytest.fixture(scope="module")
def live(address: str) -> Iterator[Live]:
    made = [followers("m1", "f1", 10), *(like(f"m{n % 4}", f"e{n}", post_id=f"p{n}") for n in range(20))]
    log = log_of([*made, buy("m1", "b1"), redeem("m1", "c1", 5), buy("m1", "b2", kind="refunded", order_id="b1")], 3)
    with closing(Live(Path(), log, database=address)) as running:
        yield running.finish([(n, 2) for n in range(12)])


def test_no_decision_differs_and_another_log_is_told(live):
    found = compared(live)
    assert (found.listed, found.gone) == ([], [])
    assert found.compared == live.ledger.last_notification() - len(DOCUMENTS)
    less = log_of([like("m1", "e1")], 3)
    assert [one.decisions for one in compared(live, less).gone] != []


def test_standings_over_the_past_are_kept_whole_and_replaced(live):
    retroactive.METADATA.create_all(live.engine)
    with replayed(live) as run:
        assert sum(step.derived is not None for step in run.steps()) > 20
    for scores in ([("ann", 3), ("bob", 5), ("eve", None)], [("bob", 2)]):
        with live.engine.begin() as conn:
            retroactive.keep(conn, "acme", "late", "points", ranked(scores), 7)
        with live.engine.connect() as conn:
            kept = retroactive.ranking(conn, "acme", "late")
            places = retroactive.page(conn, "acme", "late", 0, 10)
            assert kept == ("points", len(scores), 7)
            assert [(one.rank, one.member_id, one.score) for one in places] == list(ranked(scores))
            assert retroactive.page(conn, "acme", "late", 1, 10) == places[1:]
            assert retroactive.ranking(conn, "acme", "other") is None
