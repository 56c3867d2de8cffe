"""The ledger against a model in plain lists, over random lives of a member; and bugs planted to see that it finds them.

`make model EXAMPLES=10000` plays many lives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

import pytest
from hypothesis import Phase
from ledger_machine import play

from aggregates import account_state, evolving, spending
from aggregates.account_state import Account, Lot, Paid
from aggregates.definitions import Period
from aggregates.events import Reversal
from aggregates.spending import Taking

EXAMPLES = int(os.environ.get("EXAMPLES", "150"))
LIVES = 20_000
"""In so many a planted bug is found: the rarest comes up in one of some 700."""


def test_the_ledger_agrees_with_the_model_in_every_life():
    assert play(EXAMPLES) >= EXAMPLES


# Bugs that were planted to see whether they are found


def points_live_a_millisecond_longer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lot, "is_expired", lambda lot, at: lot.expires_at is not None and lot.expires_at < at)


def a_reversal_forgets_what_it_could_not_take(patch: pytest.MonkeyPatch) -> None:
    take_back = Taking.take_back
    patch.setattr(Taking, "take_back", lambda *args: (take_back(*args)[0], 0))


def a_reversal_gives_cap_room_back(patch: pytest.MonkeyPatch) -> None:
    reverse = evolving._reverse

    def generous(account: Account, granted: Iterable[Paid], reversals: Iterable[Reversal]) -> None:
        granted = list(granted)
        reverse(account, granted, reversals)
        for one in reversals:
            for paid in granted:
                for counter in paid.grant.counters if paid.grant.entry_id == one.reverses else ():
                    account.used[counter] -= one.points

    patch.setattr(evolving, "_reverse", generous)


def a_month_is_thirty_days(patch: pytest.MonkeyPatch) -> None:
    length = {"d": 1, "mo": 30}
    patch.setattr(Period, "after", lambda after, day: day + timedelta(days=after.number * length[after.unit]))


def unlimited_points_are_spent_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(spending, "spending_order", lambda lot: (lot.expires_at or 0, lot.number, lot.id))


def a_cancellation_forgets_what_was_given_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(evolving, "_give_up", lambda account, reversal: None)


def points_on_hold_never_pay_off_debt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(account_state, "paid_off", lambda debt, since, lots, at: [0] * len(lots))


def expired_points_pay_off_debt(patch: pytest.MonkeyPatch) -> None:
    pays = account_state.paid_off
    patch.setattr(account_state, "paid_off", lambda debt, since, lots, at: pays(debt, 0, lots, at))


def debt_is_paid_by_what_came_last(patch: pytest.MonkeyPatch) -> None:
    def pays(debt: int, since: int, lots: Sequence[tuple[int, int, int | None]], at: int) -> list[int]:
        paid = [0] * len(lots)
        for place, (left, active_at, expires_at) in sorted(enumerate(lots), key=lambda one: -one[1][1]):
            if active_at <= at and (expires_at is None or expires_at > since) and at >= since:
                paid[place] = max(0, min(left, debt - sum(paid)))
        return paid

    patch.setattr(account_state, "paid_off", pays)


PLANTED: list[Callable[[pytest.MonkeyPatch], None]] = [
    points_live_a_millisecond_longer,
    a_reversal_forgets_what_it_could_not_take,
    a_reversal_gives_cap_room_back,
    a_month_is_thirty_days,
    unlimited_points_are_spent_first,
    a_cancellation_forgets_what_was_given_up,
    points_on_hold_never_pay_off_debt,
    expired_points_pay_off_debt,
    debt_is_paid_by_what_came_last,
]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        play(LIVES, phases=[Phase.generate], database=None, report_multiple_bugs=False)
