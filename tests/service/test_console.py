"""The console without a browser: each page answers, what its parts say of real reads, and texts are escaped."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from nicegui import app as nicegui_app
from nicegui import core
from serving import serving

from aggregates.database import Unavailable
from projections.answers import Standing
from projections.queries.browsing import Bucket, Lot
from service import console
from service.api_keys import NOBODYS, Key, Keys, Scope
from service.console import ambassadors, audit, audit_whatif, campaign, charts, community, markup, member, shell
from service.instants import now_ms
from service.problems import Refusal
from service.reads import Reads
from service.settings import Settings

MARCH = 1_772_323_200_000
"""2026-03-01T00:00:00Z, when the filled database begins."""
HEADINGS = {
    "community": ("Community", "Engagement over time", "Rate by influence tier", "What is happening", "Followers"),
    "campaign": ("Campaign", "Standings", "Day by day", "As of"),
    "ambassadors": ("Ambassadors", "Whom to ask", "All tiers"),
    "member?member=ann": ("ann", "Statement", "Lots", "Paid nothing"),
    "audit": ("Audit", "Read models", "Dead letters", "What if", "Positions"),
}


@pytest.fixture(scope="module")
def client(shared_settings: Settings) -> Iterator[httpx.Client]:
    """The console of a filled database; there is no Kafka behind it."""
    with serving(shared_settings, console.install) as served:
        yield served


@pytest.fixture(scope="module")
def reads(shared_settings: Settings) -> Iterator[Reads]:
    opened = Reads(shared_settings, clock=lambda: MARCH + 24 * 3_600_000)
    yield opened
    opened.close()


@pytest.mark.parametrize("page", HEADINGS)
def test_each_page_answers_with_its_headings_and_the_way_to_the_others(client: httpx.Client, page: str) -> None:
    answer = client.get(f"/console/{page}")
    assert answer.status_code == 200
    for heading in HEADINGS[page]:
        assert heading in answer.text
    for other in ("Community", "Campaign", "Ambassadors", "Member", "Audit"):
        assert f'<a href="{other.lower()}?brand=acme"' in answer.text
    assert 'lang="en-US"' in answer.text


@pytest.mark.parametrize("page", HEADINGS)
def test_no_page_asks_another_host_for_anything(client: httpx.Client, page: str) -> None:
    text = client.get(f"/console/{page}").text
    loaded = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", text)
    assert len(loaded) > 10
    assert [url for url in loaded if re.match(r"(https?:)?//", url)] == []


@pytest.mark.parametrize("path", ["/", "/console", "/console/"])
def test_the_first_page_is_the_community(client: httpx.Client, path: str) -> None:
    assert client.get(path, follow_redirects=False).headers["location"] == "/console/community"


def test_the_api_answers_beside_it_as_it_does_alone(client: httpx.Client) -> None:
    assert client.get("/v1/brands/acme/members/ann/balance").json()["active"] == 50
    assert client.get("/v1/nothing").headers["content-type"] == "application/problem+json"
    assert client.post("/v1/brands/acme/campaigns").status_code == 405
    assert "/console" not in client.get("/openapi.json").text


@pytest.mark.parametrize("page", ["community", "campaign", "ambassadors", "member", "audit"])
def test_a_brand_that_is_not_there_is_said_and_others_are_offered(client: httpx.Client, page: str) -> None:
    answer = client.get(f"/console/{page}", params={"brand": "<b>nobody</b>"})
    assert answer.status_code == 200
    assert "There is no brand" in answer.text
    assert "<b>nobody" not in answer.text


def test_a_campaign_that_is_not_there_is_said(client: httpx.Client) -> None:
    assert "acme has no campaign autumn" in client.get("/console/campaign?campaign=autumn").text


def test_a_window_that_is_not_there_is_the_usual_one(client: httpx.Client) -> None:
    text = client.get("/console/community?window=century").text
    assert re.search(r"window=30d\W+ aria-current=", text)


# Whose key it is


def whose(brand: str, scope: Scope, patch: pytest.MonkeyPatch) -> None:
    """Let every page be opened with such a key."""
    patch.setattr(shell, "key", lambda: Key(id="a", brand=brand, scope=scope, created_at="", digest="0" * 64))


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("page", sorted(set(HEADINGS) - {"audit"}))
def test_a_brands_key_shows_the_brands_pages_and_no_way_to_the_audit(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, page: str, scope: Scope
) -> None:
    whose("acme", scope, monkeypatch)
    text = client.get(f"/console/{page}").text
    assert all(heading in text for heading in HEADINGS[page])
    assert '<a href="community?brand=acme"' in text
    assert '<a href="audit' not in text


@pytest.mark.parametrize(
    ("brand", "scope"), [("acme", Scope.ADMIN), ("*", Scope.READ), ("*", Scope.REDEEM), ("other", Scope.ADMIN)]
)
def test_the_audit_is_for_operators(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, brand: str, scope: Scope
) -> None:
    whose(brand, scope, monkeypatch)
    for text in (client.get("/console/audit").text, client.get("/console/audit?brand=acme").text):
        assert "Audit is for operators" in text
        assert [heading for heading in HEADINGS["audit"][1:] if heading in text] == []


@pytest.mark.parametrize("page", sorted(set(HEADINGS) - {"audit"}))
@pytest.mark.parametrize("there", ["acme", "nobody"])
def test_a_brands_key_shows_nothing_of_another_not_even_whether_it_is_there(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, page: str, there: str
) -> None:
    whose("other", Scope.ADMIN, monkeypatch)
    name, _, more = page.partition("?")
    text = client.get(f"/console/{name}?brand={there}&{more}").text
    assert "Your key is for other alone" in text
    assert there not in text
    assert [heading for heading in HEADINGS[page][1:] if heading in text] == []
    assert "There is no brand other" in client.get(f"/console/{page}").text


# What is told


def test_the_community_is_told_in_numbers_with_what_happened_last(reads: Reads) -> None:
    seen = community.read(reads, "acme", "24h")
    assert (seen.edge.at, seen.edge.as_of) == (MARCH + 3_900_000, "2026-03-01T02:00:00.000Z")
    assert [(name, found.count) for name, found in seen.followers] == [("nano", 1)]
    told = community.summary(seen, "24h")
    assert "0.80 %" in told
    assert "nothing in the 24 hours before" in told
    assert [one.what for one in seen.news] == ["Interaction"] * 3
    assert [one.points for one in seen.news] == [50, 20, 30]
    feed = community.happening(seen.news, "acme", seen.currency)
    assert "gave a share on the brand’s post" in feed
    assert 'href="member?brand=acme&amp;member=bob"' in feed
    assert "Nothing yet" in community.happening([], "acme", "EUR")


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [(150, 100, "▲ 50 %"), (50, 100, "▼ 50 %"), (100, 100, "= 0 %"), (5, 0, "nothing in the 7 days before")],
)
def test_a_number_is_told_beside_the_window_before(now: int, before: int, said: str) -> None:
    assert said in community.change(now, before, "7 days")


def test_a_campaign_is_told_at_each_moment_of_its_life(reads: Reads) -> None:
    (summary,) = reads.campaigns("acme").campaigns
    latest = campaign.read(reads, "acme", summary, None)
    assert "No budget is set: 100 points paid" in campaign.progress(latest)
    assert [one.member_id for one in latest.standings.entries] == ["ann", "bob"]
    early = campaign.read(reads, "acme", summary, campaign.at_step(12, latest.bounds))
    assert early.at == MARCH + 24 * 3_600_000 // 20
    assert [one.score for one in early.standings.entries] == [30]
    assert "day 1 of 31" in campaign.progress(early)
    board = campaign.leaderboard(latest, "acme")
    assert board.index("ann") < board.index("bob")
    assert "not final" in board
    assert "0 taken back" in campaign.bottom_line(latest.report)


@pytest.mark.parametrize(
    ("as_of", "step"),
    [("", 240), ("soon", 240), ("2026-02-01T00:00Z", 0), ("2026-03-01T06:00:00.000Z", 60), ("2027-01-01T00:00Z", 240)],
)
def test_a_moment_of_an_address_is_a_position_of_the_slider(as_of: str, step: int) -> None:
    within = (MARCH, MARCH + 24 * 3_600_000)
    chosen = campaign.named(as_of, within)
    assert campaign.step_of(chosen, within) == step
    assert campaign.at_step(step, within) == chosen


@pytest.mark.parametrize(("day", "status"), [(-1, "scheduled"), (0, "live"), (30, "live"), (31, "ended")])
def test_what_a_campaign_is_goes_by_the_moment_that_is_looked_at(reads: Reads, day: int, status: str) -> None:
    (summary,) = reads.campaigns("acme").campaigns
    over = summary.model_copy(update={"status": "ended"})
    assert campaign.status_at(over, MARCH + day * 24 * 3_600_000) == status
    draft = summary.model_copy(update={"status": "draft"})
    assert campaign.status_at(draft, MARCH) == "draft"


@pytest.mark.parametrize(("rank", "then", "said"), [(2, 5, "▲ 3"), (5, 2, "▼ 3"), (2, 2, "="), (2, None, "new")])
def test_movement_is_places_up_or_down_in_a_day(rank: int, then: int | None, said: str) -> None:
    one = Standing(rank=rank, member_id="ann", tier="nano", score=1)
    assert said in campaign.movement(one, {} if then is None else {"ann": then}, True)


@pytest.mark.parametrize(
    ("metric", "score", "said"),
    [
        ("points", 1234, "1,234"),
        ("engagement_rate", Decimal("0.0812"), "8.12 %"),
        ("referred_revenue", 4990, "49.90 EUR"),
    ],
)
def test_a_score_is_written_as_its_metric_is(metric: str, score: int | Decimal, said: str) -> None:
    assert said == campaign.score(Standing(rank=1, member_id="a", tier="nano", score=score), metric, "EUR")


def test_ambassadors_come_with_their_reasons(reads: Reads) -> None:
    _, found = ambassadors.read(reads, "acme", "30d", None)
    told = ambassadors.listed(found)
    assert "<b>1.0 ×</b> the median of nano (0.80 %), place 1 by rate" in told
    _, none = ambassadors.read(reads, "acme", "30d", "macro")
    assert "Nobody to ask in this window" in ambassadors.listed(none)


def test_a_member_is_told_with_lots_and_with_the_tree_behind_every_entry(reads: Reads) -> None:
    seen = member.read(reads, "acme", "ann")
    assert "<dd>50</dd>" in member.points(seen.balance, seen.engagement)
    assert member.lots_of(seen.lots, seen.now).count("active") == 2
    told = member.entries(seen.why)
    assert told.index("+20") < told.index("+30")
    tree = member.tree(seen.why.entries[0])
    for part in (
        "record <code>e1</code>",
        "members.activity.v1:0:0",
        "rule <b>share</b> of spring version 1",
        "10 points a unit",
    ):
        assert part in tree
    assert "share" in member.nothing_paid(seen.why.unpaid)


def test_a_lot_says_the_year_in_which_it_expires() -> None:
    told = member.lots_of([Lot("l", "spring", 5, 5, MARCH, MARCH + 365 * 24 * 3_600_000)], MARCH)
    assert '<time datetime="2027-03-01T00:00:00.000Z" title="2027-03-01T00:00:00.000Z (UTC)">1 Mar 2027</time>' in told


def test_somebody_never_seen_has_empty_states(reads: Reads) -> None:
    seen = member.read(reads, "acme", "nobody")
    assert "No movements" in member.entries(seen.why)
    assert "No lots" in member.lots_of(seen.lots, seen.now)
    assert "Everything paid" in member.nothing_paid(seen.why.unpaid)
    assert member.profile(seen.tier) == "No profile is known."


def test_the_audit_says_at_once_what_is_missing(reads: Reads, shared_settings: Settings) -> None:
    found = audit.read(reads, shared_settings)
    told = audit.verdict(found)
    assert "no worker is running" in told
    assert "every brand’s books add up to zero" in told
    assert "The numbers are catching up" in told
    whole = found._replace(missing=[])
    assert "The numbers are whole" in audit.verdict(whole)
    assert "The numbers are not whole" in audit.verdict(whole._replace(books={"acme": False}))
    assert "7 events behind" in audit.verdict(whole._replace(behind=7))
    assert "balances" in audit.read_models(found, None)


def test_the_form_of_a_thought_makes_an_event_that_what_if_takes(reads: Reads) -> None:
    fields = {"type": "interaction", "surface": "brand_post", "kind": "share", "quantity": "2", "platform": "x"}
    fields |= {"post_id": "", "amount_minor": "4990", "occurred_at": "2026-03-01T12:00:00Z"}
    from service import whatif

    event = whatif.read_event(audit_whatif.event_of(fields))
    told = audit_whatif.told(reads.what_if("acme", "ann", event))
    assert "+20" in told
    assert "pays" in told


# How things are written


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (12_345, "12.3k"),
        (123_456, "123k"),
        (58_197_976, "58.2M"),
        (-2_000_000, "−2.0M"),
        (10**9, "1.0B"),
    ],
)
def test_large_numbers_are_written_short(number: int, written: str) -> None:
    assert markup.compact(number) == written


@pytest.mark.parametrize(
    ("minor", "currency", "written"),
    [(7_484_490, "EUR", "74,844.90 EUR"), (-5, "USD", "−0.05 USD"), (1_234, "JPY", "1,234 JPY")],
)
def test_money_is_written_with_the_decimals_of_its_currency(minor: int, currency: str, written: str) -> None:
    assert markup.money(minor, currency) == written


def test_texts_and_attributes_are_escaped() -> None:
    made = markup.tag("a", "<script>", markup.link("Member", '"><i>', member='"&<'), title='"', data_x=1, hidden=False)
    assert "<script>" not in made
    assert "<i>" not in made
    assert made.startswith('<a title="&#34;" data-x="1">&lt;script&gt;')
    assert 'href="member?member=%22%26%3C"' in made


@pytest.mark.parametrize(("lower", "percent"), [(0, 8.0), (1_000, 4.0), (5_000, 4.0), (10_000, 2.4), (100_000, 1.7)])
def test_a_tier_is_compared_with_the_band_of_the_study_that_it_begins_in(lower: int, percent: float) -> None:
    found = charts.reference(lower)
    assert found is not None
    assert found.percent == percent


def test_a_series_has_every_hour_for_every_platform(reads: Reads) -> None:
    hour = 3_600_000
    options, says, table = charts.over_time([Bucket(0, "x", 4, 1, 0), Bucket(2 * hour, "tok", 3, 0, 0)], hour)
    assert [(one["name"], one["data"]) for one in options["series"]] == [
        ("tok", [[0, 0], [hour, 0], [2 * hour, 3]]),
        ("x", [[0, 4], [hour, 0], [2 * hour, 0]]),
    ]
    assert says == "Engagements: tok 3, x 4"
    assert "1 Jan 1970, 02:00" in table


def test_a_point_alone_is_drawn_for_a_line_of_one_is_not_seen() -> None:
    hour = 3_600_000
    buckets = [Bucket(0, "x", 4, 1, 0), Bucket(hour, "x", 4, 1, 0)]
    drawn = [charts.over_time(buckets[:n], hour)[0]["series"][0]["symbol"] for n in (1, 2)]
    assert drawn == ["circle", "none"]


def test_a_bars_label_stands_clear_of_the_studys_mark() -> None:
    rates = [("under", 0, "0.076"), ("far under", 1_000, "0.01"), ("over", 10_000, "0.026")]
    tiers = [charts.TierRate(name, lower, Decimal(rate)) for name, lower, rate in rates]
    bars = charts.tier_rates(tiers)[0]["series"][0]["data"]
    under, *others = [one["label"]["distance"] for one in bars]
    assert under > 0.4 / 8 * charts.PLOT_PIXELS + 5
    assert others == [5, 5]


# Pages of other places, where there are no keys

FOREIGN = [
    ("GET", {"Host": "evil.example"}),
    ("GET", {"Host": "evil.example:8080"}),
    ("GET", {"Host": "127.0.0.1.evil.example"}),
    ("GET", {"Host": "192.168.0.7"}),
    ("GET", {"Host": "127.0.0.1@evil.example"}),
    ("GET", {"Host": "[::1"}),
    ("POST", {"Origin": "https://evil.example"}),
    ("POST", {"Origin": "null"}),
    ("DELETE", {"Origin": "http://localhost.evil.example"}),
]
OUR_OWN = [
    ("GET", {"Host": "localhost:8080"}),
    ("GET", {"Host": "[::1]:8080"}),
    ("GET", {"Host": "127.0.0.2"}),
    ("GET", {"Host": "groundswell.localhost"}),
    ("GET", {"Origin": "https://evil.example"}),  # it cannot see the answer
    ("POST", {"Origin": "http://localhost:3000"}),
]
PATHS = ("/v1/brands/acme/members/ann/balance", "/console/audit", "/metrics", "/healthz", "/nowhere")


@pytest.mark.parametrize(("method", "headers"), FOREIGN)
@pytest.mark.parametrize("path", PATHS)
def test_without_keys_a_page_of_another_place_gets_nothing(
    client: httpx.Client, path: str, method: str, headers: dict[str, str]
):
    answer = client.request(method, path, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_page")
    assert next(iter(headers)) in answer.json()["detail"]


@pytest.mark.parametrize(("method", "headers"), OUR_OWN)
@pytest.mark.parametrize("path", PATHS)
def test_without_keys_this_machine_is_served(client: httpx.Client, path: str, method: str, headers: dict[str, str]):
    assert client.request(method, path, headers=headers).status_code != 403


@pytest.mark.parametrize(("more", "status"), [("", 101), ("Origin: https://evil.example\r\n", 403)])
def test_a_page_of_another_place_cannot_use_the_consoles_socket(client: httpx.Client, more: str, status: int):
    port = client.base_url.port or 0
    with socket.create_connection(("127.0.0.1", port), 20) as link:
        head = (
            f"GET /console/_nicegui_ws/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        )
        link.sendall(head.encode())
        assert int(link.recv(1_000).split()[1]) == status


# Sessions of the console


def test_an_open_page_of_the_console_ends_with_its_session(tmp_path: Path):
    keys = Keys(tmp_path / "keys.json")
    key, _ = keys.create("*", Scope.ADMIN, "2026-03-01T00:00:00Z")
    now = now_ms()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nicegui_app.state, "keys", keys, raising=False)
        shell.check(key, now + 60_000)
        with pytest.raises(Refusal, match="signed in for 12 hours"):
            shell.check(key, now)


# What somebody who is signed in could do to others


def test_nobody_writes_lines_into_the_log_of_the_api(client: httpx.Client):
    assert core.sio.handlers["/"]["log"] is console._unheard


@pytest.mark.parametrize(("brand", "scope"), [("acme", Scope.ADMIN), ("*", Scope.READ), ("*", Scope.ADMIN)])
def test_where_the_database_is_and_who_we_are_there_is_said_to_operators_alone(brand: str, scope: Scope):
    key = Key(id="a", brand=brand, scope=scope, created_at="", digest="0" * 64)
    away = Unavailable("postgresql://groundswell:***@db.internal/groundswell is away")
    assert ("db.internal" in shell._words(away, key)) is key.is_operators
    assert (
        shell._words(Refusal("unknown_brand", "No brand is called x."), key) == "No brand is called x. [unknown_brand]"
    )


def test_a_page_has_so_many_questions_under_way_and_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nicegui_app.state, "keys", None, raising=False)
    frame = object.__new__(shell.Frame)
    frame.key, frame.until, frame._under_way = NOBODYS, None, 0

    async def ask() -> list[tuple[int | None, str]]:
        goes_on = asyncio.Event()

        async def work() -> int:
            await goes_on.wait()
            return 1

        asked = [asyncio.ensure_future(frame.tried(work)) for _ in range(shell.MOST_AT_ONCE + 3)]
        await asyncio.sleep(0)
        goes_on.set()
        return [*await asyncio.gather(*asked), await frame.tried(work)]

    found = asyncio.run(ask())
    too_much = (None, "This page has asked for too much at once; wait a moment.")
    assert found == [(1, "")] * shell.MOST_AT_ONCE + [too_much] * 3 + [(1, "")]
