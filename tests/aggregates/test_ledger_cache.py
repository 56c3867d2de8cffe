"""Accounts in memory: bounded by their number and by their size, and never another answer for it."""

from __future__ import annotations

import pytest
from account_cases import NOON
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_batches import SOURCE, batch, buy

import aggregates.ledger
from aggregates.ledger import Ledger

MEMBERS = ("ann", "bob", "cid", "dan")


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    made.migrate()
    made.take(SOURCE, "w", 0)
    yield made
    made.close()


def in_memory(ledger: Ledger) -> dict[str, int]:
    """Events of each account in memory."""
    return {name.partition("/")[2]: loaded.version for name, loaded in ledger._accounts.items()}


def test_the_accounts_used_longest_ago_leave_first_by_number_and_by_size(ledger, monkeypatch):
    monkeypatch.setattr(aggregates.ledger, "CACHED_ACCOUNTS", 3)
    monkeypatch.setattr(aggregates.ledger, "CACHED_EVENTS", 6)
    for offset, member in enumerate(("ann", "bob", "ann", "cid", "ann", "dan")):
        ledger.consume(batch(offset, offset + 1, buy(offset, member)))
    assert in_memory(ledger) == {"cid": 1, "ann": 3, "dan": 1}, "bob was used longest ago"
    ledger.consume(batch(6, 10, *(buy(offset, "ann") for offset in range(6, 10))))
    assert in_memory(ledger) == {}, "an account that alone is too big does not stay"
    ledger.consume(batch(10, 11, buy(10, "bob")))
    assert in_memory(ledger) == {"bob": 2}


@given(st.lists(st.lists(st.sampled_from(MEMBERS), max_size=5), max_size=8))
@settings(max_examples=20)
def test_what_falls_out_of_memory_comes_back_as_it_was(tmp_path_factory, batches):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregates.ledger, "CACHED_ACCOUNTS", 2)
        patch.setattr(aggregates.ledger, "CACHED_EVENTS", 5)
        ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('db') / 'ledger.db'}")
        ledger.migrate()
        ledger.take(SOURCE, "w", 0)
        offset = 0
        for members in batches:
            records = [buy(offset + n, member) for n, member in enumerate(members)]
            ledger.consume(batch(offset, offset + len(records) + 1, *records))
            offset += len(records) + 1
            assert sum(in_memory(ledger).values()) == ledger._cached_events <= 5
            assert len(in_memory(ledger)) <= 2
        for member in MEMBERS:
            bought = sum(members.count(member) for members in batches)
            assert ledger.account("acme", member).balance_at(NOON).active == 10 * bought
        ledger.close()
