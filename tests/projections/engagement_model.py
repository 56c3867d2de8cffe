"""An independent, slow and obvious model of the engagement reads, and generators of pane records for both.

It shares no code with what it checks: lists, dictionaries and plain loops.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

from hypothesis import strategies as st

KINDS = ["like", "comment", "share", "save", "click", "view", "reach", "post", "mention", "follow"]
FIVE = ["like", "comment", "share", "save", "click"]
COUNTERS = [f"{group}.{kind}" for group in ("member_post", "brand_post", "self") for kind in KINDS]
COUNTERS += ["rate_ppb", "unrated", "purchases", "revenue_minor", "refunds", "refunds_minor", "referred_revenue_minor"]
FIVE_MINUTES, HOUR = 5 * 60 * 1000, 60 * 60 * 1000
HOURS = {"1h": 1, "24h": 24, "7d": 7 * 24, "30d": 30 * 24}
TIER_SCOPES = ("brand_tier", "campaign_tier")
HOUR_SCOPES = ("member", "campaign_member", "post")
BASE = 1_772_323_200_000  # 2026-03-01T00:00:00Z


def pane(scope="brand", starts_at=BASE, stamp=0, counters=None, **fields):
    """A pane record with defaults for what a test does not care about."""
    return {
        "scope": scope,
        "brand_id": fields.get("brand", "acme"),
        "campaign_id": fields.get("campaign", "spring" if scope.startswith("campaign") else ""),
        "tier": fields.get("tier", "nano" if scope in TIER_SCOPES else ""),
        "member_id": fields.get("member", "m1" if scope in HOUR_SCOPES else ""),
        "platform": fields.get("platform", "tok"),
        "post_id": fields.get("post", "p1" if scope == "post" else ""),
        "starts_at": starts_at,
        "length_ms": HOUR if scope in HOUR_SCOPES else FIVE_MINUTES,
        "segment": fields.get("segment", -1),
        "partition": fields.get("partition", 0),
        "epoch": fields.get("epoch", "e1"),
        "stamp": stamp,
        "counters": counters or {},
    }


def profile(member="m1", tier="nano", stamp=0, brand="acme", partition=0, epoch="e1", changes=(), **platforms):
    """A member's tier record; the followers are the most of its platforms."""
    return {
        "brand_id": brand,
        "member_id": member,
        "tier": tier,
        "followers": max(platforms.values(), default=0),
        "platforms": platforms,
        "changes": json.dumps(changes) if changes else "",
        "partition": partition,
        "epoch": epoch,
        "stamp": stamp,
    }


@st.composite
def panes(draw, scopes=("brand", "campaign", *TIER_SCOPES, *HOUR_SCOPES)):
    """A pane record, around the ends of windows, late segments and corrections included."""
    scope = draw(st.sampled_from(scopes))
    length = HOUR if scope in HOUR_SCOPES else FIVE_MINUTES
    hours = draw(st.sampled_from([-720, -168, -24, -1, 0, 1]) | st.integers(-725, 2)) * HOUR
    return pane(
        scope,
        starts_at=BASE + hours + draw(st.integers(-2, 2)) * length,
        stamp=draw(st.integers(0, 20)),
        counters=draw(
            st.dictionaries(
                st.sampled_from(COUNTERS), st.integers(-3, 9) | st.integers(-(2**63), 2**63 - 1), max_size=6
            )
        ),
        brand=draw(st.sampled_from(["acme", "other"])),
        campaign=draw(st.sampled_from(["spring", "fall"])) if scope.startswith("campaign") else "",
        tier=draw(st.sampled_from(["nano", "macro", "old", "unknown"])) if scope in TIER_SCOPES else "",
        member=draw(st.sampled_from(["m1", "m2", "m3"])) if scope in HOUR_SCOPES else "",
        platform=draw(st.sampled_from(["", "tok", "gram"])),
        post=draw(st.sampled_from(["p1", "p2", "p3"])) if scope == "post" else "",
        segment=draw(st.sampled_from([-1, 0, 7])),
        partition=draw(st.integers(0, 1)),
        epoch=draw(st.sampled_from(["", "e1", "e2"])),
    )


tier_changes = st.lists(
    st.tuples(st.integers(BASE - 3 * HOUR, BASE + 3 * HOUR), st.sampled_from(["nano", "macro", "old"])), max_size=4
).map(lambda changes: sorted([at, number, tier, "tok", 7] for number, (at, tier) in enumerate(changes)))


@st.composite
def profiles(draw):
    """A member's tier record; one member stays without a profile."""
    return profile(
        draw(st.sampled_from(["m1", "m2", "m4"])),
        draw(st.sampled_from(["nano", "macro", "old", "unknown"])),
        draw(st.integers(0, 20)),
        draw(st.sampled_from(["acme", "other"])),
        changes=draw(tier_changes),
        **draw(st.dictionaries(st.sampled_from(["tok", "gram"]), st.integers(0, 5000), max_size=2)),
    )


def tier_as_of(record, as_of):
    """The tier that a record says for an instant, None before the first; that of now for one of an older release."""
    if as_of is None or not record["changes"]:
        return record["tier"]
    found = None
    for at, _, tier, _, _ in json.loads(record["changes"]):
        if at <= as_of:
            found = tier
    return found


MERGED = ["scope", "brand_id", "campaign_id", "tier", "member_id", "platform", "post_id", "starts_at"]
KEYS = [*MERGED, "segment", "partition", "epoch"]


def one_per_stamp(records):
    """The records without those that repeat a key and stamp: of one key, equal stamps carry equal values."""
    seen = {}
    for record in records:
        keys = KEYS if "scope" in record else ["brand_id", "member_id"]
        seen.setdefault((*(record[key] for key in keys), record["stamp"]), record)
    return list(seen.values())


def latest(records):
    """Of each key the record with the greatest stamp."""
    kept = {}
    for record in sorted(records, key=lambda one: one["stamp"]):
        keys = KEYS if "scope" in record else ["brand_id", "member_id"]
        kept[tuple(record[key] for key in keys)] = record
    return list(kept.values())


def newest_member(records):
    """Of the tier records of one member, in the order of their topic, the one that stands."""
    stands = None
    for record in records:
        if stands is None or record["epoch"] != stands["epoch"] or record["stamp"] > stands["stamp"]:
            stands = record
    return stands


def window(name, length, now, as_of):
    """First and last instant (exclusive) of a window, None where it is open."""
    if name == "all":
        return None, None if as_of is None else as_of // length * length
    if as_of is None:
        end = (now // length + 1) * length
        return end - HOURS[name] * HOUR, end
    return (as_of - HOURS[name] * HOUR) // length * length, as_of // length * length


def chosen(records, scope, brand, name, now, as_of, campaign, platform):
    """The panes that a read is about."""
    length = HOUR if scope in HOUR_SCOPES else FIVE_MINUTES
    start, end = window(name, length, now, as_of)
    return [
        one
        for one in records
        if one.get("scope") == scope
        and one["brand_id"] == brand
        and one["campaign_id"] == (campaign or "")
        and (platform is None or one["platform"] == platform)
        and (start is None or one["starts_at"] >= start)
        and (end is None or one["starts_at"] < end)
    ]


def summed(records):
    """All counters, added up."""
    sums = dict.fromkeys(COUNTERS, 0)
    for one in records:
        for name, value in one["counters"].items():
            sums[name] += value
    return sums


def rolled_up(records):
    """The sums by hour and by day of the panes of five minutes, of those without an absurd counter; by key."""
    sums = {}
    for one in records:
        if one["length_ms"] == FIVE_MINUTES and all(abs(value) <= 2**46 for value in one["counters"].values()):
            for length in (HOUR, 24 * HOUR):
                start = one["starts_at"] // length * length
                key = (one["scope"], one["brand_id"], one["campaign_id"], length, start, one["tier"], one["platform"])
                counted = sums.setdefault(key, dict.fromkeys(COUNTERS, 0))
                for name, value in one["counters"].items():
                    counted[name] += value
    return sums


def iso(at):
    """An instant as the answers write it."""
    return datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def divided(amount, by):
    """The quotient to nine places, half to even, by long decimal division; None by nothing."""
    if by <= 0:
        return None
    with localcontext() as context:
        context.prec = 200
        return (Decimal(amount) / Decimal(by)).quantize(Decimal("0.000000001"), ROUND_HALF_EVEN)


def measures(sums):
    """The body's counts and rates, as an answer in Python has them."""
    five = sum(sums[f"member_post.{kind}"] for kind in FIVE)
    posts, reach = sums["member_post.post"], sums["member_post.reach"]
    return {
        "counts": {
            group: {kind: sums[f"{group}.{kind}"] for kind in KINDS} for group in ("member_post", "brand_post", "self")
        },
        "posts": posts,
        "reach": reach,
        "engagements": five,
        "purchases": sums["purchases"],
        "revenue_minor": sums["revenue_minor"],
        "refunds": sums["refunds"],
        "refunds_minor": sums["refunds_minor"],
        "referred_revenue_minor": sums["referred_revenue_minor"],
        "unrated": sums["unrated"],
        "rate_by_followers": divided(sums["rate_ppb"], 1_000_000_000 * posts),
        "rate_by_reach": divided(five, reach),
        "per_post": divided(five, posts),
    }
