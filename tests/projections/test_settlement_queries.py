"""What a campaign is settled by, on both databases: the ledger's rows and the panes before each partition's marker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from ledger_stream import Stream, long_stream
from sqlalchemy import Engine

from aggregates.engagement import CLOSED, ON_TIME
from aggregates.program_events import MarkerPassed
from projections import engagement
from projections.engagement import tables
from projections.queries import campaigns
from projections.queries.settlement import last_definition, markers, open_campaigns, scores_before_markers, unsettled
from projections.registry import LEDGER
from projections.upkeep.runner import Runner, prepare
from schemas.topics import WINDOWS
from streams import readstate

Fresh = Callable[[], Engine]


@pytest.fixture
def stream() -> Stream:
    """A campaign settled in the middle, and what came after."""
    stream = long_stream(120)
    for n in range(30):
        stream.reward("acme", "ann", 7, "spring", 1_772_323_200_000, n, None)
    return stream


@pytest.fixture
def engine(fresh: Fresh, stream: Stream) -> Engine:
    engine = fresh()
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER).catch_up()
    readstate.create_tables(engine)
    with engine.begin() as conn:
        tables.create_tables(conn)
        conn.exec_driver_sql("CREATE TABLE ledger_budgets (brand TEXT, campaign TEXT, spent BIGINT)")
    return engine


def test_points_are_those_that_the_ledger_has_of_the_partition_before_its_marker(
    engine: Engine, stream: Stream
) -> None:
    (marker,) = [r for r in stream.events if isinstance(r.event, MarkerPassed)]
    passed = marker.event.origin.partition  # type: ignore[union-attr]
    expected: dict[str, int] = defaultdict(int)
    for recorded in stream.events:
        event: Any = recorded.event
        if recorded.id >= marker.id or not recorded.originator.startswith("account:acme/"):
            continue
        entries = [(e, 1) for e in getattr(event, "grants", ())] + [(e, -1) for e in getattr(event, "reversals", ())]
        for entry, sign in entries:
            if entry.campaign == "spring" and event.origin.partition == passed:  # the only one with a marker
                expected[recorded.originator.removeprefix("account:acme/")] += sign * entry.points
    with engine.connect() as conn:
        assert markers(conn, "acme", "spring") == {passed: marker.id}
        assert dict(scores_before_markers(conn, "acme", "spring", "points", 1)) == expected
    assert any(expected.values())


def test_panes_are_those_that_no_marker_stands_before(engine: Engine) -> None:
    def pane(member: str, segment: int, likes: int, stamp: int) -> dict[str, Any]:
        names = {"brand_id": "acme", "campaign_id": "spring", "tier": "", "member_id": member, "platform": "x"}
        when = {"post_id": "", "starts_at": 1_772_323_200_000, "length_ms": 3_600_000, "segment": segment}
        of = {"scope": "campaign_member", "partition": 0, "epoch": "1", "stamp": stamp}
        return {**of, **names, **when, "counters": {"brand_post.like": likes}}

    values = [
        pane("ann", ON_TIME, 3, 1),
        pane("ann", 0, 2, 2),
        pane("ann", CLOSED, 9, 3),
        pane("bob", CLOSED + 1, 4, 4),
    ]
    with engine.begin() as conn:
        engagement.apply(conn, WINDOWS, 0, 0, len(values), values)
        assert scores_before_markers(conn, "acme", "spring", "interactions", 1) == [("ann", 5)]


def test_what_is_open_closed_and_settled(engine: Engine, stream: Stream) -> None:
    with engine.connect() as conn:
        assert unsettled(conn) == []
        found = {(one.brand, one.campaign, one.version) for one in open_campaigns(conn)}
        assert found == {("acme", "summer", 1), ("zeta", "spring", 1), ("zeta", "summer", 1)}
        assert last_definition(conn) == 6
        assert readstate.behind_marker(conn, "acme", "spring") == []
        listed = campaigns.campaigns(conn, "acme", 1_772_323_200_000).campaigns
        assert [(one.campaign, one.status) for one in listed] == [("spring", "settled"), ("summer", "live")]
        of_then = campaigns.campaigns(conn, "acme", 1_772_323_200_000, 1_772_323_199_999, None).campaigns
        assert [(one.campaign, one.status) for one in of_then] == [("spring", "scheduled"), ("summer", "scheduled")]
        settled = campaigns.settled(conn, "acme", "spring")
        assert settled is not None
        kept = stream.settled["acme", "spring"]
        assert (settled.members, settled.winners) == (len(kept), 1)
        assert [one.member_id for one in settled.prizes] == [kept[0].member]
        assert campaigns.settled(conn, "acme", "summer") is None
