"""Campaigns as they are read and settled, over a real database: status, settled standings, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from serving import serving

from aggregates.database import open_database
from aggregates.definitions import content_of
from aggregates.ledger import Ledger, campaign_aggregate
from aggregates.parsing import parse
from aggregates.program_events import CampaignClosed, CampaignDefined, CampaignSettled, Place, StandingsKept
from projections import registry
from projections.answers import iso
from projections.upkeep.runner import Runner
from service import closing
from service.problems import Refusal
from service.reads import Reads
from service.settings import Settings

HOUR = 3_600_000
MARCH = 1_772_323_200_000
"""2026-03-01T00:00:00Z, when the campaign that is there begins."""
APRIL = MARCH + 31 * 24 * HOUR
PLACES = (Place("bob", 1, 50, 500), Place("ann", 2, 40, 300), Place("cat", 2, 40, 300), Place("dan", 4, None))


def append(settings: Settings, aggregate: str, version: int, *events: Any) -> None:
    ledger, engine = Ledger(settings.database), open_database(settings.database)
    ledger.append({aggregate: events}, {aggregate: version})
    Runner(engine, ledger.notifications, registry.LEDGER).catch_up()
    ledger.close()
    engine.dispose()


def close(settings: Settings) -> None:
    append(settings, SPRING, 1, CampaignClosed("acme", "spring", 1, APRIL, APRIL + HOUR))


def settle(settings: Settings) -> None:
    kept = StandingsKept("acme", "spring", 1, APRIL + HOUR, 0, PLACES)
    settled = CampaignSettled("acme", "spring", 1, "points", 4, 3, 1100, APRIL + HOUR, APRIL + 2 * HOUR)
    append(settings, SPRING, 2, kept, settled)


SPRING = campaign_aggregate("acme", "spring")


def at(settings: Settings, now: int) -> dict[str, Any]:
    """The first campaign of the brand at that time."""
    reads = Reads(settings, lambda: now)
    found = reads.campaigns("acme").campaigns[0].model_dump()
    reads.close()
    return found


def test_a_campaigns_status_goes_from_scheduled_to_settled(settings: Settings) -> None:
    times = (MARCH - 1, MARCH, APRIL)
    assert [at(settings, now)["status"] for now in times] == ["scheduled", "live", "ended"]
    close(settings)
    assert (at(settings, APRIL)["status"], at(settings, APRIL)["closed_at"]) == ("ended", "2026-04-01T01:00:00.000Z")
    settle(settings)
    found = at(settings, APRIL)
    assert (found["status"], found["settled_at"]) == ("settled", "2026-04-01T02:00:00.000Z")


def test_campaigns_are_listed_by_start_with_what_they_spent_of_their_budget(settings: Settings) -> None:
    for name, more in (("later", {"budget": 70}), ("idea", {"draft": True, "starts_at": "2026-01-01T00:00:00Z"})):
        window = {"starts_at": "2026-03-20T00:00:00Z", "ends_at": "2026-04-01T00:00:00Z"}
        document = {"campaign": name, "brand": "acme", **window, **more}
        content = content_of(parse(document, "test"))
        append(settings, campaign_aggregate("acme", name), 0, CampaignDefined("acme", name, 1, MARCH, content, MARCH))
    engine = open_database(settings.database)
    with engine.begin() as conn:
        conn.exec_driver_sql("INSERT INTO ledger_budgets VALUES ('acme', 'later', 30)")
    engine.dispose()
    reads = Reads(settings, lambda: MARCH)
    found = [(c.campaign, c.status, c.budget, c.budget_spent) for c in reads.campaigns("acme").campaigns]
    assert found == [("idea", "draft", None, None), ("spring", "live", None, None), ("later", "scheduled", 70, 30)]
    with pytest.raises(Refusal, match="There is no brand `nope`"):
        reads.campaigns("nope")
    reads.close()


def test_campaigns_as_of_a_time_are_those_in_force_then_and_known_at_one_those_recorded_by_then(
    settings: Settings,
) -> None:
    window = {"starts_at": "2026-03-01T00:00:00Z", "ends_at": "2026-04-01T00:00:00Z"}
    of_two = {"version": 2, "effective_at": "2026-03-01T01:30:00Z", "budget": 500}
    content = content_of(parse({"campaign": "spring", "brand": "acme", **window, **of_two}, "test"))
    append(settings, SPRING, 1, CampaignDefined("acme", "spring", 2, MARCH + HOUR, content, MARCH + HOUR))
    closed = CampaignClosed("acme", "spring", 2, APRIL, APRIL + HOUR)
    settled = CampaignSettled("acme", "spring", 2, "points", 4, 3, 1100, APRIL + HOUR, APRIL + 2 * HOUR)
    append(settings, SPRING, 2, closed, settled)

    with serving(settings) as client:

        def then(**at: int) -> tuple[Any, ...]:
            params = {name: iso(ms) for name, ms in at.items()}
            (one,) = client.get("/v1/brands/acme/campaigns", params=params).raise_for_status().json()["campaigns"]
            return one["version"], one["status"], one["budget_spent"], one["closed_at"], one["settled_at"]

        assert then(as_of=MARCH - 1) == (1, "scheduled", None, None, None)
        assert then(as_of=MARCH) == (1, "live", None, None, None)
        assert then(as_of=MARCH + 2 * HOUR - 1) == (2, "live", 30, None, None)
        assert then(as_of=MARCH + 2 * HOUR) == (2, "live", 50, None, None)
        assert then(as_of=MARCH + 3 * HOUR) == (2, "live", 100, None, None)
        assert then(as_of=APRIL) == (2, "ended", 100, None, None)
        ends = iso(APRIL + HOUR), iso(APRIL + 2 * HOUR)
        assert then(as_of=APRIL + HOUR) == (2, "settled", 100, *ends), "prizes are as of the closing"
        assert then(as_of=APRIL + HOUR, known_at=APRIL + HOUR) == (2, "ended", 100, ends[0], None)
        at = MARCH + 3 * HOUR
        assert then(as_of=at, known_at=MARCH + HOUR - 1) == (1, "live", None, None, None)
        assert then(as_of=at, known_at=MARCH + 2 * HOUR + 1_000) == (2, "live", 50, None, None)
        assert client.get("/v1/brands/acme/campaigns", params={"known_at": iso(MARCH - 1)}).json()["campaigns"] == []
        assert client.get("/v1/brands/acme/campaigns", params={"as_of": "March"}).json()["code"] == "invalid_time"


def test_standings_of_a_settled_campaign_are_live_and_final_and_the_settled_ones_are_kept_whole(
    settings: Settings,
) -> None:
    close(settings)
    with serving(settings) as client:
        path = "/v1/brands/acme/campaigns/spring/standings"
        assert client.get(path).json()["final"] is False
        refused = client.get(path, params={"settled": True})
        assert (refused.status_code, refused.json()["code"]) == (409, "not_settled")
        settle(settings)
        live = client.get(path).json()
        assert live["final"] is True
        assert [(one["member_id"], one["score"], one["prize"]) for one in live["entries"]] == [
            ("ann", 50, 300), ("bob", 50, 500)
        ]  # fmt: skip
        before = client.get(path, params={"known_at": "2026-04-01T01:30:00Z"}).json()
        assert before["final"] is False
        for as_of, final in (("2026-04-01T00:59:59.999Z", False), ("2026-04-01T01:00:00Z", True)):
            then = client.get(path, params={"as_of": as_of}).json()
            assert (then["final"], then["entries"][1]["prize"]) == (final, 500 if final else None)
        first = client.get(path, params={"settled": True, "limit": 3}).json()
        rest = client.get(path, params={"settled": True, "cursor": first["next_cursor"]}).json()
        entries = first["entries"] + rest["entries"]
        kept = [Place(one["member_id"], one["rank"], one["score"], one["prize"] or 0) for one in entries]
        assert tuple(kept) == PLACES
        assert rest["next_cursor"] is None
        assert client.get(path, params={"settled": True, "as_of": "2026-03-05T00:00:00Z"}).status_code == 422


def test_a_settled_campaign_answers_what_was_done(settings: Settings) -> None:
    close(settings)
    settle(settings)
    with serving(settings) as client:
        body = client.post("/v1/brands/acme/campaigns/spring/settlement").json()
    assert (body["members"], body["winners"], body["points"]) == (4, 3, 1100)
    assert [(one["member_id"], one["prize"]) for one in body["prizes"]] == [("bob", 500), ("ann", 300), ("cat", 300)]


def asked(settings: Settings, campaign: str = "spring") -> Refusal:
    with pytest.raises(Refusal) as refused:
        asyncio.run(closing.settle(settings, "acme", campaign, 0.0, "test"))
    return refused.value


def test_a_campaign_that_runs_is_not_settled_and_one_without_a_worker_says_what_it_waits_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "now_ms", lambda: APRIL - 1)
    assert (asked(settings).code, asked(settings).kind.status) == ("campaign_not_ended", 409)
    assert asked(settings, "autumn").code == "unknown_campaign"
    monkeypatch.setattr(closing, "now_ms", lambda: APRIL)
    for _ in range(2):  # asking again closes it once
        no = asked(settings)
        assert (no.code, no.kind.status) == ("not_settled_yet", 503)
        assert "settles by itself" in no.detail
    ledger = Ledger(settings.database)
    found = [type(event).__name__ for event in ledger.history(SPRING)]
    ledger.close()
    assert found == ["CampaignDefined", "CampaignClosed"]
