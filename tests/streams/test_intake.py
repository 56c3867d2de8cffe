"""What the intake takes, what it refuses and why; and that it stops before it drains a log it cannot read."""

from __future__ import annotations

from typing import Any

import pytest
from exact_bench import (
    BRAND,
    CAMPAIGN,
    NOW,
    SECRET,
    Record,
    definition,
    interaction,
    partition_of,
    programs,
    purchase,
    record,
)

from aggregates.activity import Activity
from schemas.topics import activity_key
from streams import recent
from streams.intake import Intake, Limits, TooManyRejected
from streams.readstate import ReadState
from streams.recent import Recent

DAY = 24 * 3_600_000


def intake(limits: Limits | None = None, partitions: int = 1) -> Intake:
    made = Intake(0, partitions, ReadState(), Recent(), SECRET, limits or Limits())
    made.take(programs())
    return made


def take(made: Intake, *records: Record) -> tuple[list[Activity], list[tuple[int, str]]]:
    activities, letters = made.take(records)
    return [activity for activity, _ in activities], [(letter.offset, str(letter.reason)) for letter in letters]


def one(made: Intake, kind: str, value: dict[str, Any], **options: Any) -> Activity:
    activities, letters = take(made, record(10, kind, value, **options))
    assert letters == []
    return activities[0]


def test_a_good_record_becomes_an_activity_that_counts_for_the_live_campaign():
    activity = one(intake(), "Interaction", interaction(followers=500))
    assert (activity.tier, activity.followers, [c.id for c in activity.campaigns]) == ("nano", 500, ["spring"])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Record(9, NOW, b"acme/m1", b"\xc3\x01garbage!"), "unknown_schema"),
        (Record(9, NOW, b"acme/m1", b"\xc3\x01short"), "truncated"),
        (
            record(
                9,
                "MemberTier",
                {
                    "brand_id": "acme",
                    "member_id": "m1",
                    "tier": "nano",
                    "followers": 1,
                    "platforms": {"x": 1},
                    "partition": 0,
                    "stamp": 1,
                },
            ),
            "not_input",
        ),
        (Record(9, NOW, b"acme/m1", None), "no_value"),
        (record(9, "Purchase", purchase(amount_minor=-1)), "invalid"),
        (record(9, "Purchase", purchase(order_id=None)), "invalid"),
        (record(9, "Purchase", purchase(currency="USD")), "wrong_currency"),
        (record(9, "Purchase", purchase(campaign_id="nope")), "unknown_campaign"),
        (record(9, "Purchase", purchase(brand_id="nope")), "unknown_brand"),
        (record(9, "Purchase", purchase(), key=b"acme/somebody-else"), "wrong_key"),
        (record(9, "Interaction", interaction(occurred_at=NOW + DAY + 1)), "in_the_future"),
    ],
)
def test_what_cannot_be_taken_is_a_dead_letter_with_its_reason(bad, reason):
    assert take(intake(), bad) == ([], [(9, reason)])


def test_an_internal_record_without_our_signature_mints_nothing():
    due = {
        "event_id": "x", "occurred_at": NOW, "brand_id": "acme", "member_id": "m1", "buyer_id": "b", "order_id": "o",
        "kind": "completed", "amount_minor": 1, "currency": "EUR", "campaign_id": None, "new_customer": True,
    }  # fmt: skip
    forged = record(9, "ReferralDue", due, signed=False)
    moved = record(9, "ReferralDue", due)._replace(key=activity_key("acme", "m2"))
    assert take(intake(), forged)[1] == [(9, "unsigned")]
    assert take(intake(), moved)[1] == [(9, "unsigned")]
    assert take(intake(), record(9, "ReferralDue", due))[1] == []


def test_a_key_on_the_wrong_partition_is_refused_since_its_member_would_have_two_writers():
    value = interaction()
    right = partition_of(activity_key("acme", "m1"), 4)
    made = intake(partitions=4)
    made.partition = (right + 1) % 4
    assert take(made, record(9, "Interaction", value))[1] == [(9, "wrong_key")]
    made.partition = right
    assert take(made, record(10, "Interaction", value))[1] == []


def test_the_same_id_again_is_dropped_and_counted_but_a_refused_one_may_be_corrected():
    made = intake()
    bad = record(9, "Purchase", purchase(currency="USD"))
    good = record(10, "Purchase", purchase())
    activities, letters = take(made, bad, good, good._replace(offset=11))
    assert (len(activities), len(letters), made.state.counts["duplicate"]) == (1, 1, 1)


@pytest.mark.parametrize("changed", [{"campaign_id": "nope"}, {"currency": "USD"}])
def test_a_known_id_is_a_duplicate_whatever_the_repetition_says(changed):
    made = intake()
    good, other = record(9, "Purchase", purchase()), record(10, "Purchase", purchase(**changed))
    activities, letters = take(made, good, other, other._replace(offset=11), good._replace(offset=12))
    assert (len(activities), letters, made.state.counts["duplicate"]) == (1, [], 3)


def test_what_was_refused_is_judged_anew_when_it_is_sent_again(monkeypatch):
    made, now = intake(), record(12, "Purchase", purchase(campaign_id="autumn"))
    letters = take(made, now._replace(offset=9), now._replace(offset=10))[1]
    assert letters == [(9, "unknown_campaign"), (10, "unknown_campaign")]
    take(made, definition(11, {**CAMPAIGN, "campaign": "autumn"}))
    activities, letters = take(made, now, now._replace(offset=13))
    assert (len(activities), letters, made.state.counts["duplicate"]) == (1, [], 1)
    monkeypatch.setattr(recent, "HORIZON_OFFSETS", 5)
    gone = record(18, "Purchase", purchase(campaign_id="nope"))
    assert take(made, gone)[1] == [(18, "unknown_campaign")], "beyond the horizon nobody knows the id"


def test_followers_of_an_event_update_the_profile_on_member_posts_only():
    made = intake()
    one(made, "Interaction", interaction(event_id="1", followers=500))
    brand_side = one(made, "Interaction", interaction(event_id="2", surface="brand_post", followers=500_000))
    assert brand_side.tier == "nano"
    own = one(made, "Interaction", interaction(event_id="3", followers=500_000))
    assert own.tier == "macro"


def test_the_tier_follows_the_platform_with_most_followers_and_the_rate_its_own_platform():
    made = intake()
    for event_id, platform, followers in (("1", "x", 800), ("2", "tiktok", 50_000)):
        take(made, record(5, "ProfileSnapshot", {
            "event_id": event_id, "occurred_at": NOW, "brand_id": "acme", "member_id": "m1", "platform": platform,
            "followers": followers,
        }))  # fmt: skip
    activity = one(made, "Interaction", interaction(event_id="3", platform="x"))
    assert (activity.tier, activity.followers) == ("mid", 800)


def test_a_member_without_a_profile_is_of_unknown_tier_and_unrated():
    activity = one(intake(), "Interaction", interaction())
    assert (activity.tier, activity.followers) == ("unknown", None)


def test_a_self_interaction_is_marked_and_a_post_is_none():
    made = intake()
    assert one(made, "Interaction", interaction(event_id="1", actor_id="m1")).is_self
    assert not one(made, "Interaction", interaction(event_id="2", actor_id="m1", kind="post")).is_self


def test_a_campaign_that_is_named_and_not_live_is_counted_nowhere():
    early = interaction(campaign_id="spring", occurred_at=1_000)
    made = intake()
    assert one(made, "Interaction", early).not_live
    assert made.state.counts["not_live"] == 1


def test_who_joined_an_opt_in_campaign_takes_part_from_then_on():
    made = intake()
    club = {"campaign": "club", "brand": "acme", "join": "opt_in", "starts_at": 1_770_000_000_000,
            "ends_at": 1_775_000_000_000, "earn": [{"rule": "r", "on": "purchase", "points": 1}]}  # fmt: skip
    take(made, definition(5, club))
    value = {
        "event_id": "j",
        "occurred_at": NOW,
        "brand_id": "acme",
        "member_id": "m1",
        "campaign_id": "club",
        "kind": "joined",
    }
    take(made, record(6, "Enrolment", value))
    before = one(made, "Interaction", interaction(event_id="1", campaign_id="club", occurred_at=NOW - 1))
    after = one(made, "Interaction", interaction(event_id="2", campaign_id="club", occurred_at=NOW))
    assert ([c.id for c in before.campaigns], [c.id for c in before.not_joined]) == ([], ["club"])
    assert [c.id for c in after.campaigns] == ["club"]


def test_a_run_of_rejected_records_stops_the_worker_and_says_why():
    made = intake(Limits(run=5))
    junk = [Record(n, NOW, b"acme/m1", b"junk") for n in range(10, 20)]
    with pytest.raises(TooManyRejected, match=r"offset 14: 5 records in a row.*not_avro.*GROUNDSWELL_DEAD_LETTER_RUN"):
        made.take(junk)


def test_a_high_share_of_rejected_records_stops_the_worker():
    made = intake(Limits(run=1000, percent=50, window=20))
    mixed = [
        record(n, "Interaction", interaction(event_id=str(n))) if n % 3 == 0 else Record(n, NOW, b"acme/m1", b"junk")
        for n in range(2, 40)
    ]
    with pytest.raises(TooManyRejected, match="of the last 20"):
        made.take(mixed)


def test_commands_and_definitions_of_today_do_not_make_old_events_late():
    made = intake()
    one(made, "Interaction", interaction(event_id="1", occurred_at=NOW - 500 * DAY))
    before = made.state.greatest_event_time
    command = {"event_id": "c", "occurred_at": NOW, "brand_id": "acme", "member_id": "m1", "kind": "redeem",
               "points": 1, "reference": None, "reason": None, "requested_by": "t"}  # fmt: skip
    one(made, "Command", command)
    assert made.state.greatest_event_time == before == NOW - 500 * DAY


def test_a_derived_record_has_the_tier_of_the_event_that_caused_it_wherever_it_stands():
    due = {
        "event_id": "d", "occurred_at": NOW - DAY, "brand_id": "acme", "member_id": "m1", "buyer_id": "b",
        "order_id": "o", "kind": "completed", "amount_minor": 1, "currency": "EUR", "campaign_id": None,
        "new_customer": True,
    }  # fmt: skip
    made = intake()
    one(made, "Interaction", interaction(event_id="1", followers=500, occurred_at=NOW - 2 * DAY))
    before = one(made, "ReferralDue", due)
    one(made, "Interaction", interaction(event_id="2", followers=5_000, occurred_at=NOW))
    after = one(made, "ReferralDue", {**due, "event_id": "d2"})
    assert (before.tier, after.tier) == ("nano", "nano")
    assert one(made, "ReferralDue", {**due, "event_id": "d3", "occurred_at": NOW}).tier == "micro"


def test_all_that_happens_under_new_tiers_of_the_brand_is_by_them_referrals_too():
    made, bands = intake(), {"nano": 0, "micro": 2_000}
    one(made, "Interaction", interaction(event_id="1", followers=1_200, occurred_at=NOW - 2 * DAY))
    one(made, "Interaction", interaction(event_id="2", followers=1_500, occurred_at=NOW - 2 * DAY))
    made.take([definition(9, {**BRAND, "version": 2, "effective_at": NOW - DAY, "tiers": bands})])
    due = {
        "event_id": "d", "occurred_at": NOW - DAY, "brand_id": "acme", "member_id": "m1", "buyer_id": "b",
        "order_id": "o", "kind": "completed", "amount_minor": 1, "currency": "EUR", "campaign_id": None,
        "new_customer": True,
    }  # fmt: skip
    after = [
        one(made, "Interaction", interaction(event_id="3", occurred_at=NOW - DAY)),
        one(made, "Purchase", purchase(event_id="4", occurred_at=NOW - DAY)),
        one(made, "ReferralDue", due),
    ]
    assert [one.tier for one in after] == ["nano"] * 3
    assert [one.tier_followers for one in after] == [1_500, 1_500, 1_200], "1,200 are those it crossed the bound with"
    before = one(made, "ReferralDue", {**due, "event_id": "d2", "occurred_at": NOW - DAY - 1})
    assert (before.tier, before.tier_followers) == ("micro", 1_200)


def test_a_friends_refund_counts_for_what_the_order_counted_for_though_it_comes_later():
    """As its order's `ReferralDue` did: also by what the referrer had joined then, not by what is live by now."""
    made, start = intake(), NOW - DAY
    short = {**CAMPAIGN, "campaign": "short", "starts_at": start, "ends_at": NOW}
    made.take([definition(2, short)])
    order = {
        "event_id": "d", "occurred_at": start, "brand_id": "acme", "member_id": "m1", "buyer_id": "b",
        "order_id": "o", "kind": "completed", "amount_minor": 1, "currency": "EUR", "campaign_id": None,
        "new_customer": True,
    }  # fmt: skip
    refund = {**order, "event_id": "r", "kind": "refunded", "occurred_at": NOW, "ordered_at": start}
    assert [c.id for c in one(made, "ReferralDue", order).campaigns] == ["short", "spring"]
    assert [c.id for c in one(made, "ReferralDue", refund).campaigns] == ["short", "spring"]
    named = one(made, "ReferralDue", {**refund, "event_id": "r2", "campaign_id": "short"})
    assert ([c.id for c in named.campaigns], named.not_live) == (["short"], False)
    of_before = one(made, "ReferralDue", {**refund, "event_id": "r3", "ordered_at": None})
    assert [c.id for c in of_before.campaigns] == ["spring"]
    none = one(made, "ReferralDue", {**refund, "event_id": "r5", "counted_for": ""})
    assert (none.campaigns, none.not_live) == ((), False), "neither campaign was known when the order came"
    one_of_them = {**refund, "event_id": "r6", "counted_for": "short/gone"}
    assert [c.id for c in one(made, "ReferralDue", one_of_them).campaigns] == ["short"]
    moved = {**CAMPAIGN, "version": 2, "effective_at": 0, "starts_at": NOW}
    made.take([definition(3, moved)])
    was_live = {**refund, "event_id": "r7", "campaign_id": "spring", "counted_for": "spring"}
    found = one(made, "ReferralDue", was_live)
    assert ([c.id for c in found.campaigns], found.not_live) == (["spring"], False)
    early = {**refund, "event_id": "r4", "campaign_id": "short", "ordered_at": start - 1, "occurred_at": start}
    assert one(made, "ReferralDue", early).not_live
