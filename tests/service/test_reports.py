"""Reports on a brand as a whole, over HTTP and on the command line, from one filled database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx
import pytest
from serving import serving

from aggregates.database import open_database
from projections.lots import LOTS
from service import cli
from service.problems import MEDIA_TYPE
from service.settings import Settings

Run = Callable[..., tuple[int, str, str]]
BOOKS, LIABILITY = "/v1/brands/acme/books", "/v1/brands/acme/liability"
REPORT, ASK = "/v1/brands/acme/campaigns/spring/report", "/v1/brands/acme/ambassadors"


@pytest.fixture(scope="module")
def client(shared_settings: Settings) -> Iterator[httpx.Client]:
    with serving(shared_settings) as client:
        yield client


@pytest.fixture
def run(shared_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on the filled database; exit code, output and errors."""
    return runner(shared_settings, monkeypatch, capsys)


def runner(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("GROUNDSWELL_KAFKA", settings.kafka)
    monkeypatch.setenv("GROUNDSWELL_DATABASE", settings.database)
    monkeypatch.setenv("GROUNDSWELL_SECRET", "very-secret")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["groundswell", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return run


def test_the_books_name_every_account_and_add_up_to_zero(client: httpx.Client) -> None:
    body = client.get(BOOKS).json()
    accounts = {one["account"]: one["points"] for one in body["accounts"]}
    assert (accounts["issued"], accounts["member"], accounts["pending"], body["total"]) == (-100, 100, 0, 0)
    assert list(accounts) == [
        *("issued", "prizes", "adjusted", "pending", "member", "expired"),
        *("debt", "redeemed", "reversed", "shortfall"),
    ]
    assert all(line["ties"] for line in body["tie_out"])
    assert body["position"] == 6


def test_the_books_can_be_read_as_of_a_time_and_at_a_position(client: httpx.Client) -> None:
    def members(**asked: object) -> int:
        accounts = client.get(BOOKS, params=asked).json()["accounts"]  # type: ignore[arg-type]
        return next(int(one["points"]) for one in accounts if one["account"] == "member")

    assert members(as_of="2026-03-01T01:30:00Z") == 30
    assert members(known_at="2026-03-01T02:30:00Z") == 50
    assert [members(position=position) for position in range(2, 7)] == [0, 30, 50, 100, 100]


def test_what_a_brand_owes_stands_by_month_with_no_worth_where_none_is_said(client: httpx.Client) -> None:
    body = client.get(LIABILITY).json()
    assert body["months"] == [{"month": None, "pending": 0, "active": 100}]
    assert (body["outstanding"], body["debt"], body["value_minor"], body["currency"]) == (100, 0, None, "EUR")
    assert client.get(LIABILITY, params={"as_of": "2026-03-01T02:00:00Z"}).json()["outstanding"] == 50


def test_a_campaigns_report_has_money_and_points_of_the_ledger_by_day(client: httpx.Client) -> None:
    body = client.get(REPORT, params={"min_position": 6}).json()
    total = body["total"]
    assert (total["points_paid"], total["points_net"], total["net_revenue_minor"], total["orders"]) == (
        100,
        100,
        5_000,
        1,
    )
    assert (total["rate_by_followers"], body["budget"]) == (None, {"points": None, "used": 100, "left": None})
    assert [(day["day"], day["points_paid"]) for day in body["days"]] == [("2026-03-01", 100)]
    assert [tier["tier"] for tier in body["tiers"]] == ["nano", "micro", "mid", "macro"]
    assert (body["position"], body["ledger_position"]) == ("0:3", 6)
    earlier = client.get(REPORT, params={"as_of": "2026-03-01T01:05:00Z"}).json()
    assert (earlier["total"]["points_paid"], earlier["to"]) == (30, "2026-03-01T01:05:00.000Z")


def test_whom_to_ask_can_be_narrowed_to_a_tier_and_a_window(client: httpx.Client) -> None:
    body = client.get(ASK, params={"window": "all"}).json()
    assert [(one["member_id"], one["rate_by_followers"]) for one in body["members"]] == [("ann", 0.008)]
    assert (body["from"], body["to"], body["min_posts"], body["candidates"]) == (None, None, 1, 1)
    assert client.get(ASK, params={"window": "all", "tier": "micro"}).json()["members"] == []
    late = client.get(ASK, params={"window": "1h", "as_of": "2026-03-02T00:00:00Z"}).json()
    assert (late["members"], late["from"]) == ([], "2026-03-01T23:00:00.000Z")


@pytest.mark.parametrize(
    ("path", "asked", "status", "code"),
    [
        ("/v1/brands/nope/books", {}, 404, "unknown_brand"),
        ("/v1/brands/nope/liability", {}, 404, "unknown_brand"),
        (BOOKS, {"as_of": "yesterday"}, 422, "invalid_time"),
        (BOOKS, {"position": -1}, 422, "invalid_request"),
        (BOOKS, {"position": 7}, 504, "position_not_reached"),
        (LIABILITY, {"min_position": "x"}, 422, "invalid_position"),
        ("/v1/brands/nope/ambassadors", {}, 404, "unknown_brand"),
        ("/v1/brands/acme/campaigns/nope/report", {}, 404, "unknown_campaign"),
        (REPORT, {"known_at": "2026-03-01T00:00:00Z"}, 422, "known_at_needs_rederive"),
        (ASK, {"known_at": "2026-03-01T00:00:00Z"}, 422, "known_at_needs_rederive"),
        (ASK, {"tier": "giga"}, 404, "unknown_tier"),
        (ASK, {"window": "2h"}, 422, "invalid_request"),
        (ASK, {"limit": 0}, 422, "invalid_request"),
    ],
)
def test_what_cannot_be_read_is_a_problem(
    client: httpx.Client, path: str, asked: dict[str, str], status: int, code: str
) -> None:
    answer = client.get(path, params=asked)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"].startswith(MEDIA_TYPE)


@pytest.mark.parametrize(
    ("command", "path"),
    [("books acme", BOOKS), ("liability acme", LIABILITY), ("report acme spring", REPORT), ("ambassadors acme", ASK)],
)
def test_json_of_a_report_is_the_http_body(client: httpx.Client, run: Run, command: str, path: str) -> None:
    time = "2026-03-01T02:30:00Z"
    code, out, _ = run(*command.split(), "--as-of", time, "--json")
    assert (code, out) == (0, client.get(path, params={"as_of": time}).text + "\n")


def test_reports_are_printed_for_people(run: Run) -> None:
    _, said, _ = run("books", "acme")
    assert "The books are balanced and tie out." in said
    (issued,) = [line for line in said.splitlines() if line.strip().startswith("issued")]
    assert issued.split()[-1] == "-100"
    _, said, _ = run("liability", "acme")
    assert "never" in said
    assert "█" in said
    assert "points.value_per_1000" in said
    _, said, _ = run("report", "acme", "spring")
    assert "5,000 - 0 = 5,000 (1 orders, 0 refunds)" in said
    assert "By day (UTC)" in said
    _, said, _ = run("ambassadors", "acme", "--window", "all")
    assert "1.0 times the median of tier nano" in said


def test_books_that_do_not_tie_out_end_with_1(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = open_database(settings.database)
    with engine.begin() as conn:
        conn.execute(LOTS.table.update().where(LOTS.table.c.member == "ann").values(points_left=7))
    engine.dispose()
    run = runner(settings, monkeypatch, capsys)
    code, out, _ = run("books", "acme")
    assert code == 1
    assert "DIFFERS" in out
    code, out, _ = run("books", "acme", "--json")
    assert code == 1
    assert [line["what"] for line in json.loads(out)["tie_out"] if not line["ties"]][:1] == ["active"]
