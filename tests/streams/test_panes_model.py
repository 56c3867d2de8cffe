"""Panes against an independent model: the definitions of the design, counted by hand with plain dictionaries."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from exact_bench import Bench, Record, closing, interaction, programs, record
from hypothesis import given, settings
from hypothesis import strategies as st
from test_exactness import logs

from aggregates.engagement import CLOSED
from schemas.codec import DecodeError, decode
from schemas.validate import problem

ENGAGEMENT = ("like", "comment", "share", "save", "click")
CAMPAIGN_START, CAMPAIGN_END = 1_770_000_000_000, 1_775_000_000_000


def tier_of(platforms: dict[str, int]) -> str:
    if not platforms:
        return "unknown"
    most = max(platforms.values())
    return "nano" if most < 1_000 else "micro" if most < 10_000 else "mid" if most < 100_000 else "macro"


def readable(log: list[Record]) -> list[tuple[str, dict[str, Any]]]:
    """What is neither broken nor said before, in order."""
    seen, out = set(), []
    for one in log[2:]:
        try:
            kind, value = decode(one.value)
        except DecodeError:
            continue
        if problem(kind, value) or kind == "CampaignClosing" or (kind == "Command" and not one.headers):
            continue
        ident = (kind, value["brand_id"], value["member_id"], value["event_id"])
        if ident not in seen:
            out.append((kind, value))
        seen.add(ident)
    return out


def model(log: list[Record]) -> dict[tuple[Any, ...], dict[str, int]]:
    """(scope, campaign, tier, member, platform, post, start) → counters."""
    profiles: dict[str, dict[str, int]] = defaultdict(dict)
    counted: dict[tuple[Any, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for kind, value in readable(log):
        member, at = value["member_id"], value["occurred_at"]
        if kind == "ProfileSnapshot":
            profiles[member][value["platform"]] = value["followers"]
        if kind not in ("Interaction", "Purchase"):
            continue
        adds: dict[str, int] = {}
        if kind == "Interaction":
            if value["followers"] is not None:  # every interaction of these logs is on a member's post
                profiles[member][value["platform"]] = value["followers"]
            own = value["actor_id"] == member and value["kind"] != "post"
            adds[("self." if own else "member_post.") + value["kind"]] = value["quantity"]
            if not own and value["kind"] in ENGAGEMENT:
                followers = profiles[member].get(value["platform"]) or 0
                name = "rate_ppb" if followers else "unrated"
                adds[name] = value["quantity"] * (10**9 // followers if followers else 1)
        elif value["kind"] == "completed":
            adds = {"purchases": 1, "revenue_minor": value["amount_minor"]}
        else:
            adds = {"refunds": 1, "refunds_minor": value["amount_minor"]}
        tier, platform = tier_of(profiles[member]), value.get("platform") or ""
        minutes, hour = at // 300_000 * 300_000, at // 3_600_000 * 3_600_000
        keys = [("brand", "", "", "", platform, "", minutes), ("brand_tier", "", tier, "", platform, "", minutes)]
        keys.append(("member", "", "", member, platform, "", hour))
        if value.get("post_id"):
            keys.append(("post", "", "", member, platform, value["post_id"], hour))
        if CAMPAIGN_START <= at < CAMPAIGN_END:
            keys += [
                ("campaign", "spring", "", "", platform, "", minutes),
                ("campaign_tier", "spring", tier, "", platform, "", minutes),
            ]
            keys.append(("campaign_member", "spring", "", member, platform, "", hour))
        for key in keys:
            for name, amount in adds.items():
                counted[key][name] += amount
    return {key: dict(counters) for key, counters in counted.items()}


@settings(max_examples=150)
@given(logs(), st.integers(1, 7))
def test_panes_are_what_the_definitions_say_however_late_and_in_whatever_chunks(log, size):
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), log)
        part = bench.worker()
        for start in range(0, len(log), size):
            part.apply(bench.chunk(start, min(start + size, len(log))), 1)
            bench.flush(part)
        merged: dict[tuple[Any, ...], dict[str, int]] = {}
        for pane, counters in bench.panes():
            key = (pane.scope, pane.campaign, pane.tier, pane.member, pane.platform, pane.post, pane.starts_at)
            counted = merged.setdefault(key, {})
            for name, amount in counters.items():
                counted[name] = counted.get(name, 0) + amount
        assert merged == model(log)


@settings(max_examples=150)
@given(logs(), st.integers(1, 7), st.booleans())
def test_what_a_member_did_for_a_campaign_before_its_marker_stands_for_ever(log, size, restart):
    """The segments below `CLOSED` are what the log before the first good marker comes to, whatever follows."""
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), log)
        part = bench.worker()
        for start in range(0, len(log), size):
            part.apply(bench.chunk(start, min(start + size, len(log))), 1)
            bench.flush(part)
            part = bench.worker() if restart else part
        before: dict[tuple[Any, ...], dict[str, int]] = {}
        for pane, counters in bench.panes():
            assert pane.scope == "campaign_member" or pane.segment < CLOSED
            if pane.scope == "campaign_member" and pane.segment < CLOSED:
                counted = before.setdefault((pane.member, pane.platform, pane.starts_at), {})
                for name, amount in counters.items():
                    counted[name] = counted.get(name, 0) + amount
        marker = next((n for n, one in enumerate(log) if is_marker(one)), len(log))
        expected = {
            (member, platform, start): counters
            for (scope, _, _, member, platform, _, start), counters in model(log[:marker]).items()
            if scope == "campaign_member"
        }
        assert before == expected


def is_marker(one: Record) -> bool:
    try:
        return bool(one.headers) and decode(one.value)[0] == "CampaignClosing"
    except DecodeError:
        return False


def test_segments_behind_a_marker_leave_memory_with_their_block(tmp_path, monkeypatch):
    monkeypatch.setattr("aggregates.engagement.SEGMENT_OFFSETS", 10)
    monkeypatch.setattr("streams.pane_store.SEGMENT_OFFSETS", 10)
    log = [*programs(), closing(2)]
    log += [record(n, "Interaction", interaction(event_id=f"e{n}")) for n in range(3, 50)]
    bench = Bench(tmp_path, log)
    part = bench.worker()
    for start in range(0, 50, 5):
        part.apply(bench.chunk(start, start + 5), 1)
        bench.flush(part)
        behind = {segment for _, _, segment in part.fold.panes.spans if segment >= CLOSED}
        assert behind <= {CLOSED + (start + 5) // 10, CLOSED + start // 10}
        part = bench.worker()
        recovered = {segment for _, _, segment in part.fold.panes.spans if segment >= CLOSED}
        assert recovered <= {CLOSED + (start + 5) // 10}
    sums = sum(counters["member_post.like"] for pane, counters in bench.panes() if pane.scope == "campaign_member")
    assert sums == 47


def test_panes_leave_memory_once_event_time_has_passed_them(tmp_path):
    from exact_bench import NOW

    hour = 3_600_000
    log = programs()
    for n in range(2, 200):
        log.append(record(n, "Interaction", interaction(event_id=f"e{n}", occurred_at=NOW + n * hour)))
    bench = Bench(tmp_path, log)
    part = bench.worker()
    for start in range(0, 200, 10):
        part.apply(bench.chunk(start, start + 10), 1)
        bench.flush(part)
        assert len(part.fold.panes) <= 6 * 12, "only panes of the last hours may be in memory"
    late = record(200, "Interaction", interaction(event_id="late", occurred_at=NOW + 2 * hour))
    bench.log.append(late)
    part.apply(bench.chunk(200, 201), 1)
    assert {segment for start, _, segment in part.fold.panes.spans if start <= NOW + 3 * hour} == {0}
    assert part.fold.state.counts["late"] == 1
