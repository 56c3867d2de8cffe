"""What a client has already is not sent again, and what is long is compressed, except live events."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy as sa
from live_world import World, rewarded
from serving import running, serving

from aggregates.database import open_database
from aggregates.ledger import account_id
from service.settings import Settings

ANN = "/v1/brands/acme/members/ann"


@pytest.fixture(scope="module")
def client(shared_settings: Settings) -> Iterator[httpx.Client]:
    with serving(shared_settings) as client:
        yield client


def test_an_unchanged_answer_is_a_304_without_a_body(client: httpx.Client) -> None:
    first = client.get(f"{ANN}/balance")
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    for asked in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = client.get(f"{ANN}/balance", headers={"If-None-Match": asked})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert "content-type" not in again.headers
    assert client.get(f"{ANN}/balance", headers={"If-None-Match": '"other"'}).json() == first.json()


def test_a_tag_is_that_of_the_answer_and_changes_with_it(settings: Settings) -> None:
    world = World(settings.database)
    with serving(settings) as client:
        tag = client.get(f"{ANN}/balance").headers["etag"]
        assert client.get(f"{ANN}/balance?as_of=2026-03-01T01:30:00Z").headers["etag"] != tag
        world.append([(account_id("acme", "ann"), rewarded(9, 5))])
        world.project()
        again = client.get(f"{ANN}/balance", headers={"If-None-Match": tag})
        assert (again.status_code, again.json()["active"]) == (200, 55)
    world.close()


@pytest.mark.parametrize("path", ["/v1/brands/nope/members/ann/balance", "/v1/nothing"])
def test_a_problem_has_no_tag_and_is_never_a_304(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers={"If-None-Match": "*"})
    assert answer.status_code == 404
    assert "etag" not in answer.headers


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip;q=0", False), ("gzip; q=0.000, *", False), ("*;q=0", False), ("x-gzip-foo", False), ("br, deflate", False),
     ("GZIP", True), ("br;q=1, gzip ; q=0.5", True), ("*", True), ("x-gzip", True), ("*;q=0, gzip", True)],
)  # fmt: skip
def test_what_a_client_accepts_is_read_as_it_is_meant(client: httpx.Client, accepted: str, packed: bool) -> None:
    headers = client.get("/openapi.json", headers={"Accept-Encoding": accepted}).headers
    assert ("content-encoding" in headers) is packed


def test_a_tag_may_be_on_any_line(client: httpx.Client) -> None:
    tag = client.get(f"{ANN}/balance").headers["etag"]
    for tags in ([tag, '"other"'], ['"other"', tag], [f'"other", {tag}']):
        answer = client.get(f"{ANN}/balance", headers=[("If-None-Match", one) for one in tags])
        assert answer.status_code == 304


def test_a_long_answer_is_compressed_for_who_accepts_that_and_has_the_same_tag(client: httpx.Client) -> None:
    packed = client.get("/openapi.json")
    plain = client.get("/openapi.json", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["vary"]
    assert "content-encoding" not in plain.headers
    assert packed.headers["etag"] == plain.headers["etag"]
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) * 5 < len(plain.content)
    assert "content-encoding" not in client.get(f"{ANN}/balance").headers, "short ones are not worth it"


def test_reads_answer_while_a_writer_is_in_the_middle_of_a_transaction(filled_settings: Settings) -> None:
    writer = open_database(filled_settings.database)
    with running(filled_settings) as (_, port), writer.connect() as conn, conn.begin() as transaction:
        conn.execute(sa.text("DELETE FROM balances"))
        conn.execute(sa.text("UPDATE projection_positions SET position = 99"))
        answer = httpx.get(f"http://127.0.0.1:{port}{ANN}/balance", timeout=5)
        assert (answer.status_code, answer.json()["active"], answer.json()["position"]) == (200, 50, 6)
        transaction.rollback()
    writer.dispose()
