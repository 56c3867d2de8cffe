"""Every route of the API with every sort of key: none gets further than its scope and its brand."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from serving import serving

from service.api import access, application, events, live
from service.api.access import NEEDS, OPEN, Whose
from service.api_keys import Keys, Scope
from service.problems import MEDIA_TYPE
from service.settings import Settings

AT = "2026-03-01T00:00:00.000Z"
IDS = {"brand": "acme", "member": "ann", "campaign": "nope", "redemption": "5d41402abc4b2a76"}
"""No campaign of that name is there, so that nothing is settled."""
MEMBER = {"event_id": "e", "occurred_at": AT, "brand_id": "acme", "member_id": "ann"}
BODIES: dict[str, Any] = {
    "redemptions": {"points": 5},
    "cancel": None,
    "adjustments": {"points": 5, "reason": "a gift"},
    "simulate": {"type": "purchase", "amount_minor": 100},
    "interactions": {**MEMBER, "surface": "brand_post", "kind": "share", "quantity": 1, "platform": "x"},
    "purchases": {**MEMBER, "order_id": "o", "kind": "completed", "amount_minor": 1, "currency": "EUR"},
    "profiles": {**MEMBER, "platform": "x", "followers": 700},
    "enrolments": {**MEMBER, "campaign_id": "spring", "kind": "joined"},
}
ROUTES = sorted(name for subject in application.SUBJECTS for name in access.names_of(subject.routes))
CALLERS: dict[str, tuple[str, Scope] | None] = {
    "nobody": None,
    "somebody with a made-up key": None,
    "somebody with a revoked key": None,
    "another brand's admin": ("other", Scope.ADMIN),
    "a reader": ("acme", Scope.READ),
    "a redeemer": ("acme", Scope.REDEEM),
    "an admin": ("acme", Scope.ADMIN),
    "an operator who reads": ("*", Scope.READ),
    "an operator": ("*", Scope.ADMIN),
}


@pytest.fixture(scope="module")
def keys(secured: Settings) -> Keys:
    assert secured.api_keys_file is not None
    return Keys(secured.api_keys_file)


@pytest.fixture(scope="module")
def tokens(keys: Keys) -> dict[str, str]:
    """A token for each caller; empty for nobody."""
    made = {name: keys.create(*held, AT)[1] for name, held in CALLERS.items() if held is not None}
    revoked, token = keys.create("*", Scope.ADMIN, AT)
    keys.revoke(revoked.id, AT)
    made_up = made["an operator"][:-4] + "AAAA"
    return {**made, "nobody": "", "somebody with a made-up key": made_up, "somebody with a revoked key": token}


@pytest.fixture(scope="module")
def client(secured: Settings) -> Iterator[httpx.Client]:
    with serving(secured) as client:
        yield client


def ask(client: httpx.Client, route: str, token: str) -> httpx.Response:
    """The answer of a route to who has this token; its body only when it is a problem."""
    method, _, path = route.partition(" ")
    headers = {"Idempotency-Key": "k1"} | ({"Authorization": f"Bearer {token}"} if token else {})
    body = BODIES.get(path.rpartition("/")[2])
    request = client.build_request(method, path.format(**IDS), json=body, headers=headers)
    answer = client.send(request, stream=True)
    if answer.headers.get("content-type") == MEDIA_TYPE:
        answer.read()
    answer.close()
    return answer


def expected(route: str, caller: str) -> tuple[int, str] | None:
    """Status and code of a refusal by its key; None where the route itself answers."""
    need, held = NEEDS[route], CALLERS[caller]
    if need is None:
        return None
    if caller == "nobody":
        return 401, "key_required"
    if held is None:
        return 401, "invalid_key"
    brand, scope = held
    order = ["read", "redeem", "admin"]
    if order.index(scope) < order.index(need.scope):
        return 403, "insufficient_scope"
    wanted = {Whose.PATH: "acme", Whose.OPERATOR: "*", Whose.BODY: brand}[need.whose]
    return None if brand in (wanted, "*") else (403, "other_brand")


def test_every_route_says_what_it_needs_and_nothing_else_does():
    assert sorted(NEEDS) == ROUTES


def test_what_the_application_has_beside_them_is_open_on_purpose(secured: Settings):
    paths = {getattr(route, "path", None) for route in application.create_app(secured).routes} - {None}
    assert paths <= OPEN | {name.partition(" ")[2] for name in NEEDS}


def test_no_route_that_changes_something_is_open_to_readers():
    changing = {name: need for name, need in NEEDS.items() if not name.startswith("GET ")}
    open_to_readers = {name for name, need in changing.items() if need is None or need.scope is Scope.READ}
    assert {name.rpartition("/")[2] for name in open_to_readers} == {"simulate"}
    admins = {name.rpartition("/")[2] for name, need in changing.items() if need and need.scope is Scope.ADMIN}
    assert admins == {"adjustments", "settlement"}


def test_a_route_that_says_nothing_cannot_be_added(secured: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(access, "NEEDS", {k: v for k, v in NEEDS.items() if not k.endswith("/balance")})
    with pytest.raises(LookupError, match="balance"):
        application.create_app(secured)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("route", ROUTES)
def test_a_key_gets_as_far_as_its_scope_and_its_brand(
    client: httpx.Client, tokens: dict[str, str], route: str, caller: str
):
    answer = ask(client, route, tokens[caller])
    refusal = expected(route, caller)
    if refusal is None:
        assert answer.status_code not in (401, 403)
        return
    body = answer.json()
    assert (answer.status_code, body["code"]) == refusal
    assert answer.headers["content-type"] == MEDIA_TYPE
    challenge = answer.headers.get("www-authenticate", "")
    assert challenge.startswith("Bearer") is (body["code"] != "other_brand")
    assert not any(token and token in answer.text for token in tokens.values())


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/nothing", "/v1/brands/acme/", "//healthz", "/healthz/%2e%2e/metrics"]
)
def test_what_is_not_there_needs_a_key_too(client: httpx.Client, tokens: dict[str, str], path: str):
    url = httpx.URL(client.base_url, raw_path=path.encode())
    assert client.get(url).json()["code"] == "key_required"
    assert client.get(url, headers={"Authorization": f"Bearer {tokens['an operator']}"}).json()["code"] == "not_found"


@pytest.mark.parametrize(
    ("header", "code"),
    [("", "key_required"), ("Bearer", "key_required"), ("Basic {}", "key_required"), ("{}", "key_required"),
     ("bearer {}", None), ("BEARER   {}", None), ("Bearer {}x", "invalid_key"), ("Bearer {0} {0}", "invalid_key"),
     ("Bearer \xff", "invalid_key")],
)  # fmt: skip
def test_a_key_comes_in_the_authorization_header(
    client: httpx.Client, tokens: dict[str, str], header: str, code: str | None
):
    value = header.format(tokens["a reader"]).encode("latin-1")
    answer = client.get("/v1/brands/acme/members/ann/balance", headers={b"Authorization": value})
    assert answer.json().get("code") == code


def test_two_authorization_headers_are_none(client: httpx.Client, tokens: dict[str, str]):
    headers = [("Authorization", f"Bearer {tokens[name]}") for name in ("a reader", "an operator")]
    assert client.get("/metrics", headers=headers).status_code == 401


def test_a_body_that_is_no_good_is_not_looked_at_before_the_key(client: httpx.Client):
    answer = client.post("/v1/brands/acme/members/ann/redemptions", content=b"[" * 30_000)
    assert (answer.status_code, answer.json()["code"]) == (401, "key_required")


def test_a_revoked_key_is_refused_from_the_next_request_on(client: httpx.Client, keys: Keys):
    key, token = keys.create("acme", Scope.READ, AT)
    headers = {"Authorization": f"Bearer {token}"}
    path = "/v1/brands/acme/members/ann/balance"
    assert client.get(path, headers=headers).status_code == 200
    keys.revoke(key.id, AT)
    assert client.get(path, headers=headers).json()["code"] == "invalid_key"


def test_live_events_end_with_their_key(client: httpx.Client, keys: Keys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.05)
    key, token = keys.create("acme", Scope.READ, AT)
    with client.stream("GET", "/v1/events", headers={"Authorization": f"Bearer {token}"}, timeout=20) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert next(line for line in lines if "heartbeat" in line)
        keys.revoke(key.id, AT)
        list(lines)  # it ends; it would go on for ever


@pytest.mark.parametrize("method", ["PUT", "HEAD", "OPTIONS", "DELETE"])
def test_where_one_signs_in_nothing_but_the_form_is_open(client: httpx.Client, method: str):
    assert client.request(method, "/console/login").status_code == 401


def test_a_damaged_file_of_keys_closes_the_door_and_a_mended_one_opens_it(tmp_path: Path, secured: Settings):
    keys = Keys(tmp_path / "keys.json")
    _, token = keys.create("acme", Scope.READ, AT)
    good = keys.path.read_bytes()
    headers = {"Authorization": f"Bearer {token}"}
    with serving(secured.model_copy(update={"api_keys_file": keys.path})) as client:
        keys.path.write_bytes(b"{")
        answer = client.get("/v1/brands/acme/tiers", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert str(tmp_path) not in answer.text
        assert client.get("/healthz").status_code == 200
        keys.path.write_bytes(good)
        assert client.get("/v1/brands/acme/tiers", headers=headers).status_code == 200


def test_a_key_that_asks_too_often_is_told_when_to_come_back_and_others_are_not(
    tmp_path: Path, secured: Settings, monkeypatch: pytest.MonkeyPatch
):
    keys = Keys(tmp_path / "keys.json")
    tokens = [keys.create("acme", Scope.READ, AT)[1] for _ in range(2)]
    monkeypatch.setattr(access.time, "monotonic_ns", lambda: 7)  # the clock stands still
    path = "/v1/brands/acme/members/ann/balance"
    with serving(secured.model_copy(update={"api_keys_file": keys.path, "requests_per_second": 3})) as client:
        said = [client.get(path, headers={"Authorization": f"Bearer {tokens[0]}"}) for _ in range(5)]
        assert [answer.status_code for answer in said] == [200, 200, 200, 429, 429]
        assert said[-1].json()["code"] == "too_many_requests"
        assert said[-1].headers["retry-after"] == "1"
        assert client.get(path, headers={"Authorization": f"Bearer {tokens[1]}"}).status_code == 200
        assert client.get(path).status_code == 401


def test_a_key_that_follows_too_often_is_told_to_close_some_and_others_are_not(
    tmp_path: Path, secured: Settings, monkeypatch: pytest.MonkeyPatch
):
    keys = Keys(tmp_path / "keys.json")
    mine, others = ({"Authorization": f"Bearer {keys.create('acme', Scope.READ, AT)[1]}"} for _ in range(2))
    monkeypatch.setattr(live, "READERS", 2)
    with serving(secured.model_copy(update={"api_keys_file": keys.path})) as client, ExitStack() as stack:
        follow = [stack.enter_context(client.stream("GET", "/v1/events", headers=mine)) for _ in range(3)]
        assert [answer.status_code for answer in follow] == [200, 200, 429]
        assert int(follow[-1].headers["retry-after"]) >= 1
        assert json.loads(follow[-1].read())["code"] == "too_many_requests"
        assert stack.enter_context(client.stream("GET", "/v1/events", headers=others)).status_code == 200
        follow[0].close()
        for _ in range(500):
            with client.stream("GET", "/v1/events", headers=mine) as again:
                if again.status_code == 200:
                    break
            time.sleep(0.01)
        assert again.status_code == 200


def test_the_description_tells_of_keys_only_where_they_are_asked_for(client: httpx.Client, shared_settings: Settings):
    described = client.get("/openapi.json").json()
    balance = described["paths"]["/v1/brands/{brand}/members/{member}/balance"]["get"]
    assert balance["security"]
    assert {"401", "403", "429"} <= balance["responses"].keys()
    assert "security" not in described["paths"]["/healthz"]["get"]
    assert "security" not in json.dumps(application.create_app(shared_settings).openapi())


# The audit


def test_each_command_leaves_a_line_that_says_who_what_and_how_it_ended(
    client: httpx.Client, tokens: dict[str, str], keys: Keys
):
    redeem = "POST /v1/brands/{brand}/members/{member}/redemptions"
    with structlog.testing.capture_logs() as lines:
        for caller in ("a redeemer", "a reader", "nobody"):
            ask(client, redeem, tokens[caller])
        ask(client, "GET /v1/brands/{brand}/members/{member}/balance", tokens["a reader"])
        ask(client, "POST /v1/brands/{brand}/members/{member}/simulate", tokens["a reader"])
    common = {"event": "audit", "log_level": "info", "idempotency_key": "k1"}
    named = {"command": "redeem", "brand": "acme", "member": "ann"}
    assert lines == [
        {**common, **named, "key": tokens["a redeemer"].split("_")[1], "status": 503, "code": "unavailable"},
        {**common, **named, "key": tokens["a reader"].split("_")[1], "status": 403, "code": "insufficient_scope"},
        {**common, "command": "POST", "path": redeem.partition(" ")[2].format(**IDS), "key": "unknown", "status": 401,
         "code": "key_required"},
    ]  # fmt: skip
    assert not any(token and token in str(lines) for token in tokens.values())


def test_what_somebody_sends_stays_on_one_line_of_the_audit(client: httpx.Client, tokens: dict[str, str]):
    headers = {b"Authorization": f"Bearer {tokens['an admin']}".encode(), b"Idempotency-Key": b"a\xa0b" + b"x" * 300}
    with structlog.testing.capture_logs() as lines:
        client.post("/v1/brands/acme/members/a%0Aaudit%20key=none%1b/adjustments", headers=headers, json={})
    (line,) = lines
    assert line["member"] == r"'a\naudit key=none\x1b'"
    assert len(line["idempotency_key"]) < 220
    assert line["idempotency_key"].isprintable()


def test_a_command_names_the_key_as_who_asked(client: httpx.Client, tokens: dict[str, str], keys: Keys):
    key = keys.authenticate(tokens["a redeemer"])
    assert key is not None
    assert key.asker == f"api/{key.id}"
    assert access.NOBODYS.asker == "api"
