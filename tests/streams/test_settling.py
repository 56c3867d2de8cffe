"""Settled standings are those of the log before the markers, and each prize is paid once, whatever happens then."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from exact_bench import Record, interaction, partition_of, purchase
from hypothesis import given, settings
from hypothesis import strategies as st
from settling_world import CLOSED_AT, END, HOUR, PARTITIONS, START, World

from aggregates.database import open_database
from aggregates.events import PrizeAwarded
from aggregates.ledger import Ledger
from projections.engagement.tables import ENGAGEMENT
from schemas.codec import decode
from schemas.topics import activity_key
from service.roles.settlement import Settlements

MEMBERS = ("ann", "bob", "cat", "dan", "eve")
RULES = [
    {"rule": "like", "on": "interaction", "kind": ["like"], "points": 2},
    {"rule": "spend", "on": "purchase", "per_minor": 100, "points": 1},
    {"rule": "friend", "on": "referral", "per_minor": 1000, "points": 1},
]
PRIZES = {1: 500, 2: 300, 3: 100}

times = st.integers(-6, 54).map(lambda hours: START + hours * HOUR)
events = st.one_of(
    st.tuples(st.just("like"), st.sampled_from(MEMBERS), st.integers(1, 3), times),
    st.tuples(st.just("unlike"), st.sampled_from(MEMBERS), st.integers(-2, -1), times),
    st.tuples(st.just("post"), st.sampled_from(MEMBERS), st.just(1), times),
    st.tuples(st.just("buy"), st.sampled_from(MEMBERS), st.integers(0, 5_000), times),
    st.tuples(st.just("refund"), st.sampled_from(MEMBERS), st.integers(0, 3_000), times),
)
partition = st.integers(0, PARTITIONS - 1)
steps = st.one_of(
    st.tuples(st.just("publish"), events),
    st.tuples(st.just("publish"), events),
    st.tuples(st.just("again"), st.integers(0, 50)),
    st.tuples(st.just("work"), partition, st.integers(1, 9)),
    st.tuples(st.just("work"), partition, st.integers(1, 9)),
    st.tuples(st.just("flush"), partition, st.sampled_from(["", "in write", "in save", "after"])),
    st.tuples(st.just("project")),
    st.tuples(st.just("consume"), partition),
    st.tuples(st.just("send"), st.sampled_from([None, None, 0, 1, 2])),
    st.tuples(st.just("settle")),
    st.tuples(st.just("close")),
)


def do(world: World, step: tuple[Any, ...], published: list[tuple[str, dict[str, Any]]]) -> None:
    action, *args = step
    if action == "publish":
        record = record_of(len(published), *args[0])
        published.append(record)
        world.publish(*record)
    elif action == "again":  # the same record once more: a duplicate
        if published:
            world.publish(*published[args[0] % len(published)])
    else:
        getattr(world, action)(*args)


def record_of(number: int, kind: str, member: str, amount: int, at: int) -> tuple[str, dict[str, Any]]:
    base = {"event_id": f"e{number}", "occurred_at": at, "member_id": member}
    if kind in ("buy", "refund"):
        order = {"order_id": f"{member}-{amount % 3}", "amount_minor": amount}
        if kind == "refund":
            return "Purchase", purchase(**base, **order, kind="refunded")
        return "Purchase", purchase(**base, **order, referrer_id=MEMBERS[amount % len(MEMBERS)])
    named = "post" if kind == "post" else "like"
    return "Interaction", interaction(**base, kind=named, quantity=amount, followers=100, post_id=f"{member}-p")


# The model: it reads the log, and knows nothing of panes, accounts or read models


def before_markers(world: World) -> list[tuple[str, dict[str, Any]]]:
    """What the log has of members before the marker of their partition, each record once."""
    kept, seen = [], set()
    for log in world.logs:
        for one in log:
            kind, value = decode(one.value)  # type: ignore[arg-type]
            if kind == "CampaignClosing":
                break
            if kind not in ("Interaction", "Purchase", "ReferralDue"):
                continue
            ident = (kind, value["member_id"], value["event_id"])
            if ident not in seen:
                kept.append((kind, value))
            seen.add(ident)
    return kept


def model_scores(world: World, metric: str) -> dict[str, Any]:
    records = before_markers(world)
    live = [
        (kind, value) for kind, value in records if START <= (value.get("ordered_at") or value["occurred_at"]) < END
    ]
    if metric == "points":
        return model_points(records)
    sums: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for kind, value in live:
        counted = sums[value["member_id"]]
        if kind == "Interaction":
            counted[value["kind"]] += value["quantity"]
        elif kind == "ReferralDue":
            counted["referred"] += value["amount_minor"] * (1 if value["kind"] == "completed" else -1)
    if metric == "interactions":
        return {member: counted["like"] for member, counted in sums.items()}
    if metric == "referred_revenue":
        return {member: counted["referred"] for member, counted in sums.items()}
    return {
        member: nine(Fraction(counted["like"] * (10**9 // 100), 10**9 * counted["post"])) if counted["post"] else None
        for member, counted in sums.items()
    }


def nine(exact: Fraction) -> Decimal:
    return Decimal(round(exact * 10**9)).scaleb(-9)


def model_points(records: list[tuple[str, dict[str, Any]]]) -> dict[str, int]:
    """Points by the rules above: what is refunded or unliked is taken back, of the latest like first."""
    points: dict[str, int] = defaultdict(int)
    refunded: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    orders: dict[tuple[str, str, str], tuple[int, int]] = {}
    likes: dict[str, list[list[int]]] = defaultdict(list)
    for kind, value in records:
        member, live = value["member_id"], START <= value["occurred_at"] < END
        if kind == "Interaction":
            if value["kind"] != "like":
                continue
            if value["quantity"] > 0:
                if live:
                    likes[member].append([value["quantity"]])
                    points[member] += 2 * value["quantity"]
            else:
                left = -value["quantity"]
                for one in reversed(likes[member]):
                    some = min(left, one[0])
                    one[0] -= some
                    left -= some
                    points[member] -= 2 * some
            continue
        unit = 100 if kind == "Purchase" else 1000
        order = (kind, member + "/" + value.get("buyer_id", ""), value["order_id"])
        if value["kind"] == "refunded":
            if order in orders:
                amount, paid = orders[order]
                refunded[order].append(value["amount_minor"])
                due = max(0, amount - sum(refunded[order])) // unit if paid else 0
                if paid:  # who was never paid has no score, not a score of zero
                    points[member] -= paid - min(paid, due)
                orders[order] = (amount, min(paid, due))
            else:
                refunded[order].append(value["amount_minor"])
            continue
        if order in orders:
            continue
        pays = live and (kind == "Purchase" or value["new_customer"])
        due = max(0, value["amount_minor"] - sum(refunded[order])) // unit if pays else 0
        orders[order] = (value["amount_minor"], due)
        if due:
            points[member] += due
    return dict(points)


def expected_places(scores: dict[str, Any]) -> list[tuple[str, int, Any, int | None]]:
    """Member, rank, score and prize, by the standings rule."""
    places = []
    for member, score in scores.items():
        better = [s for s in scores.values() if s is not None and (score is None or s > score)]
        rank = len(better) + 1
        places.append((member, rank, score, PRIZES.get(rank) if score is not None and score > 0 else None))
    return sorted(places, key=lambda place: (place[1], place[0]))


def awarded(world: World) -> dict[str, list[int]]:
    """Member → the prizes on the account."""
    found = defaultdict(list)
    for recorded in world.ledger.notifications(0, 100_000):
        if isinstance(recorded.event, PrizeAwarded):
            found[recorded.originator.split("/")[1]].append(recorded.event.points)
    return dict(found)


@pytest.mark.parametrize("metric", ["points", "interactions", "engagement_rate", "referred_revenue"])
@settings(max_examples=10)
@given(st.lists(events, min_size=4, max_size=20), st.lists(steps, max_size=50))
def test_whatever_happens_around_the_markers_the_log_before_them_decides_and_prizes_are_paid_once(metric, first, done):
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory), earn=RULES, standings=metric, prizes=PRIZES)
        published: list[tuple[str, dict[str, Any]]] = []
        for step in [*(("publish", event) for event in first), *done]:
            do(world, step, published)
        world.close()
        world.finish()
        places = expected_places(model_scores(world, metric))
        found = [(one.member_id, one.rank, one.score, one.prize) for one in world.places()]
        assert found == places
        assert awarded(world) == {member: [prize] for member, _, _, prize in places if prize}
        settled = world.settlement()
        assert settled is not None
        assert (settled.members, settled.points) == (len(places), sum(prize or 0 for *_, prize in places))
        late = record_of(10_000, "like", "ann", 3, START)
        world.publish(*late)
        world.close()
        world.finish()
        assert [(one.member_id, one.rank, one.score, one.prize) for one in world.places()] == places
        assert len(awarded(world)) == settled.winners, "what comes behind the marker changes no prize"
        world.ledger.close()


def test_dead_letters_keep_no_campaign_from_its_settlement(tmp_path):
    world = World(tmp_path, earn=RULES, standings="interactions", prizes=PRIZES)
    for log in world.logs:
        log.append(Record(len(log), CLOSED_AT, b"acme/ann", b"no record"))
    world.publish(*record_of(0, "like", "ann", 1, START))
    world.close()
    world.finish()
    assert [(one.member_id, one.prize) for one in world.places()] == [("ann", 500)]
    world.ledger.close()


@pytest.mark.parametrize("joins", ["first", "in between"])
def test_a_friends_refund_counts_for_what_its_order_counted_for_whatever_the_referrer_joins_meanwhile(tmp_path, joins):
    """Both enrolments are dated before the order."""
    world = World(tmp_path, earn=RULES, standings="referred_revenue", prizes=PRIZES, join="opt_in")
    enrolment = {"event_id": "j", "occurred_at": START, "brand_id": "acme", "member_id": "bob", "kind": "joined"}
    order = {"member_id": "ann", "order_id": "o", "amount_minor": 5_000, "occurred_at": START + HOUR}
    bought = ("Purchase", purchase(**order, event_id="b", referrer_id="bob"))
    joined = ("Enrolment", {**enrolment, "campaign_id": "spring"})
    for record in [joined, bought] if joins == "first" else [bought, joined]:
        world.publish(*record)
        world.go_on()
    world.publish("Purchase", purchase(**{**order, "amount_minor": 2_000}, event_id="r", kind="refunded"))
    world.go_on()
    world.close()
    world.finish()
    expected = [("bob", 3_000)] if joins == "first" else []
    assert [(one.member_id, one.score) for one in world.places()] == expected
    world.ledger.close()


def test_a_campaign_is_settled_while_the_engagement_tables_are_always_a_flush_behind(tmp_path):
    world = World(tmp_path, earn=RULES, standings="interactions", prizes=PRIZES)
    world.publish(*record_of(0, "like", "ann", 1, START))
    world.close()
    while world.send():
        pass
    for number in range(1, 4):
        for member in MEMBERS:
            world.publish(*record_of(number, "like", member, 1, START))
        for partition in range(PARTITIONS):
            world.consume(partition)
            world.work(partition, 100)
            world.flush(partition)
        world.project()
        world.settle()
    world.project()
    assert [(one.member_id, one.score) for one in world.places()] == [("ann", 1)]
    world.ledger.close()


class Emptying(Ledger):
    """Reads a campaign just after somebody has emptied the engagement tables, to make them anew."""

    def history(self, aggregate):
        engine = open_database(self.database)
        with engine.begin() as conn:
            conn.execute(ENGAGEMENT.delete())
        engine.dispose()
        return super().history(aggregate)


def test_a_campaign_is_settled_by_the_tables_that_had_passed_its_markers_whatever_becomes_of_them_meanwhile(tmp_path):
    world = World(tmp_path, earn=RULES, standings="interactions", prizes=PRIZES)
    world.publish(*record_of(0, "like", "ann", 1, START))
    world.close()
    while world.send():
        pass
    for partition in range(PARTITIONS):
        world.work(partition, 100)
        world.flush(partition)
        world.consume(partition)
    world.project()
    ledger = Emptying(world.database)
    ledger.database = world.database
    Settlements(open_database(world.database, read_only=True), ledger, PARTITIONS, 24 * HOUR, 1).step()
    world.project()
    assert [(one.member_id, one.score) for one in world.places()] == [("ann", 1)]
    ledger.close()
    world.ledger.close()


@pytest.mark.parametrize("read", [(0, 0), (100, 0), (0, 100), (100, 100)])
def test_definitions_and_markers_that_were_lost_with_their_log_are_sent_again_to_who_had_not_read_them(tmp_path, read):
    """`read` is how much each partition had read; the campaign is settled in any case."""
    world = World(tmp_path, earn=RULES, standings="points", prizes=PRIZES)
    world.close()
    while world.send():
        pass
    for number, count in enumerate(read):
        world.work(number, count)
        world.flush(number)
    lacking = read.count(0)
    outputs = {"ProgramDefinition": 2}
    assert world.make_anew() == Counter({"Definition": 2 * lacking, "CampaignClosing": lacking} | outputs)
    for member in MEMBERS:
        world.publish(*record_of(0, "like", member, 1, START))
    world.finish()
    assert world.settlement() is not None
    assert not any(bench.letters for bench in world.benches)
    assert all(world.ledger.account("acme", member).earned == 2 for member in MEMBERS)
    assert world.make_anew() == outputs, "nothing is lacking"
    world.ledger.close()


def test_referrals_and_prizes_that_were_lost_with_their_log_are_sent_again_and_paid_once(tmp_path):
    world = World(tmp_path, earn=RULES, standings="points", prizes=PRIZES)
    buyer, friend = (next(m for m in MEMBERS if part_of(m) == number) for number in range(PARTITIONS))
    sold = purchase(
        event_id="s", occurred_at=START, member_id=buyer, order_id="o", referrer_id=friend, amount_minor=5_000
    )
    world.publish("Purchase", sold)
    world.work(0, 100)
    world.flush(0)
    while world.send():
        pass
    assert world.make_anew()["ReferralDue"] == 1
    world.close()
    while not world.settle():
        while world.send():
            pass
        for number in range(PARTITIONS):
            world.work(number, 100)
            world.flush(number)
            world.consume(number)
        world.project()
    while world.send():
        pass
    assert world.make_anew()["Command"] == 2
    world.finish()
    assert awarded(world) == {buyer: [500], friend: [300]}
    assert [world.ledger.account("acme", member).earned for member in (buyer, friend)] == [50 + 500, 5 + 300]
    assert set(world.make_anew()) == {"ProgramDefinition"}
    world.ledger.close()


def part_of(member: str) -> int:
    return partition_of(activity_key("acme", member), PARTITIONS)
