"""The reads that are asked most have a way of their own, and its answers are those of the routes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_world import World, rewarded
from serving import serving

from aggregates.ledger import account_id
from projections.engagement import tables
from projections.queries import standings
from projections.queries.campaigns import with_tiers
from service.api import quick as api_quick
from service.api.gathered import Gathered
from service.problems import Refusal
from service.settings import Settings

MEMBERS = ("ann", "bob", "Zoë", "ß", "a b", "q?", "nobody")


@pytest.fixture(scope="module")
def client(shared_settings: Settings) -> Iterator[httpx.Client]:
    with serving(shared_settings) as client:
        yield client


def by_route(client: httpx.Client, path: str) -> httpx.Response:
    """The answer of the route itself: with a parameter that changes nothing."""
    return client.get(path, params={"min_position": "0"})


@given(
    brand=st.sampled_from(["acme", "nope", "a\x00b", " acme", "b" * 201]) | st.text(max_size=5),
    name=st.sampled_from([*MEMBERS, "spring", "x" * 200, "x" * 201, "..", "a/b", "a\nb", " ann"]) | st.text(max_size=5),
    read=st.sampled_from(["members/{}/balance", "campaigns/{}/standings"]),
)
def test_the_short_way_answers_as_the_route_does(client: httpx.Client, brand: str, name: str, read: str) -> None:
    parts = [quote(part.encode("utf-8", "replace"), safe="") for part in (brand, name)]
    path = f"/v1/brands/{parts[0]}/{read.format(parts[1])}"
    url = httpx.URL(client.base_url, raw_path=path.encode())
    quick, plain = client.get(url), by_route(client, str(url))
    assert (quick.status_code, quick.content) == (plain.status_code, plain.content)
    assert dict(quick.headers) | {"date": ""} == dict(plain.headers) | {"date": ""}


def test_it_is_the_short_way_that_answers(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    send = api_quick._send

    async def noted(body: bytes, to: object) -> None:
        seen.append(body)
        await send(body, to)  # type: ignore[arg-type]

    monkeypatch.setattr(api_quick, "_send", noted)
    for path in ("members/ann/balance", "members/Zo%C3%AB/balance", "campaigns/spring/standings"):
        client.get(f"/v1/brands/acme/{path}")
    client.get("/v1/brands/acme/members/ann/balance?as_of=2026-03-02T00:00:00Z")
    assert len(seen) == 3
    text = client.get("/metrics").text
    assert (
        'groundswell_http_requests_total{method="GET",route="/v1/brands/{brand}/campaigns/{campaign}/standings"' in text
    )


def test_standings_read_in_order_are_those_that_are_ranked_in_memory(filled_settings: Settings) -> None:
    from aggregates.database import open_database

    world = World(filled_settings.database)
    points = [5, 7, 7, 7, 3, 9, 9, 1, 7]
    world.append((account_id("acme", f"m{n}"), rewarded(50 + n, one)) for n, one in enumerate(points))
    world.project()
    world.close()
    engine = open_database(filled_settings.database)
    told = {"followers": 5, "platforms": "{}", "changes": "", "partition": 0, "epoch": "e", "stamp": 1}
    tiers = [{"brand": "acme", "member": f"m{n}", "tier": f"tier-{n}", **told} for n in range(0, len(points), 2)]
    with engine.begin() as conn:
        conn.execute(tables.MEMBERS.insert(), [*tiers, {**tiers[1], "brand": "zen", "member": "m1"}])
    with engine.connect() as conn:
        scores = standings.points_scores(conn, "acme", "spring")
        assert len(scores) == len(points) + 2
        for limit in (1, 2, 3, 5, 100):
            for start in range(13):
                cursor = str(start)
                ranked = standings.standings(conn, "acme", "spring", "points", scores, {}, limit, cursor)
                ranked = ranked.model_copy(update={"entries": with_tiers(conn, "acme", ranked.entries)})
                assert standings.points_page(conn, "acme", "spring", limit, cursor) == ranked
    engine.dispose()


def test_who_asks_while_a_look_is_at_work_gets_the_next_one() -> None:
    looks: list[list[str]] = []
    state = {"value": 0}

    def read(asked: Sequence[str]) -> dict[str, bytes | Refusal]:
        looks.append(list(asked))
        value = state["value"]
        return {one: Refusal("not_found", one) if one == "bad" else b"%d" % value for one in asked}

    async def play() -> None:
        gathered = Gathered[str](read)
        first = asyncio.create_task(gathered.ask("a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        state["value"] = 1  # what is asked from here on must see it
        later = await asyncio.gather(*(gathered.ask(one) for one in ("a", "a", "b", "bad")), return_exceptions=True)
        assert later[:3] == [b"1", b"1", b"1"]
        assert isinstance(later[3], Refusal)
        assert await first in (b"0", b"1")
        gone = asyncio.create_task(gathered.ask("c"))
        await asyncio.sleep(0)
        gone.cancel()
        assert await gathered.ask("d") == b"1"

    asyncio.run(play())
    assert sorted(looks[1]) == ["a", "b", "bad"], "two who ask the same are one question"


def test_what_breaks_a_look_reaches_everybody_who_waits() -> None:
    def read(asked: Sequence[str]) -> dict[str, bytes | Refusal]:
        raise LookupError(str(len(asked)))

    async def play() -> None:
        gathered = Gathered[str](read)
        for _ in range(2):
            answers = await asyncio.gather(*(gathered.ask(one) for one in "aab"), return_exceptions=True)
            assert [type(one) for one in answers] == [LookupError] * 3

    asyncio.run(play())
