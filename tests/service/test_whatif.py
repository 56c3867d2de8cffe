"""What an event would earn, and that the worker then pays the same: intake, ledger and read-state are the real ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_api import serving

from aggregates.activity import Activity
from aggregates.database import open_database
from aggregates.definitions import KINDS, SURFACES, Brand, Campaign, content_of
from aggregates.events import BrandDefined, CampaignDefined
from aggregates.ledger import Batch, Ledger, Source, brand_aggregate, campaign_aggregate
from aggregates.ledger_store import encoded
from aggregates.rules import TRIGGERS, mismatch
from projections import registry
from projections.upkeep.runner import Runner
from schemas.codec import encode
from schemas.topics import ACTIVITY, activity_key
from service.definitions import documents
from service.instants import now_ms
from service.migrate import migrate
from service.problems import MEDIA_TYPE
from service.settings import Settings
from streams import readstate
from streams.intake import Intake, Limits
from streams.recent import Recent

DEFINITIONS = """
{brand: acme, plan: pro, timezone: UTC, currency: EUR, points: {expire_after: 365d}}
---
campaign: always
brand: acme
starts_at: 2020-01-01T00:00:00Z
ends_at: 2040-01-01T00:00:00Z
earn:
  - {rule: share, on: interaction, kind: [share], surface: [brand_post], points: 10, tier_multiplier: {nano: 1.5},
     caps: {per_post: 40, per_day: 100}}
  - {rule: spend, on: purchase, per_minor: 100, points: 1, hold: 14d}
  - {rule: friend, on: referral, points: 500}
---
campaign: little
brand: acme
starts_at: 2020-01-01T00:00:00Z
ends_at: 2040-01-01T00:00:00Z
budget: 25
earn: [{rule: share, on: interaction, kind: [share], points: 20}]
---
campaign: club
brand: acme
starts_at: 2020-01-01T00:00:00Z
ends_at: 2040-01-01T00:00:00Z
join: opt_in
earn: [{rule: share, on: interaction, points: 3}]
---
campaign: over
brand: acme
starts_at: 2020-01-01T00:00:00Z
ends_at: 2021-01-01T00:00:00Z
earn: [{rule: share, on: interaction, points: 9}]
---
campaign: someday
brand: acme
starts_at: 2020-01-01T00:00:00Z
ends_at: 2040-01-01T00:00:00Z
draft: true
"""
SOURCE = Source(ACTIVITY, "e1", 0)
SHARE = {"type": "interaction", "surface": "brand_post", "kind": "share", "platform": "x", "post_id": "p1"}


class World:
    """What a worker does with records, without a broker: intake, ledger and read-state in one database."""

    def __init__(self, directory: Path) -> None:
        database = f"sqlite:///{directory / 'groundswell.db'}"
        migrate(database)
        self.settings = Settings(kafka="127.0.0.1:1", database=database, data_dir=directory, secret="s", partitions=1)
        self.ledger = Ledger(database)
        self.engine = open_database(database)
        self.state = readstate.take(self.engine, SOURCE, "w")
        self.ledger.take(SOURCE, "w", 0)
        self.intake = Intake(0, 1, self.state, Recent(), b"", Limits())
        self.next = self.number = 0
        for one in documents(DEFINITIONS, "test"):
            self._define(one)
        self._save(0)
        self.client: httpx.Client

    def _define(self, one: Brand | Campaign) -> None:
        content, at = content_of(one), now_ms()
        if isinstance(one, Brand):
            event: Any = BrandDefined(one.id, one.version, one.effective_at, content, at)
            self.ledger.store.write([encoded(brand_aggregate(one.id), 1, event)])
        else:
            event = CampaignDefined(one.brand, one.id, one.version, one.effective_at, content, at)
            self.ledger.store.write([encoded(campaign_aggregate(one.brand, one.id), 1, event)])
        self.state.define(0, event.brand, content)

    def publish(self, record_type: str, **fields: Any) -> None:
        """One more record, all the way into the ledger, the read-state and the read models."""
        self.number += 1
        value = {
            "event_id": f"e{self.number}",
            "occurred_at": now_ms(),
            "brand_id": "acme",
            "member_id": "ann",
        } | fields
        key = activity_key(value["brand_id"], value["member_id"])
        record = SimpleNamespace(
            key=key, value=encode(record_type, value), offset=self.next, timestamp=now_ms(), headers=()
        )
        activities, letters = self.intake.take([record])
        if record_type in ("Command", "ReferralDue"):  # they would need our signature
            activity = self.intake.activity(record_type, value, self.next)
            activities, letters = [(activity, 0)] if activity else [], []
        assert not letters, letters
        found: list[Activity] = [activity for activity, _ in activities]
        before, self.next = self.next, self.next + 1
        self.ledger.consume(Batch(SOURCE, before, self.next, found, now_ms(), "w", self.next))
        self._save(before)

    def _save(self, before: int) -> None:
        readstate.save(self.engine, SOURCE, self.state.take(before, self.next), "w", {})
        Runner(self.engine, self.ledger.notifications, registry.LEDGER).catch_up()

    def earned(self, member: str = "ann") -> int:
        """Points of all that was ever earned, less what was reversed."""
        with self.engine.connect() as conn:
            row = conn.exec_driver_sql(
                "SELECT COALESCE(SUM(points), 0) FROM statements WHERE member = ?", (member,)
            ).scalar()
        return int(row or 0)

    def ask(self, event: dict[str, Any], member: str = "ann") -> dict[str, Any]:
        """What the event would earn."""
        answer = self.client.post(f"/v1/brands/acme/members/{member}/simulate", json=event)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def refused(self, event: object, path: str = "acme/members/ann") -> tuple[int, str]:
        """Status and code of a question that is refused."""
        answer = self.client.post(f"/v1/brands/{path}/simulate", json=event)
        assert answer.headers["content-type"] == MEDIA_TYPE, answer.text
        return answer.status_code, answer.json()["code"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world and an API over its database."""
    made = World(tmp_path)
    with serving(made.settings) as client:
        made.client = client
        yield made
    made.ledger.close()
    made.engine.dispose()


def rules(found: dict[str, Any], campaign: str) -> dict[str, Any]:
    """The verdicts of a campaign's rules by name."""
    (one,) = [one for one in found["campaigns"] if one["campaign"] == campaign]
    return {rule["rule"]: rule for rule in one["rules"]}


def interaction(event: dict[str, Any]) -> dict[str, Any]:
    """The fields of an Interaction record for such an event."""
    blank = {"quantity": 1, "post_id": None, "campaign_id": None, "actor_id": None, "followers": None}
    return blank | {name: value for name, value in event.items() if name != "type"}


def test_an_answer_has_every_campaign_and_rule_with_its_reason(world: World) -> None:
    world.publish("ProfileSnapshot", platform="x", followers=500)
    found = world.ask({**SHARE, "quantity": 2})
    assert (found["tier"], found["points"]) == ("nano", 55)
    always = rules(found, "always")
    assert {name: rule["verdict"] for name, rule in always.items()} == {
        "share": "pays",
        "spend": "does_not_match",
        "friend": "does_not_match",
    }
    share = always["share"]
    assert (share["points"], share["entitled"], share["multiplier"], share["limited_by"]) == (30, 30, 1.5, None)
    assert always["spend"]["reason"] == "on"
    little = rules(found, "little")["share"]
    assert (little["points"], little["entitled"], little["limited_by"]) == (25, 40, "budget")
    why = {one["campaign"]: one["sentence"] for one in found["campaigns"] if not one["counts"]}
    assert why.keys() == {"club", "over", "someday"}
    assert "joined" in why["club"]
    assert "ended at 2021-01-01" in why["over"]
    assert "draft" in why["someday"]


def test_nothing_is_written_by_asking(world: World) -> None:
    world.publish("ProfileSnapshot", platform="x", followers=500)
    before = (world.ledger.last_notification(), world.earned(), world.ledger.store.spent([("acme", "little")]))
    noon = {**SHARE, "occurred_at": "2026-03-05T12:00:00Z"}
    assert world.ask(noon) == world.ask(noon)
    world.ask({**SHARE, "surface": "member_post", "followers": 10**6})
    assert before == (world.ledger.last_notification(), world.earned(), world.ledger.store.spent([("acme", "little")]))
    assert world.ask(SHARE)["tier"] == "nano"


def test_what_was_said_is_then_paid_share_after_share_into_caps_and_budget(world: World) -> None:
    world.publish("ProfileSnapshot", platform="x", followers=500)
    world.publish("Enrolment", campaign_id="club", kind="joined")
    for number in range(9):
        event = {**SHARE, "post_id": f"p{number // 4}", "quantity": 1 + number % 2}
        said, before = world.ask(event)["points"], world.earned()
        world.publish("Interaction", **interaction(event))
        assert world.earned() - before == said, number
    assert rules(world.ask(SHARE), "always")["share"]["reason"] == "per_post"
    assert rules(world.ask(SHARE), "little")["share"]["reason"] == "budget"


def test_an_unlike_and_a_refund_say_what_they_would_take_back(world: World) -> None:
    world.publish("Interaction", **interaction(SHARE))
    order = {"kind": "completed", "amount_minor": 5_000, "currency": "EUR", "order_id": "o1"}
    world.publish("Purchase", **order, campaign_id=None, referrer_id=None)
    unshare = {**SHARE, "quantity": -1}
    assert world.ask(unshare)["points"] == -30
    refund = world.ask({"type": "purchase", "kind": "refunded", "amount_minor": 2_000, "order_id": "o1"})
    assert refund["points"] == -20
    assert [(one["rule"], one["points"]) for one in refund["taken_back"]] == [("spend", 20)]
    before = world.earned()
    world.publish("Interaction", **interaction(unshare))
    world.publish("Purchase", **order | {"kind": "refunded", "amount_minor": 2_000}, campaign_id=None, referrer_id=None)
    assert world.earned() - before == -50


def test_purchases_and_referrals_say_what_keeps_them_from_paying(world: World) -> None:
    order = {"type": "purchase", "amount_minor": 4_990, "order_id": "o1"}
    first = world.ask(order)
    assert (first["points"], rules(first, "always")["spend"]["active_at"] > first["occurred_at"]) == (49, True)
    assert world.ask({**order, "referrer_id": "ann"})["referral"] == "self_referral"
    assert world.ask({**order, "referrer_id": "bob"})["referral"] == "due"
    fields = {"kind": "completed", "currency": "EUR", "campaign_id": None, "referrer_id": None}
    world.publish("Purchase", amount_minor=4_990, order_id="o1", **fields)
    again = world.ask(order)
    assert (again["points"], [one["reason"] for one in again["objections"]]) == (0, ["duplicate_order"])
    assert world.ask({"type": "purchase", "amount_minor": 10})["points"] == 0
    friend = {"type": "referral", "amount_minor": 4_990}
    assert world.ask(friend)["points"] == 500
    known = world.ask({**friend, "new_customer": False})
    assert rules(known, "always")["friend"]["reason"] == "existing_customer"
    assert rules(world.ask({**friend, "buyer_id": "ann"}), "always")["friend"]["reason"] == "self_referral"


def test_whether_a_named_friend_is_new_is_what_the_ledger_knows(world: World) -> None:
    friend = {"type": "referral", "amount_minor": 4_990, "buyer_id": "bob"}
    assert world.ask(friend)["points"] == 500
    fields = {"kind": "completed", "currency": "EUR", "campaign_id": None, "referrer_id": None}
    world.publish("Purchase", member_id="bob", amount_minor=10, order_id="o9", **fields)
    assert rules(world.ask(friend), "always")["friend"]["reason"] == "existing_customer"
    assert world.ask({**friend, "new_customer": True})["points"] == 500


def test_a_self_interaction_and_a_named_campaign_are_explained(world: World) -> None:
    own = rules(world.ask({**SHARE, "actor_id": "ann"}), "always")["share"]
    assert (own["verdict"], own["reason"]) == ("refuses", "self_interaction")
    named = world.ask({**SHARE, "campaign_id": "little"})
    assert [one["campaign"] for one in named["campaigns"] if one["counts"]] == ["little"]
    late = world.ask({**SHARE, "occurred_at": "2020-06-01T00:00:00Z"})
    assert rules(late, "over")["share"]["verdict"] == "pays"
    comment = rules(world.ask({**SHARE, "kind": "comment"}), "always")["share"]
    assert (comment["verdict"], comment["reason"]) == ("does_not_match", "kind")
    assert "share" in comment["sentence"]


@pytest.mark.parametrize(
    ("event", "status", "code"),
    [
        ({}, 422, "invalid_request"),
        ([], 422, "invalid_request"),
        ({"type": "gift"}, 422, "invalid_request"),
        ({**SHARE, "kind": "wave"}, 422, "invalid_request"),
        ({**SHARE, "quantity": 10**12}, 422, "invalid_request"),
        ({**SHARE, "quantity": "1"}, 422, "invalid_request"),
        ({**SHARE, "event_id": "mine"}, 422, "invalid_request"),
        ({**SHARE, "platform": "x\u0000"}, 422, "invalid_request"),
        ({**SHARE, "occurred_at": "yesterday"}, 422, "invalid_time"),
        ({**SHARE, "occurred_at": "2039-01-01T00:00:00Z"}, 422, "invalid_request"),
        ({**SHARE, "occurred_at": -5}, 422, "invalid_request"),
        ({**SHARE, "campaign_id": "nope"}, 404, "unknown_campaign"),
        ({"type": "purchase", "amount_minor": -1}, 422, "invalid_request"),
        ({"type": "purchase", "amount_minor": 1, "currency": "USD"}, 422, "invalid_request"),
        ({"type": "purchase", "amount_minor": 1, "kind": "stolen"}, 422, "invalid_request"),
        ({"type": "referral", "amount_minor": 1, "kind": "refunded"}, 422, "invalid_request"),
    ],
    ids=json.dumps,
)
def test_an_event_that_would_be_a_dead_letter_is_refused(invalid: World, event: object, status: int, code: str) -> None:
    assert invalid.refused(event) == (status, code)


@pytest.fixture(scope="module")
def invalid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world for questions that are refused."""
    made = World(tmp_path_factory.mktemp("invalid"))
    with serving(made.settings) as client:
        made.client = client
        yield made
    made.ledger.close()
    made.engine.dispose()


def test_an_unknown_brand_and_a_member_that_cannot_be_are_refused(invalid: World) -> None:
    assert invalid.refused(SHARE, "nope/members/ann") == (404, "unknown_brand")
    assert invalid.refused(SHARE, "acme/members/%20ann") == (422, "invalid_request")


@given(
    rule=st.fixed_dictionaries(
        {
            "on": st.sampled_from(["interaction", "purchase", "referral"]),
            "kinds": st.sets(st.sampled_from(KINDS), max_size=2),
            "surfaces": st.sets(st.sampled_from(SURFACES), max_size=1),
            "platforms": st.sets(st.sampled_from("xy"), max_size=1),
        }
    ),
    record_type=st.sampled_from(sorted(TRIGGERS)),
    kind=st.sampled_from(KINDS),
    surface=st.sampled_from(SURFACES),
    platform=st.sampled_from("xy"),
)
def test_a_filter_is_named_exactly_when_it_is_not_passed(
    rule: dict[str, Any], record_type: str, kind: str, surface: str, platform: str
) -> None:
    value = {"kind": kind, "surface": surface, "platform": platform}
    named = mismatch(SimpleNamespace(**rule), SimpleNamespace(type=record_type, value=value))  # type: ignore[arg-type]
    failing = [
        name for name in ("kind", "surface", "platform") if rule[f"{name}s"] and value[name] not in rule[f"{name}s"]
    ]
    if TRIGGERS[record_type] != rule["on"]:
        assert named == "on"
    elif rule["on"] == "interaction":
        assert named == (failing[0] if failing else "")
    else:
        assert named == ""
