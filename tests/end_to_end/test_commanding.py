"""Commands over HTTP on a real stack: the worker away and back, retries, duplicates at once, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from running import Running, stack, until

DEFINITIONS = """
{brand: acme, plan: pro, timezone: UTC, currency: EUR, points: {negative_balance: forbid}}
---
{brand: other, currency: EUR}
---
campaign: always
brand: acme
starts_at: 2020-01-01T00:00:00Z
ends_at: 2040-01-01T00:00:00Z
earn: [{rule: spend, on: purchase, per_minor: 100, points: 1}]
---
campaign: club
brand: acme
starts_at: 2020-01-01T00:00:00Z
ends_at: 2040-01-01T00:00:00Z
join: opt_in
earn: [{rule: share, on: interaction, kind: [share], points: 10}]
"""
ANN = "/v1/brands/acme/members/ann"


class Api:
    """The API of a stack."""

    def __init__(self, running: Running) -> None:
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{running.port}", timeout=60)

    def post(self, path: str, body: object, key: str) -> httpx.Response:
        return self.client.post(path, json=body, headers={"Idempotency-Key": key})

    def done(self, path: str, body: object, key: str) -> dict[str, Any]:
        """The answer to a command that is carried out."""
        answer = self.post(path, body, key)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def refused(self, path: str, body: object, key: str) -> tuple[int, str]:
        """Status and code of a command that is not."""
        answer = self.post(path, body, key)
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        return answer.status_code, answer.json()["code"]

    def balance(self, member: str = "ann", **params: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/v1/brands/acme/members/{member}/balance", params=params).json()
        return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A stack whose worker was away when the first commands came."""
    with stack(tmp_path_factory.mktemp("commands"), "--no-worker") as running:
        file = running.directory / "definitions.yaml"
        file.write_text(DEFINITIONS)
        running.run("apply", str(file))
        yield running


@pytest.fixture(scope="module")
def api(running: Running) -> Iterator[Api]:
    """The API, with a worker at work and 1,000 points of ann's."""
    api = Api(running)
    adjustment = {"points": 1_000, "reason": "to begin with"}
    with ThreadPoolExecutor(2) as pool:
        away = pool.map(lambda _: api.post(f"{ANN}/adjustments", adjustment, "while-away"), range(2))
    for answer in away:
        assert (answer.status_code, answer.json()["code"]) == (503, "no_answer_yet"), answer.text
        assert int(answer.headers["retry-after"]) >= 1
    running.start_worker()
    until(lambda: api.post(f"{ANN}/adjustments", adjustment, "while-away").status_code == 201)
    yield api
    api.client.close()


def test_a_command_sent_twice_while_the_worker_was_away_ran_once(api: Api) -> None:
    done = api.done(f"{ANN}/adjustments", {"points": 1_000, "reason": "to begin with"}, "while-away")
    assert (done["points"], done["reason"]) == (1_000, "to begin with")
    entries = api.client.get(f"{ANN}/statement", params={"min_position": done["position"]}).json()["entries"]
    assert [entry["points"] for entry in entries if entry["source"]["event_id"] == "while-away"] == [1_000]


def test_a_retry_gets_the_first_answer_byte_for_byte(api: Api) -> None:
    first = api.post(f"{ANN}/redemptions", {"points": 20}, "r-1")
    again = api.post(f"{ANN}/redemptions", {"points": 20}, "r-1")
    assert (first.status_code, first.content) == (again.status_code, again.content)
    too_much = api.post(f"{ANN}/redemptions", {"points": 10**9}, "r-2")
    later = api.post(f"{ANN}/redemptions", {"points": 10**9}, "r-2")
    assert (too_much.status_code, too_much.json()["code"]) == (422, "insufficient_points")
    assert too_much.content == later.content


def test_the_position_of_an_answer_is_what_reads_wait_for(api: Api) -> None:
    before = api.balance()["spent"]
    done = api.done(f"{ANN}/redemptions", {"points": 5}, "r-3")
    found = api.balance(min_position=done["position"])
    assert found["spent"] == before + 5
    assert found["position"] >= done["position"]


def test_a_key_names_one_command_of_a_member(api: Api) -> None:
    redeemed = api.done(f"{ANN}/redemptions", {"points": 7}, "k")
    reused = (409, "idempotency_key_reused")
    assert api.refused(f"{ANN}/redemptions", {"points": 8}, "k") == reused
    assert api.refused(f"{ANN}/adjustments", {"points": 7, "reason": "x"}, "k") == reused
    assert api.refused(f"{ANN}/redemptions/{redeemed['redemption_id']}/cancel", None, "k") == reused
    api.done(f"{ANN}/adjustments", {"points": 3, "reason": "one thing"}, "a")
    assert api.refused(f"{ANN}/adjustments", {"points": 3, "reason": "another"}, "a") == reused
    bobs = api.done("/v1/brands/acme/members/bob/adjustments", {"points": 4, "reason": "another member's"}, "k")
    assert bobs["points"] == 4


def test_the_same_command_from_many_at_once_has_one_effect_and_one_answer(api: Api) -> None:
    before = api.balance()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: api.post(f"{ANN}/redemptions", {"points": 11}, "at-once"), range(16)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    after = api.balance(min_position=answers[0].json()["position"])
    assert (after["spent"], after["active"]) == (before["spent"] + 11, before["active"] - 11)


def test_different_commands_with_one_key_at_once_have_one_effect(api: Api) -> None:
    before = api.balance()
    with ThreadPoolExecutor(8) as pool:
        sent = pool.map(lambda n: api.post(f"{ANN}/redemptions", {"points": n}, "race"), range(1, 9))
    answers = list(sent)
    (won,) = [answer.json() for answer in answers if answer.status_code == 201]
    assert [answer.json()["code"] for answer in answers if answer.status_code != 201] == ["idempotency_key_reused"] * 7
    assert api.balance(min_position=won["position"])["spent"] == before["spent"] + won["points"]


def test_a_redemption_is_cancelled_once_and_its_points_come_back(api: Api) -> None:
    before = api.balance()
    redeemed = api.done(f"{ANN}/redemptions", {"points": 50}, "c-1")
    path = f"{ANN}/redemptions/{redeemed['redemption_id']}/cancel"
    cancelled = api.done(path, None, "c-2")
    assert (cancelled["redemption_id"], cancelled["points"]) == (redeemed["redemption_id"], 50)
    assert cancelled == api.done(path, None, "c-2")
    assert api.refused(path, None, "c-3") == (409, "already_cancelled")
    after = api.balance(min_position=cancelled["position"])
    assert after["active"] == before["active"]


def test_a_redemption_of_another_member_or_brand_is_not_found(api: Api) -> None:
    redeemed = api.done(f"{ANN}/redemptions", {"points": 1}, "mine")["redemption_id"]
    unknown = (404, "unknown_redemption")
    assert api.refused(f"/v1/brands/acme/members/bob/redemptions/{redeemed}/cancel", None, "not-mine") == unknown
    assert api.refused(f"/v1/brands/other/members/ann/redemptions/{redeemed}/cancel", None, "not-mine") == unknown
    assert api.refused(f"{ANN}/redemptions/no-such-entry/cancel", None, "no-such") == unknown


def test_an_adjustment_takes_what_is_there_and_no_more(api: Api) -> None:
    path = "/v1/brands/acme/members/eve/adjustments"
    api.done(path, {"points": 30, "reason": "a gift"}, "give")
    taken = api.done(path, {"points": -10, "reason": "a mistake"}, "take")
    assert api.refused(path, {"points": -21, "reason": "too much"}, "take-more") == (422, "insufficient_points")
    assert api.balance("eve", min_position=taken["position"])["active"] == 20


def test_joining_and_leaving_a_campaign_hold_from_then_on(api: Api, running: Running) -> None:
    club = "/v1/brands/acme/campaigns/club/members/joe"
    assert share(api, running, "before") == 0
    joined = api.client.put(club)
    assert (joined.status_code, joined.json()["kind"]) == (200, "joined")
    assert api.client.put(club).status_code == 200, "again is no mistake"
    found = api.client.get("/v1/brands/acme/members/joe/balance", params={"min_position": joined.json()["position"]})
    assert found.status_code == 200
    assert share(api, running, "while") == 10
    left = api.client.delete(club)
    assert (left.status_code, left.json()["kind"]) == (200, "left")
    assert share(api, running, "after") == 10


def test_nobody_leaves_an_open_campaign(api: Api) -> None:
    open_one = "/v1/brands/acme/campaigns/always/members/joe"
    assert api.client.put(open_one).status_code == 200
    answer = api.client.delete(open_one)
    assert (answer.status_code, answer.json()["code"]) == (409, "campaign_open")
    unknown = api.client.put("/v1/brands/acme/campaigns/nope/members/joe")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_campaign")


def share(api: Api, running: Running, event_id: str) -> int:
    """joe's points after one more share of his."""
    line = {
        "event_id": event_id,
        "occurred_at": datetime.now(UTC).isoformat(),
        "brand_id": "acme",
        "member_id": "joe",
        "surface": "brand_post",
        "kind": "share",
        "quantity": 1,
        "platform": "x",
    }
    running.run("publish", "interactions", "-", input=json.dumps(line))
    behind_it = api.client.put("/v1/brands/acme/campaigns/always/members/joe").json()["position"]
    return int(api.balance("joe", min_position=behind_it)["active"])


def test_the_command_line_says_what_http_says(api: Api, running: Running) -> None:
    adjusted = running.json("adjust", "acme", "cli", "40", "--reason", "by hand", "--key", "1")
    redeemed = running.json("redeem", "acme", "cli", "15", "--key", "2")
    assert running.json("balance", "acme", "cli")["active"] == 25, "the answer waits for the read models"
    over_http = api.done("/v1/brands/acme/members/cli/redemptions", {"points": 15}, "2")
    assert redeemed == over_http
    assert "15 points are back" in running.run("cancel", "acme", "cli", redeemed["redemption_id"])
    assert "5 points taken from acme/cli" in running.run("adjust", "acme", "cli", "-5", "--reason", "by hand")
    assert adjusted["points"] == 40
    running.run("cancel", "acme", "cli", redeemed["redemption_id"], code=1)
    running.run("redeem", "acme", "cli", "1000", code=1)
    running.run("adjust", "acme", "cli", "0", "--reason", "nothing", code=2)
    assert running.json("enrol", "acme", "cli", "club")["kind"] == "joined"


def test_every_point_that_was_spent_adds_up(api: Api, running: Running) -> None:
    running.run("wait")
    for member in ("ann", "bob", "eve", "cli"):
        entries = api.client.get(f"/v1/brands/acme/members/{member}/statement", params={"limit": 1000}).json()[
            "entries"
        ]
        found = api.balance(member)
        assert sum(entry["points"] for entry in entries) == found["active"] + found["pending"] + found["expired"]
    assert running.run("replay", "verify")
