"""Each guard of the exact stage taken away once: a test of `test_exactness.py` then fails. So they can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
import test_exactness as exactness
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aggregates.ledger import Fenced
from aggregates.ledger_store import LedgerStore
from streams import readstate
from streams.outputs import LogLost
from streams.pane_store import PaneStore
from streams.partition import Applied, Flush, Partition
from streams.transport import Chunk

EXAMPLES = 2_000
"""In so many a fault is found; nearly all of them within a few."""


# A crash


def panes_written_ahead_are_added_to_again(patch: pytest.MonkeyPatch) -> None:
    recover = PaneStore.recover

    def forgetful(self: PaneStore, *what: Any) -> None:
        recover(self, *what)
        for bucket in self._buckets.values():
            bucket.stamps = {}

    patch.setattr(PaneStore, "recover", forgetful)


def the_read_state_is_saved_before_the_panes(patch: pytest.MonkeyPatch) -> None:
    async def finish(self: Partition, flush: Flush, write: Callable[..., Any], save: Callable[..., Any]) -> None:
        await save(flush)
        await write(flush)
        self.saved = flush.position
        self.fold.flushed(flush.delta)

    patch.setattr(Partition, "finish_flush", finish)


def the_tail_of_the_log_is_not_read_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("exact_bench.remember", lambda recent, record: None)


def a_pane_that_is_open_is_not_recovered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PaneStore, "recover", lambda self, *what: None)


# A zombie


def the_ledger_asks_no_owner(patch: pytest.MonkeyPatch) -> None:
    answer = LedgerStore._answer

    def trusting(self: LedgerStore, c: Any, statement: str, values: Any) -> Any:
        if "ledger_positions" in statement:
            statement = statement.replace(" AND position = ? AND writer = ?", "")
            values = values[:3]
        return answer(self, c, statement, values)

    patch.setattr(LedgerStore, "_answer", trusting)


def the_read_state_asks_no_owner(patch: pytest.MonkeyPatch) -> None:
    anybody = readstate.POSITIONS.c.source == sa.bindparam("of_source")
    patch.setattr(readstate, "_MOVED", sa.update(readstate.POSITIONS).where(anybody))


# A chunk that was dropped, or came twice


def applied_wherever_it_begins(patch: pytest.MonkeyPatch) -> None:
    def apply(self: Partition, chunk: Chunk, epoch: int) -> Applied:
        if chunk.epoch != epoch:
            return Applied.STALE
        self.fold.apply(chunk.records, chunk.records[-1].offset + 1)
        self.next = chunk.records[-1].offset + 1
        return Applied.DONE

    patch.setattr(Partition, "apply", apply)


def applied_though_fetched_before_a_seek(patch: pytest.MonkeyPatch) -> None:
    apply = Partition.apply
    patch.setattr(Partition, "apply", lambda self, chunk, epoch: apply(self, chunk, chunk.epoch))


# The tests that find them


def any_chunking(_: Any) -> None:
    play(exactness.test_any_chunking_any_loss_and_any_crash_end_as_a_clean_run, exactness.STEPS)


def any_owners(_: Any) -> None:
    play(exactness.test_any_interleaving_of_owners_ends_as_a_clean_run, exactness.OWNER_STEPS)


def a_zombie(_: Any) -> None:
    some = st.integers(1, 10)
    play(exactness.test_a_zombie_cannot_write_behind_a_new_owner, some, some)


def a_zombie_that_had_saved(tmp_path: Any) -> None:
    exactness.test_a_zombie_that_had_saved_before_cannot_move_the_read_state_back(tmp_path)


def play(test: Any, *strategies: st.SearchStrategy[Any]) -> None:
    """Run a property as it is, without making what it finds smaller."""

    @settings(max_examples=EXAMPLES, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    @given(st.tuples(exactness.logs(), *strategies))
    def once(drawn: tuple[Any, ...]) -> None:
        test.hypothesis.inner_test(*drawn)

    once()


PLANTED = [
    (panes_written_ahead_are_added_to_again, any_chunking),
    (the_read_state_is_saved_before_the_panes, any_chunking),
    (the_tail_of_the_log_is_not_read_again, any_chunking),
    (a_pane_that_is_open_is_not_recovered, any_chunking),
    (the_ledger_asks_no_owner, a_zombie),
    (the_ledger_asks_no_owner, any_owners),
    (the_read_state_asks_no_owner, a_zombie_that_had_saved),
    (applied_wherever_it_begins, any_chunking),
    (applied_though_fetched_before_a_seek, any_chunking),
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of garbage that others left
@pytest.mark.parametrize(
    ("plant", "finds"), PLANTED, ids=[f"{plant.__name__}-{finds.__name__}" for plant, finds in PLANTED]
)
def test_a_planted_fault_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], finds: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch, tmp_path
):
    plant(monkeypatch)
    with pytest.raises((AssertionError, Fenced, LogLost, pytest.fail.Exception)):
        finds(tmp_path)
