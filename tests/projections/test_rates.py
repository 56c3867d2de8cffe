"""Windows, counts and exact rates."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import engagement_model as model
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections import rates
from projections.rates import GROUP_PANE_MS, MEMBER_PANE_MS, Bounds, UnknownWindow, Window

NOON = model.BASE + 12 * model.HOUR


@given(
    st.sampled_from(list(Window)),
    st.sampled_from([GROUP_PANE_MS, MEMBER_PANE_MS]),
    st.integers(-(10**13), 10**13),
    st.none() | st.integers(-(10**13), 10**13),
)
def test_a_window_is_what_the_plain_model_says(window, pane_ms, now, as_of):
    assert rates.bounds(window, pane_ms, now, as_of) == model.window(window.value, pane_ms, now, as_of)


def test_a_window_at_a_time_ends_before_the_pane_of_that_time():
    at = NOON + 7 * 60_000
    assert rates.bounds(Window.HOUR, GROUP_PANE_MS, 0, at) == Bounds(NOON - 55 * 60_000, NOON + 5 * 60_000)
    assert rates.bounds(Window.HOUR, MEMBER_PANE_MS, 0, at) == Bounds(NOON - model.HOUR, NOON)


def test_a_window_without_a_time_ends_with_the_open_pane():
    assert rates.bounds(Window.HOUR, GROUP_PANE_MS, NOON) == Bounds(NOON - 55 * 60_000, NOON + 5 * 60_000)


def test_all_is_everything_and_at_a_time_everything_before_it():
    assert rates.bounds(Window.ALL, GROUP_PANE_MS, NOON) == Bounds(None, None)
    assert rates.bounds(Window.ALL, MEMBER_PANE_MS, 0, NOON + 1) == Bounds(None, NOON)


def test_an_unknown_window_is_refused_and_the_known_ones_are_named():
    with pytest.raises(UnknownWindow, match="`2d` is not a window; use one of 1h, 24h, 7d, 30d, all"):
        rates.window_named("2d")


@pytest.mark.parametrize(
    ("exact", "decimal"),
    [
        (Fraction(1, 2 * 10**9), "0E-9"),
        (Fraction(3, 2 * 10**9), "2E-9"),
        (Fraction(-1, 2 * 10**9), "0E-9"),
        (Fraction(-3, 2 * 10**9), "-2E-9"),
        (Fraction(1, 3), "0.333333333"),
        (Fraction(10**40, 3), "3" * 40 + ".333333333"),
    ],
)
def test_rates_are_rounded_half_to_even_at_nine_places(exact, decimal):
    assert rates.rounded(exact) == Decimal(decimal)
    assert str(rates.rounded(exact)) == str(Decimal(decimal))


@given(st.integers(-(2**80), 2**80), st.integers(1, 2**80))
def test_rounding_agrees_with_long_division(amount, by):
    assert rates.rounded(Fraction(amount, by)) == model.divided(amount, by)


def test_without_posts_or_reach_a_rate_is_none_and_never_zero():
    counters = {"member_post.like": 3, "rate_ppb": 5}
    assert rates.rate_by_followers(counters) is None
    assert rates.rate_by_reach(counters) is None
    assert rates.per_post(counters) is None


def test_without_engagements_a_rate_is_zero():
    assert rates.rate_by_followers({"member_post.post": 2}) == 0
    assert rates.per_post({"member_post.post": 2}) == 0


def test_views_mentions_follows_and_self_interactions_are_no_engagements():
    counters = {"member_post.view": 1, "member_post.mention": 1, "member_post.follow": 1, "self.like": 1}
    assert rates.engagements(counters) == 0
    assert rates.interactions({"member_post.like": 2, "brand_post.share": 3, "self.like": 9}) == 5


def test_the_advantage_is_the_exact_quotient_of_two_rates():
    nano = {"rate_ppb": 200_000_000, "member_post.post": 3}
    macro = {"rate_ppb": 100_000_000, "member_post.post": 7}
    assert rates.advantage(nano, macro) == Fraction(14, 3)
    assert rates.advantage(nano, {}) is None
    assert rates.advantage(nano, {"member_post.post": 1}) is None


def test_the_counters_are_those_of_the_plain_model():
    assert list(rates.COUNTERS) == model.COUNTERS
