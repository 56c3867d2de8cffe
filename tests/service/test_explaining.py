"""`explain` back from an entry and forward from an event, over HTTP and as a tree; the worker's parts are real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from test_api import problem, serving
from test_whatif import SHARE, World, interaction

from aggregates.rules import record_id
from projections.answers import iso
from projections.answers.effects import Effects
from service.render import explain

DAY = 86_400_000
MARCH = 1_772_323_200_000
"""2026-03-01T00:00:00Z."""
ORDER: dict[str, Any] = {"kind": "completed", "currency": "EUR", "campaign_id": None, "referrer_id": None}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Ann shares, spends and takes back; bob buys because of her and returns half of it."""
    made = World(Path(tmp_path_factory.mktemp("explaining")))
    made.publish("ProfileSnapshot", platform="x", followers=500, occurred_at=MARCH)
    made.publish("Interaction", **interaction(SHARE), event_id="share", occurred_at=MARCH + DAY)
    spend = {"kind": "redeem", "points": 12, "reference": None, "reason": None, "requested_by": "api"}
    none = {"campaign_version": None, "rank": None}
    made.publish("Command", **spend, **none, event_id="spend", occurred_at=MARCH + 2 * DAY)
    unshare = interaction(SHARE) | {"quantity": -1}
    made.publish("Interaction", **unshare, event_id="unshare", occurred_at=MARCH + 3 * DAY)
    order = {**ORDER, "order_id": "o1", "referrer_id": "ann"}
    made.publish("Purchase", **order, member_id="bob", amount_minor=5_000, event_id="buy", occurred_at=MARCH + 4 * DAY)
    due = {"buyer_id": "bob", "order_id": "o1", "currency": "EUR", "campaign_id": None, "new_customer": True}
    made.publish(
        "ReferralDue",
        **due,
        kind="completed",
        amount_minor=5_000,
        event_id=record_id("referral", "bob", "buy"),
        occurred_at=MARCH + 4 * DAY,
    )
    back = order | {"kind": "refunded"}
    made.publish("Purchase", **back, member_id="bob", amount_minor=2_500, event_id="back", occurred_at=MARCH + 5 * DAY)
    with serving(made.settings) as client:
        made.client = client
        yield made
    made.ledger.close()
    made.engine.dispose()


def effects(world: World, member: str, event: str, **until: str) -> dict[str, Any]:
    """The one event that came under an id."""
    answer = world.client.get(f"/v1/brands/acme/members/{member}/effects", params={"event": event, **until})
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["events"]
    return dict(found)


def test_an_event_is_followed_to_what_it_paid_what_spent_it_and_what_took_it_back(world: World) -> None:
    share = effects(world, "ann", "share")
    assert (share["record_type"], share["tier"], share["tier_followers"]) == ("Interaction", "nano", 500)
    assert {(one["campaign"], one["reason"]) for one in share["unpaid"]} == {("club", "not_joined")}
    by_campaign = {traced["why"]["entry"]["campaign"]: traced for traced in share["entries"]}
    always, little = by_campaign["always"], by_campaign["little"]
    assert (always["why"]["entry"]["points"], little["why"]["entry"]["points"]) == (15, 20)
    touched = [later["entry"]["kind"] for later in always["later"] + little["later"]]
    assert (touched.count("redeemed"), touched.count("reversed")) == (1, 2)
    assert share["referral"] is None
    spend = effects(world, "ann", "spend")
    assert [traced["why"]["entry"]["points"] for traced in spend["entries"]] == [-12]
    assert sum(spend["entries"][0]["why"]["takes"].values()) == 12


def test_what_had_not_occurred_or_was_not_recorded_by_then_is_left_out(world: World) -> None:
    before = effects(world, "ann", "share", as_of=iso(MARCH + DAY))
    assert [(traced["later"], traced["lot"]["state"]) for traced in before["entries"]] == [([], "active")] * 2
    at_spend = effects(world, "ann", "share", as_of=iso(MARCH + 2 * DAY))
    assert sum(traced["lot"]["left"] for traced in at_spend["entries"]) == 35 - 12
    ann = "/v1/brands/acme/members/ann"
    late = world.client.get(f"{ann}/effects", params={"event": "share", "known_at": iso(MARCH)})
    assert "recorded by" in problem(late, 404, "unknown_event")["detail"]
    explained = world.client.get(f"{ann}/explanation", params={"as_of": iso(MARCH + 2 * DAY)}).json()
    assert [one["entry"]["points"] for one in explained["entries"]] == [15, 20, -12]


def test_an_expired_lot_and_one_on_hold_say_so(world: World) -> None:
    (bought,) = effects(world, "bob", "buy", as_of=iso(MARCH + 4 * DAY))["entries"]
    assert (bought["lot"]["state"], bought["lot"]["left"]) == ("pending", 50)
    (bought,) = effects(world, "bob", "buy", as_of=iso(MARCH + 500 * DAY))["entries"]
    assert (bought["lot"]["state"], bought["lot"]["left"]) == ("expired", 25)


def test_a_purchase_is_followed_to_the_referrers_key_and_back(world: World) -> None:
    due = effects(world, "bob", "buy")["referral"]
    assert (due["member_id"], due["event_id"]) == ("ann", record_id("referral", "bob", "buy"))
    (paid,) = due["judged"]["entries"]
    assert (paid["why"]["entry"]["points"], paid["why"]["tier"], paid["why"]["tier_followers"]) == (500, "nano", 500)
    assert due["judged"]["member_id"] == "ann"
    refund = effects(world, "bob", "back")
    assert refund["referral"]["judged"] is None, "nobody has put it on her key yet"
    assert [traced["why"]["entry"]["points"] for traced in refund["entries"]] == [-25]


def test_an_explanation_names_all_that_led_to_an_entry(world: World) -> None:
    found = world.client.get("/v1/brands/acme/members/ann/explanation").json()
    first = found["entries"][0]
    assert first["entry"]["source"].keys() == {"topic", "partition", "offset", "event_id"}
    assert (first["entry"]["rule"], first["entry"]["campaign_version"]) == ("share", 1)
    assert (first["tier"], first["tier_followers"]) == ("nano", 500)
    assert first["happened"]["formula"] == {"basis": "unit", "rate": 10, "per": 0, "multiplier_milli": 1500}
    assert {(one["campaign"], one["campaign_version"], one["tier"]) for one in found["unpaid"]} == {("club", 1, "nano")}
    one = world.client.get(
        "/v1/brands/acme/members/ann/explanation", params={"entry": first["entry"]["entry_id"]}
    ).json()
    assert [why["entry"]["kind"] for why in one["entries"]] == ["earned", "reversed"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("acme/members/ann/effects?event=nope", 404, "unknown_event"),
        ("acme/members/bob/effects?event=share", 404, "unknown_event"),
        ("nope/members/ann/effects?event=share", 404, "unknown_brand"),
        ("acme/members/ann/effects", 422, "invalid_request"),
        ("acme/members/ann/effects?event=share&as_of=yesterday", 422, "invalid_time"),
        ("acme/members/ann/explanation?entry=nope", 404, "unknown_entry"),
    ],
)
def test_what_is_not_there_is_a_problem(world: World, path: str, status: int, code: str) -> None:
    problem(world.client.get(f"/v1/brands/{path}"), status, code)


def printed(world: World, member: str, event: str) -> str:
    answer = world.client.get(f"/v1/brands/acme/members/{member}/effects", params={"event": event})
    console = Console(width=160)
    with console.capture() as said:
        console.print(explain.effects(Effects.model_validate(answer.json())))
    return said.get()


def test_the_tree_reads_from_the_event_to_the_leaves(world: World) -> None:
    share = printed(world, "ann", "share")
    for line in (
        "What came of it for acme/ann",
        "Interaction share at members.activity.v1:0:1",
        "tier nano by 500 followers",
        "+15 earned",
        "rule share of always version 1",
        "of its points",
        "takes it back",
        "nothing of it is left",
        "club version 1 paid nothing: The campaign is for members who joined it",
    ):
        assert line in share, line
    buy = printed(world, "bob", "buy")
    assert "due to ann, who referred: record referral:" in buy
    assert "rule friend of always version 1" in buy
    assert "not judged yet" in printed(world, "bob", "back")
