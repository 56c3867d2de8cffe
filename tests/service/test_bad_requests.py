"""What nobody should send to the commands' routes: each is a problem document that says what is wrong, never a 500."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st
from live_world import World
from serving import serving

from aggregates.ledger import brand_aggregate
from aggregates.program_events import BrandDefined
from aggregates.programs import content_of, parse
from service.api.access import NEEDS
from service.api.errors import MAX_BODY
from service.problems import MEDIA_TYPE
from service.requests import REASON_PATTERN
from service.settings import Settings

ANN = "/v1/brands/acme/members/ann"
KEY = {"Idempotency-Key": "k1"}
BODIES = {
    f"{ANN}/redemptions": {"points": 5},
    f"{ANN}/redemptions/5d41402abc4b2a76/cancel": None,
    f"{ANN}/adjustments": {"points": -5, "reason": "a mistake"},
}
POSTS = list(BODIES)
INVALID = (422, "invalid_request")


@pytest.fixture(scope="module")
def client(shared_settings: Settings) -> Iterator[httpx.Client]:
    """An API over a filled database, without a Kafka behind it: what is valid is a 503."""
    with serving(shared_settings) as client:
        yield client


def said(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem document, which the answer must be."""
    assert answer.headers["content-type"] == MEDIA_TYPE, answer.text
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status_code
    assert body["detail"]
    return answer.status_code, body["code"]


@pytest.mark.parametrize("path", POSTS)
def test_a_valid_command_gets_as_far_as_the_broker_that_is_away(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json=BODIES[path], headers=KEY)
    assert said(answer) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert "safe to ask again" in answer.json()["detail"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("key", [None, ""])
def test_a_command_without_a_key_is_refused(client: httpx.Client, path: str, key: str | None) -> None:
    headers = {} if key is None else {"Idempotency-Key": key}
    assert said(client.post(path, json=BODIES[path], headers=headers)) == (400, "idempotency_key_required")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("key", ["k" * 201, "a\x85b", "tab\tbed"], ids=["too-long", "next-line", "tab"])
def test_a_key_that_could_not_be_on_the_log_is_refused(client: httpx.Client, path: str, key: str) -> None:
    answer = client.post(path, json=BODIES[path], headers={b"Idempotency-Key": key.encode("latin-1")})
    assert said(answer) == INVALID
    assert "Idempotency-Key" in answer.json()["detail"]


def test_two_keys_are_refused(client: httpx.Client) -> None:
    headers = [("Idempotency-Key", "k1"), ("Idempotency-Key", "k2")]
    assert said(client.post(POSTS[0], json=BODIES[POSTS[0]], headers=headers)) == INVALID


@pytest.mark.parametrize("reason", ["日本　語", "façade", "a" * 1_000])
def test_a_reason_is_in_any_script(client: httpx.Client, reason: str) -> None:
    assert said(client.post(POSTS[2], json={"points": 5, "reason": reason}, headers=KEY)) == (503, "unavailable")
    assert re.search(REASON_PATTERN, reason)


def test_a_client_that_hangs_up_in_the_middle_is_no_defect_of_ours(client: httpx.Client) -> None:
    url = client.base_url
    for path in (POSTS[0], "/v1/activity/interactions"):
        with socket.create_connection((url.host, url.port or 80)) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Idempotency-Key: k\r\nContent-Length: 1000\r\n\r\n[{{".encode())
            time.sleep(0.1)
    time.sleep(0.3)
    counted = [line for line in client.get("/metrics").text.splitlines() if 'status="500"' in line]
    assert counted == []


@pytest.mark.parametrize("key", ["k" * 200, "clé/à l'œil"[:7], "~!@#$%^&*()", "0"])
def test_an_odd_key_is_a_key(client: httpx.Client, key: str) -> None:
    answer = client.post(POSTS[0], json=BODIES[POSTS[0]], headers={b"Idempotency-Key": key.encode("latin-1")})
    assert said(answer) == (503, "unavailable")


WRONG: list[tuple[str, bytes, tuple[int, str]]] = [
    ("nothing", b"", INVALID),
    ("not JSON", b"points=5", INVALID),
    ("not UTF-8", b'{"points": "\xff"}', INVALID),
    ("a name twice", b'{"points": 1, "points": 2}', INVALID),
    ("a list", b"[5]", INVALID),
    ("a number", b"5", INVALID),
    ("null", b"null", INVALID),
    ("a fraction", b'{"points": 5.0}', INVALID),
    ("text", b'{"points": "5"}', INVALID),
    ("true", b'{"points": true}', INVALID),
    ("not a number", b'{"points": NaN}', INVALID),
    ("without an end", b'{"points": Infinity}', INVALID),
    ("above what is allowed", b'{"points": 1000000000000001}', INVALID),
    ("beyond 64 bits", b'{"points": 9223372036854775808}', INVALID),
    ("5,000 digits", b'{"points": ' + b"9" * 5_000 + b"}", INVALID),
    ("zero", b'{"points": 0, "reason": "x"}', INVALID),
    ("another field", b'{"points": 5, "reason": "x", "member": "bob"}', INVALID),
    ("deep", b"[" * 30_000, INVALID),
    ("large", b'{"points": 5, "reason": "' + b"x" * MAX_BODY + b'"}', (413, "too_large")),
]


@pytest.mark.parametrize("path", [POSTS[0], POSTS[2]])
@pytest.mark.parametrize(("body", "expected"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_body_that_is_wrong_is_refused(
    client: httpx.Client, path: str, body: bytes, expected: tuple[int, str]
) -> None:
    assert said(client.post(path, content=body, headers={**KEY, "Content-Type": "application/json"})) == expected


def test_a_large_body_is_refused_whatever_length_it_was_announced_with(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 10_000

    answer = client.post(POSTS[0], content=chunks(), headers={**KEY, "Content-Type": "application/json"})
    assert said(answer) == (413, "too_large")


@pytest.mark.parametrize(
    "reason", [None, "", "  ", "x" * 1_001, "nul\u0000", "a\x1b[31m", "\x9b1m", "two\nlines", 5, ["x"]]
)
def test_an_adjustment_says_why_in_words(client: httpx.Client, reason: object) -> None:
    body = json.dumps({"points": 5} if reason is None else {"points": 5, "reason": reason})
    answer = client.post(POSTS[2], content=body, headers={**KEY, "Content-Type": "application/json"})
    assert said(answer) == INVALID


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/brands/nope/members/ann/redemptions", (404, "unknown_brand")),
        ("/v1/brands/acme/members/%20ann/redemptions", INVALID),
        ("/v1/brands/acme/members/a%00b/redemptions", INVALID),
        ("/v1/brands/acme/members/a%0Ab/redemptions", INVALID),
        ("/v1/brands/acme/members/a%ffb/redemptions", INVALID),
        ("/v1/brands/acme/members/a%EF%BF%BDb/redemptions", (503, "unavailable")),
        (f"/v1/brands/acme/members/{'m' * 201}/redemptions", INVALID),
        ("/v1/brands/acme/members/a%2Fb/redemptions", (404, "not_found")),
        ("/v1/brands/acme/members//redemptions", (404, "not_found")),
        ("/v1/brands/acme/members/..%2F..%2Fhealthz/redemptions", (404, "not_found")),
        ("/v1/brands/a%00e/members/ann/redemptions", INVALID),
        (f"{ANN}/redemptions/x%00/cancel", INVALID),
        (f"{ANN}/redemptions/{'x' * 201}/cancel", INVALID),
        (f"{ANN}/redemptions/a%2Fb/cancel", (404, "not_found")),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(client: httpx.Client, path: str, expected: tuple[int, str]) -> None:
    assert said(client.post(path, json={"points": 5}, headers=KEY)) == expected


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/brands/acme/campaigns/nope/members/ann", (404, "unknown_campaign")),
        ("/v1/brands/nope/campaigns/spring/members/ann", (404, "unknown_brand")),
        ("/v1/brands/acme/campaigns/spring/members/a%00b", INVALID),
        ("/v1/brands/acme/campaigns/s%00g/members/ann", INVALID),
        (f"/v1/brands/acme/campaigns/spring/members/{'m' * 201}", INVALID),
    ],
)
def test_joining_and_leaving_what_is_not_there_are_refused(
    client: httpx.Client, method: str, path: str, expected: tuple[int, str]
) -> None:
    assert said(client.request(method, path)) == expected


def test_leaving_an_open_campaign_is_refused_before_the_broker_is_asked(client: httpx.Client) -> None:
    assert said(client.delete("/v1/brands/acme/campaigns/spring/members/ann")) == (409, "campaign_open")
    assert said(client.put("/v1/brands/acme/campaigns/spring/members/ann")) == (503, "unavailable")


@pytest.mark.parametrize("position", ["9" * 5_000, "9" * 30, "-1", "1:2:3", "1:" + "9" * 5_000])
@pytest.mark.parametrize("path", [f"{ANN}/simulate", f"{ANN}/balance"])
def test_a_position_that_is_none_is_refused_at_once(client: httpx.Client, path: str, position: str) -> None:
    event = {"type": "purchase", "amount_minor": 1}
    method, body = ("GET", None) if path.endswith("balance") else ("POST", event)
    answer = client.request(method, path, params={"min_position": position}, json=body)
    assert said(answer) == (422, "invalid_position")


@pytest.mark.parametrize("cursor", ["9" * 5_000 + "-x", "9" * 30 + "-x", "x", "-", "5"])
def test_a_cursor_that_no_answer_gave_is_refused(client: httpx.Client, cursor: str) -> None:
    answer = client.get(f"{ANN}/statement", params={"cursor": cursor})
    assert said(answer) == (422, "invalid_cursor")
    if cursor != "5":  # which is one of standings
        answer = client.get("/v1/brands/acme/campaigns/spring/standings", params={"cursor": cursor})
        assert said(answer) == (422, "invalid_cursor")


API = [name.replace("{brand}", "acme").replace("{campaign}", "spring") for name in NEEDS if " /v1/" in name]


@pytest.mark.parametrize("name", API)
def test_a_parameter_that_a_route_does_not_have_is_refused(client: httpx.Client, name: str) -> None:
    method, _, path = name.partition(" ")
    address = path.replace("{member}", "ann").replace("{redemption}", "5d41402abc4b2a76")
    answer = client.request(method, address, params={"as_off": "2026-03-01T00:00:00Z"}, headers=KEY)
    assert said(answer) == INVALID
    assert (answer.json()["field"], "no such parameter" in answer.json()["detail"]) == ("as_off", True)


@pytest.mark.parametrize("query", ["as_off", "as_off=", "As_Of=2026-03-01T00:00:00Z", "limit=5", "%C3%A4=1", "a%0Ab=1"])
def test_a_misspelt_parameter_is_no_question_about_now(client: httpx.Client, query: str) -> None:
    answer = client.get(f"{ANN}/balance?{query}")
    assert said(answer) == INVALID
    if query.startswith("as"):
        assert answer.json()["detail"] == "as_off: this address has no such parameter; did you mean `as_of`?"


def test_those_who_watch_it_may_add_a_parameter_to_the_address(client: httpx.Client) -> None:
    for path in ("/healthz", "/metrics"):
        assert client.get(path, params={"x": "1"}).status_code == 200


SEGMENT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["points", "reason", "x"]), inner),
    max_leaves=4,
)


@trying(max_examples=150)
@given(
    method=st.sampled_from(["POST", "PUT", "DELETE"]),
    segments=st.tuples(SEGMENT, SEGMENT, SEGMENT),
    route=st.sampled_from(
        [
            "/v1/brands/{}/members/{}/redemptions",
            "/v1/brands/{}/members/{}/redemptions/{}/cancel",
            "/v1/brands/{}/members/{}/adjustments",
            "/v1/brands/{}/members/{}/simulate",
            "/v1/brands/{}/campaigns/{}/members/{}",
        ]
    ),
    is_acme=st.booleans(),
    key=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=5).map(
        lambda key: key.strip(" ")  # the client sends no header that begins or ends so
    ),
    body=JSON,
)
def test_whatever_is_sent_the_answer_is_a_problem(
    client: httpx.Client,
    method: str,
    segments: tuple[str, str, str],
    route: str,
    is_acme: bool,
    key: str,
    body: object,
) -> None:
    brand, *rest = (quote(segment, safe="") for segment in segments)
    path = route.format("acme" if is_acme else brand, *rest)
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    answer = client.request(method, httpx.URL(client.base_url, raw_path=path.encode()), json=body, headers=headers)
    assert said(answer)[0] != 500


def raw(client: httpx.Client, request: bytes) -> tuple[int, dict[str, Any]]:
    """Status and problem document of what is sent as it is, without a client that puts it right."""
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"content-type: {MEDIA_TYPE}".encode() in head.lower()
    document = json.loads(body)
    assert int(head.split()[1]) == document["status"]
    return document["status"], document


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/v1/brands/acme/members/\xff\xfe/balance", (400, "invalid_request")),
        (b"/v1/brands/acme/members/ann/../bob/balance", (404, "not_found")),
        (b"/v1/brands/acme/members/../../../healthz", (404, "not_found")),
        (b"/v1/brands/acme/members/..%2f..%2f..%2fhealthz/balance", (404, "not_found")),
        (b"/v1/brands/acme/members/a%2fb/balance", (404, "not_found")),
        (b"/v1/brands/acme/members/a%00b/balance", INVALID),
        (b"/v1/brands/acme/members/ann/balance?as_of=%00", INVALID),
        (b"/v1/brands/acme/members/%20ann/balance", INVALID),
        (b"/v1/brands/acme/members/a%0Db/balance", INVALID),
        (b"/v1/brands/acme/members/" + b"m" * 201 + b"/balance", INVALID),
        (b"/v1/brands/acme/members/" + b"m" * 60_000 + b"/balance", INVALID),
        (b"/v1/brands/%ff%fe/members/ann/balance", INVALID),
        (b"//v1/brands/acme/members/ann/balance", (404, "not_found")),
        (b"/V1/brands/acme/members/ann/balance", (404, "not_found")),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_path_that_plays_tricks_is_a_problem(client: httpx.Client, path: bytes, expected: tuple[int, str]) -> None:
    status, document = raw(client, b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert (status, document["code"]) == expected


@pytest.mark.parametrize(
    "request_line", [b"GET / HTTP/9.9", b"NONSENSE", b"GET /healthz HTTP/1.1\r\nno colon here", b"\x16\x03\x01\x02\x00"]
)
def test_what_is_no_http_is_a_problem_too(client: httpx.Client, request_line: bytes) -> None:
    status, document = raw(client, request_line + b"\r\n\r\n")
    assert (status, document["code"]) == (400, "invalid_request")


def test_a_wrong_method_names_every_method_of_the_address(client: httpx.Client) -> None:
    for path, methods in {
        "/v1/brands/acme/campaigns/spring/members/ann": "PUT, DELETE",
        f"{ANN}/balance": "GET",
        POSTS[0]: "POST",
    }.items():
        answer = client.request("PATCH", path)
        assert said(answer) == (405, "method_not_allowed")
        assert answer.headers["allow"] == methods


@pytest.mark.parametrize(
    "path", ["members/ann/balance", "members/ann/statement", "campaigns", "books", "campaigns/spring/standings"]
)
def test_what_is_of_one_brand_is_not_found_in_another(two_brands: httpx.Client, path: str) -> None:
    ours = two_brands.get(f"/v1/brands/acme/{path}").json()
    theirs = two_brands.get(f"/v1/brands/zeta/{path}")
    if path.startswith("campaigns/"):
        assert said(theirs) == (404, "unknown_campaign")
    else:
        assert theirs.status_code == 200
        assert "acme" not in theirs.text
        assert json.dumps(ours) != theirs.text


@pytest.fixture
def two_brands(settings: Settings) -> Iterator[httpx.Client]:
    """The same, and a brand `zeta` without campaigns or members."""
    zeta = parse({"brand": "zeta", "plan": "free", "timezone": "UTC", "currency": "EUR"}, "test")
    world = World(settings.database)
    world.append([(brand_aggregate("zeta"), BrandDefined("zeta", 1, 0, content_of(zeta), 0))])
    world.project()
    world.close()
    with serving(settings) as client:
        yield client
