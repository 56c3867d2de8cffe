"""The HTTP API over a real database: bodies, problems, positions. Redemptions that reach a worker: see end_to_end."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi import Request
from serving import serving

from aggregates.database import open_database
from aggregates.ledger import Source
from schemas.topics import ACTIVITY
from service.api import commands, positions
from service.problems import MEDIA_TYPE, PROBLEMS
from service.reads import access
from service.settings import Settings
from streams import readstate

ANN = "/v1/brands/acme/members/ann"


@pytest.fixture(scope="module")
def client(shared_settings: Settings) -> Iterator[httpx.Client]:
    with serving(shared_settings) as client:
        yield client


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The problem document of an answer, which must have this status and code."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert answer.headers["content-type"].startswith(MEDIA_TYPE)
    assert body["status"] == status
    assert {"type", "title", "detail"} <= body.keys()
    return body


def test_a_balance_has_the_members_points_and_its_position(client: httpx.Client) -> None:
    body = client.get(f"{ANN}/balance").json()
    assert {name: body[name] for name in ("active", "pending", "spent", "expired", "reversed")} == {
        "active": 50,
        "pending": 0,
        "spent": 0,
        "expired": 0,
        "reversed": 0,
    }
    assert body["position"] == 6


def test_a_balance_can_be_asked_for_an_earlier_effective_and_recorded_time(client: httpx.Client) -> None:
    assert client.get(f"{ANN}/balance", params={"as_of": "2026-03-01T01:30:00Z"}).json()["active"] == 30
    assert client.get(f"{ANN}/balance", params={"known_at": "2026-03-01T01:00:00+00:00"}).json()["active"] == 0


def test_a_plus_that_a_url_turned_into_a_space_is_still_a_zone(client: httpx.Client) -> None:
    assert client.get(f"{ANN}/balance?as_of=2026-03-01T02:30:00+01:00").json()["active"] == 30


def test_a_member_never_seen_has_zeros(client: httpx.Client) -> None:
    assert client.get("/v1/brands/acme/members/nobody/balance").json()["active"] == 0


def test_an_unknown_brand_is_a_problem_with_its_code(client: httpx.Client) -> None:
    reads = ("balance", "statement", "tier", "engagement", "posts")
    for path in (*(f"members/ann/{read}" for read in reads), "engagement", "tiers"):
        problem(client.get(f"/v1/brands/nope/{path}"), 404, "unknown_brand")


def test_an_unknown_campaign_is_a_problem_with_its_code(client: httpx.Client) -> None:
    problem(client.get("/v1/brands/acme/campaigns/nope/standings"), 404, "unknown_campaign")
    problem(client.get("/v1/brands/acme/engagement", params={"campaign": "nope"}), 404, "unknown_campaign")


@pytest.mark.parametrize("time", ["2026-03-01", "2026-03-01T00:00:00", "yesterday", "1772323200000", ""])
def test_a_time_without_a_zone_is_refused_with_what_to_write(client: httpx.Client, time: str) -> None:
    body = problem(client.get(f"{ANN}/balance", params={"as_of": time}), 422, "invalid_time")
    assert body["field"] == "as_of"
    assert "zone" in body["detail"]


def test_a_statement_comes_in_pages_that_name_their_sources(client: httpx.Client) -> None:
    first = client.get(f"{ANN}/statement", params={"limit": 1}).json()
    second = client.get(f"{ANN}/statement", params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert second["next_cursor"] is None
    entries = first["entries"] + second["entries"]
    assert [entry["points"] for entry in entries] == [30, 20]
    assert entries[0]["source"] == {
        "topic": "members.activity.v1",
        "partition": 0,
        "offset": 0,
        "event_id": "e1",
    }
    problem(client.get(f"{ANN}/statement", params={"cursor": "made up"}), 422, "invalid_cursor")


def test_equal_scores_share_a_rank_and_tiers_are_those_of_now(client: httpx.Client) -> None:
    body = client.get("/v1/brands/acme/campaigns/spring/standings").json()
    assert body["metric"] == "points"
    assert body["final"] is False
    assert [(one["rank"], one["member_id"], one["tier"], one["score"]) for one in body["entries"]] == [
        (1, "ann", "nano", 50),
        (1, "bob", "unknown", 50),
    ]


def test_engagement_has_counts_rates_and_the_log_position_it_reflects(client: httpx.Client) -> None:
    body = client.get("/v1/brands/acme/engagement", params={"window": "all"}).json()
    assert body["counts"]["member_post"]["like"] == 4
    assert body["counts"]["self"]["like"] == 0
    assert (body["rate_by_followers"], body["rate_by_reach"], body["active_members"]) == (0.008, None, 1)
    assert body["position"] == "0:3"


def test_a_members_tier_and_engagement_can_be_read(client: httpx.Client) -> None:
    assert client.get(f"{ANN}/tier").json()["platforms"] == {"x": 500}
    assert client.get(f"{ANN}/engagement", params={"window": "all"}).json()["engagements"] == 4


def test_a_members_posts_have_their_rates_and_the_last_hour_with_activity(client: httpx.Client) -> None:
    body = client.get(f"{ANN}/posts", params={"window": "all", "platform": "x", "limit": 5}).json()
    assert (body["brand"], body["member"], body["total"], body["position"]) == ("acme", "ann", 1, "0:3")
    (post,) = body["posts"]
    assert (post["post_id"], post["platform"], post["engagements"]) == ("p9", "x", 4)
    assert (post["rate_by_followers"], post["rate_by_reach"]) == (0.008, None)
    assert (post["counts"]["member_post"]["like"], post["last_activity"]) == (4, "2026-03-01T01:00:00Z")
    earlier = client.get(f"{ANN}/posts", params={"window": "all", "as_of": "2026-03-01T01:59:00Z"}).json()
    assert (earlier["posts"], earlier["to"]) == ([], "2026-03-01T01:00:00Z")
    problem(client.get(f"{ANN}/posts", params={"limit": 0}), 422, "invalid_request")


def test_the_tier_report_has_a_row_for_each_tier_of_the_brand(client: httpx.Client) -> None:
    rows = client.get("/v1/brands/acme/tiers", params={"window": "all"}).json()["tiers"]
    assert [row["tier"] for row in rows][:4] == ["nano", "micro", "mid", "macro"]
    assert rows[0]["rate_by_followers"] == 0.008


@pytest.mark.parametrize(
    "path", ["engagement", "tiers", "members/ann/tier", "members/ann/engagement", "members/ann/posts"]
)
def test_engagement_reads_refuse_known_at_and_name_the_replay(client: httpx.Client, path: str) -> None:
    answer = client.get(f"/v1/brands/acme/{path}", params={"known_at": "2026-03-01T00:00:00Z"})
    assert "replay rederive" in problem(answer, 422, "known_at_needs_rederive")["detail"]


def test_a_tier_can_be_asked_for_an_earlier_time(client: httpx.Client) -> None:
    for as_of, tier in (("2026-03-01T00:59:59Z", "unknown"), ("2026-03-01T01:00:00Z", "nano")):
        assert client.get(f"{ANN}/tier", params={"as_of": as_of}).json()["tier"] == tier
        standings = client.get("/v1/brands/acme/campaigns/spring/standings", params={"as_of": "2026-03-02T00:00:00Z"})
        assert standings.json()["entries"][0]["tier"] == "nano"


def test_a_tier_before_the_changes_that_are_kept_is_refused(settings: Settings) -> None:
    engine = open_database(settings.database)
    with engine.begin() as conn:
        conn.exec_driver_sql("UPDATE members SET changes = ''")  # as an older release wrote it
    engine.dispose()
    with serving(settings) as own:
        answer = own.get(f"{ANN}/tier", params={"as_of": "2026-02-01T00:00:00Z"})
        assert "replay rederive" in problem(answer, 422, "as_of_needs_rederive")["detail"]


def test_a_window_that_does_not_exist_is_refused(client: httpx.Client) -> None:
    problem(client.get("/v1/brands/acme/engagement", params={"window": "2h"}), 422, "invalid_request")


@pytest.mark.parametrize("position", ["0", "6", "0:3"])
def test_min_position_is_met_by_what_the_read_models_include(client: httpx.Client, position: str) -> None:
    assert client.get(f"{ANN}/balance", params={"min_position": position}).status_code == 200
    assert client.get("/v1/brands/acme/tiers", params={"min_position": position}).status_code == 200


@pytest.mark.parametrize("position", ["7", "0:4"])
def test_min_position_gives_up_with_a_problem_after_a_while(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, position: str
) -> None:
    monkeypatch.setattr(access, "WAIT_SECONDS", 0.1)
    problem(client.get(f"{ANN}/balance", params={"min_position": position}), 504, "position_not_reached")
    problem(client.get("/v1/brands/acme/tiers", params={"min_position": position}), 504, "position_not_reached")


@pytest.mark.parametrize("position", ["soon", "9:1", "0:3,1:0"])
@pytest.mark.parametrize("path", [f"{ANN}/balance", "/v1/brands/acme/tiers", "/v1/brands/acme/campaigns/spring/report"])
def test_a_position_that_is_none_is_refused_at_once(client: httpx.Client, path: str, position: str) -> None:
    begun = time.monotonic()
    problem(client.get(path, params={"min_position": position}), 422, "invalid_position")
    assert time.monotonic() - begun < access.WAIT_SECONDS / 2


def test_a_partition_that_a_worker_has_read_is_there_whatever_the_settings_say(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "WAIT_SECONDS", 0.1)
    engine = open_database(settings.database)
    source = Source(ACTIVITY, "e1", 1)
    readstate.take(engine, source, "w")
    with engine.begin() as conn:
        conn.exec_driver_sql(f"INSERT INTO ledger_positions VALUES ('{source.name}', 0, 'w', 1)")
    engine.dispose()
    with serving(settings) as own:
        for path in (f"{ANN}/balance", "/v1/brands/acme/tiers"):
            problem(own.get(path, params={"min_position": "1:0"}), 504, "position_not_reached")


def test_engagement_is_only_certain_up_to_what_the_tables_have_consumed(settings: Settings) -> None:
    engine = open_database(settings.database)
    with engine.begin() as conn:
        conn.exec_driver_sql("UPDATE stream_positions SET position = 9, outputs = '{\"engagement.windows.v1\": 3}'")
    with serving(settings) as late:
        assert late.get("/v1/brands/acme/engagement").json()["position"] == ""
        with engine.begin() as conn:
            conn.exec_driver_sql("UPDATE engagement_positions SET position = 3")
        assert late.get("/v1/brands/acme/engagement").json()["position"] == "0:8"
    engine.dispose()


def redemption(client: httpx.Client, body: object, key: str | None = "k1", member: str = "ann") -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(f"/v1/brands/acme/members/{member}/redemptions", json=body, headers=headers)


def test_a_redemption_without_a_key_is_refused(client: httpx.Client) -> None:
    problem(redemption(client, {"points": 5}, key=None), 400, "idempotency_key_required")


@pytest.mark.parametrize("sent", ["k1", "k1 ", " k1\t"])
def test_white_space_around_a_key_is_none_of_it(sent: str) -> None:
    """A proxy may take it off, and then a retry would be another command."""
    request = Request({"type": "http", "headers": [(b"idempotency-key", sent.encode())]})
    assert asyncio.run(commands._key(request, sent)) == "k1"


@pytest.mark.parametrize(
    "body", [{}, {"points": 0}, {"points": -5}, {"points": 1.5}, {"points": "5"}, {"points": True}]
)
def test_points_that_are_no_positive_integer_are_refused(client: httpx.Client, body: object) -> None:
    problem(redemption(client, body), 422, "invalid_request")


def test_an_unknown_field_of_a_redemption_is_refused(client: httpx.Client) -> None:
    problem(redemption(client, {"points": 5, "note": "x"}), 422, "invalid_request")


def test_a_key_or_member_that_could_not_be_on_the_log_is_refused_at_once(client: httpx.Client) -> None:
    problem(redemption(client, {"points": 5}, key="k" * 201), 422, "invalid_request")
    problem(redemption(client, {"points": 5}, member=" ann"), 422, "invalid_request")


def test_a_redemption_for_an_unknown_brand_is_not_put_on_the_log(client: httpx.Client) -> None:
    answer = client.post("/v1/brands/nope/members/a/redemptions", json={"points": 5}, headers={"Idempotency-Key": "k"})
    problem(answer, 404, "unknown_brand")


def test_a_redemption_without_kafka_is_unavailable_and_may_be_tried_again(client: httpx.Client) -> None:
    answer = redemption(client, {"points": 5})
    problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"]


def test_liveness_is_apart_from_readiness(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    body = problem(client.get("/readyz"), 503, "not_ready")
    assert "no worker is running" in body["missing"]


def test_metrics_have_requests_by_route_and_positions(client: httpx.Client) -> None:
    client.get(f"{ANN}/balance")
    text = client.get("/metrics").text
    assert 'route="/v1/brands/{brand}/members/{member}/balance"' in text
    assert 'groundswell_projection_position{projection="balances"} 6.0' in text
    assert "groundswell_ledger_position 6.0" in text
    assert re.search(r'groundswell_engagement_behind_records\{partition="0",topic="engagement.windows.v1"\} \d', text)


def test_an_address_with_nothing_there_and_a_wrong_method_are_problems(client: httpx.Client) -> None:
    problem(client.get("/v1/nothing"), 404, "not_found")
    problem(client.delete(f"{ANN}/balance"), 405, "method_not_allowed")


def test_a_database_without_tables_is_a_problem_not_a_crash(settings: Settings) -> None:
    engine = open_database(settings.database)
    with engine.begin() as conn:
        conn.exec_driver_sql("DROP TABLE programs")
    engine.dispose()
    with serving(settings) as client:
        problem(client.get(f"{ANN}/balance"), 503, "unavailable")


def test_the_root_leads_to_the_documentation_of_every_route(client: httpx.Client) -> None:
    assert client.get("/", follow_redirects=False).headers["location"] == "/docs"
    assert client.get("/docs").status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert "/v1/brands/{brand}/members/{member}/redemptions" in paths
    balance = paths["/v1/brands/{brand}/members/{member}/balance"]["get"]
    assert balance["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Balance")
    assert MEDIA_TYPE in balance["responses"]["404"]["content"]


def test_every_problem_has_a_status_for_http_and_an_exit_code_for_commands() -> None:
    for code, kind in PROBLEMS.items():
        assert 400 <= kind.status < 600, code
        assert kind.exit_code in (1, 2), code


@pytest.mark.parametrize(("limited", "path"), [(access, "/v1/brands/acme/tiers"), (positions, f"{ANN}/balance")])
def test_reads_that_wait_leave_room_for_those_that_need_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, limited: ModuleType, path: str
) -> None:
    monkeypatch.setattr(limited, "WAITERS", 2)
    monkeypatch.setattr(access, "WAIT_SECONDS", 3.0)
    with serving(settings) as client, ThreadPoolExecutor(5) as threads:
        asked = [threads.submit(client.get, path, params={"min_position": "7"}) for _ in range(5)]
        while sum(one.done() for one in asked) < 3:
            time.sleep(0.01)
        assert client.get(path, params={"min_position": "6"}).status_code == 200
        answers = [one.result() for one in asked]
    assert sorted(answer.status_code for answer in answers) == [503, 503, 503, 504, 504]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
