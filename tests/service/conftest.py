"""A database as a stack leaves it, filled through the real ledger recorder, projections and pane tables."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from aggregates.database import open_database
from aggregates.events import Grant, InteractionRewarded, Origin, PurchaseRecorded, Refusal
from aggregates.ledger import Ledger, Source, account_id, brand_aggregate, campaign_aggregate
from aggregates.ledger_store import encoded
from aggregates.program_events import BrandDefined, CampaignDefined
from aggregates.programs import content_of, parse
from projections import engagement, registry
from projections.upkeep.runner import Runner
from schemas.topics import ACTIVITY, TIERS, WINDOWS
from service.migrate import migrate
from service.settings import Settings
from streams import readstate

EPOCH = "e1"
MARCH = 1_772_323_200_000
"""2026-03-01T00:00:00Z."""
HOUR = 3_600_000
NOW = MARCH + 48 * HOUR

BRAND = {"brand": "acme", "plan": "free", "timezone": "UTC", "currency": "EUR"}
CAMPAIGN = {
    "campaign": "spring",
    "brand": "acme",
    "starts_at": "2026-03-01T00:00:00Z",
    "ends_at": "2026-04-01T00:00:00Z",
    "earn": [{"rule": "share", "on": "interaction", "kind": ["share"], "points": 10}],
}


def origin(event_id: str, offset: int, at: int) -> Origin:
    """A record of partition 0."""
    return Origin(ACTIVITY, 0, offset, event_id, at, at + 1_000)


def rewarded(
    event_id: str, offset: int, at: int, points: int, refusals: tuple[Refusal, ...] = ()
) -> InteractionRewarded:
    """A share that paid so many points."""
    grant = Grant(f"lot-{event_id}", "spring", 1, "share", points, points, "unit", 10, 0, 1000, at)
    return InteractionRewarded(
        origin(event_id, offset, at), "share", "brand_post", "x", 1, "nano", 500, "p1", None, (grant,), refusals
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a filled database; there is no Kafka behind them."""
    return filled(tmp_path)


@pytest.fixture(scope="module")
def shared_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The same, one for a whole file of tests that only read."""
    return filled(tmp_path_factory.mktemp("filled"))


@pytest.fixture(scope="module")
def secured(shared_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a filled database with a file of keys; there is no Kafka behind them."""
    return shared_settings.model_copy(update={"api_keys_file": tmp_path_factory.mktemp("keys") / "keys.json"})


def filled(directory: Path, database: str = "") -> Settings:
    """Fill a database: that one, which is empty, else a file in this directory."""
    database = database or f"sqlite:///{directory / 'groundswell.db'}"
    migrate(database)
    ledger = Ledger(database)
    brand, campaign = parse(BRAND, "test"), parse(CAMPAIGN, "test")
    too_much = Refusal("spring", 1, "share", "per_day")
    order = PurchaseRecorded(origin("o1", 3, MARCH + 4 * HOUR), "order-1", 5_000, "EUR", "nano", ("spring",))
    ledger.store.write(
        [
            encoded(brand_aggregate("acme"), 1, BrandDefined("acme", 1, 0, content_of(brand), MARCH)),
            encoded(
                campaign_aggregate("acme", "spring"),
                1,
                CampaignDefined("acme", "spring", 1, MARCH, content_of(campaign), MARCH),
            ),
            encoded(account_id("acme", "ann"), 1, rewarded("e1", 0, MARCH + HOUR, 30)),
            encoded(account_id("acme", "ann"), 2, rewarded("e2", 1, MARCH + 2 * HOUR, 20, (too_much,))),
            encoded(account_id("acme", "bob"), 1, rewarded("e3", 2, MARCH + 3 * HOUR, 50)),
            encoded(account_id("acme", "bob"), 2, order),
        ]
    )
    engine = open_database(database)
    Runner(engine, ledger.notifications, registry.LEDGER).catch_up()
    source = Source(ACTIVITY, EPOCH, 0)
    with engine.begin() as conn:
        conn.execute(sa.text("INSERT INTO ledger_positions VALUES (:source, 4, 'w', 1)"), {"source": source.name})
        windows = [pane("brand"), pane("member", member_id="ann"), pane("post", member_id="ann", post_id="p9")]
        engagement.apply(conn, WINDOWS, 0, 0, 2, windows)
        member = {"brand_id": "acme", "member_id": "ann", "tier": "nano", "followers": 500, "platforms": {"x": 500}}
        member["changes"] = f'[[{MARCH + HOUR},0,"nano","x",500]]'
        engagement.apply(
            conn,
            TIERS,
            0,
            0,
            2,
            [{**member, "partition": 0, "epoch": EPOCH, "stamp": 3}, pane("brand_tier", tier="nano")],
        )
    readstate.take(engine, source, "w")
    delta = readstate.Delta(0, 4, MARCH, MARCH, {"accepted": 4}, {}, {}, [], [])
    readstate.save(engine, source, delta, "w", {WINDOWS: 2, TIERS: 2})
    engine.dispose()
    ledger.close()
    return Settings(kafka="127.0.0.1:1", database=database, data_dir=directory, secret="s", partitions=1)


def pane(scope: str, tier: str = "", member_id: str = "", post_id: str = "") -> dict[str, object]:
    """A pane of one post with four likes by 500 followers."""
    return {
        "scope": scope,
        "brand_id": "acme",
        "campaign_id": "",
        "tier": tier,
        "member_id": member_id,
        "platform": "x",
        "post_id": post_id,
        "starts_at": MARCH + HOUR,
        "length_ms": HOUR if member_id else 300_000,
        "segment": -1,
        "partition": 0,
        "epoch": EPOCH,
        "stamp": 3,
        "counters": {"member_post.post": 1, "member_post.like": 4, "rate_ppb": 8_000_000},
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a migrated database without anything in it, of each kind."""
    if request.param == "sqlite":
        address = f"sqlite:///{tmp_path / 'empty.db'}"
    else:
        address = request.getfixturevalue("postgresql_address")
    migrate(address)
    return address


@pytest.fixture
def filled_settings(empty_database: str, tmp_path: Path) -> Settings:
    """Settings of a filled database of each kind; there is no Kafka behind them."""
    return filled(tmp_path, empty_database)
