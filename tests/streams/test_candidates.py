"""What a candidate's answer adds up: by campaign, tier, day and member, with money, commands and standings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from exact_bench import BRAND, CAMPAIGN, NOW
from rederive_world import LIMITED, buy, followers, like, lived, log_of, redeem, replayed

from aggregates.definitions import Campaign
from aggregates.parsing import parse
from service.problems import Unusable
from service.replay.candidates import candidate_of, what_if
from service.replay.rederive_answers import CandidateReport

DAY = 86_400_000
BEFORE = {"occurred_at": NOW - 2 * DAY}
DOCUMENTS = [BRAND, CAMPAIGN]
MADE = [
    followers("m1", "f1", 10),
    like("m1", "e1", 2, **BEFORE),
    like("m2", "e2", 1),
    redeem("m1", "c1", 10),
    buy("m2", "b1", 900),
]


def answer(*candidate: dict[str, Any]) -> CandidateReport:
    with (
        lived(log_of(MADE, 2, DOCUMENTS), documents=DOCUMENTS) as live,
        replayed(live, candidate=[parse(one, "test") for one in candidate]) as run,
    ):
        return what_if(run, "memory", 1)


def test_the_same_definitions_pay_the_same():
    found = answer(CAMPAIGN)
    assert found.same
    assert [(one.paid, one.would, one.paid_minor) for one in found.campaigns] == [(12 + 2 + 9, 23, None)]


def test_half_the_points_are_added_up_by_tier_day_and_member_and_a_redemption_finds_too_few():
    found = answer({**CAMPAIGN, "earn": [{**CAMPAIGN["earn"][0], "points": 1}, *CAMPAIGN["earn"][1:]]})
    assert not found.same
    assert [(one.tier, one.paid, one.would) for one in found.tiers] == [("nano", 12, 6), ("unknown", 11, 10)]
    days = [(one.paid, one.would) for one in found.days]
    assert days == [(12, 6), (11, 10)]
    assert [(one.member_id, one.difference) for one in found.members] == [("m1", -6), ("m2", -1)]
    assert [(one.member_id, one.event_id, one.recorded, one.would, one.points) for one in found.commands] == [
        ("m1", "c1", "done", "insufficient_points", 10)
    ]
    (standings,) = found.standings
    assert [(one.rank, one.member_id, one.tier, one.score, one.paid) for one in standings.entries] == [
        (1, "m2", "unknown", 10, 11), (2, "m1", "nano", 6, 12),
    ]  # fmt: skip


def test_a_brand_stands_for_all_its_campaigns_with_its_own_tiers_and_worth():
    brand = {**BRAND, "tiers": {"small": 0, "nano": 11}, "points": {"expire_after": "none", "value_per_1000": 500}}
    found = answer(brand)
    (campaign,) = found.campaigns
    assert (campaign.campaign, campaign.paid, campaign.would) == ("spring", 23, 4 + 11)
    assert (campaign.paid_minor, campaign.would_minor) == (12, 8)  # 11.5 and 7.5: half to even
    assert [(one.tier, one.paid, one.would) for one in found.tiers] == [
        ("nano", 12, 0), ("small", 0, 4), ("unknown", 11, 11),
    ]  # fmt: skip


def test_a_budget_of_the_candidate_goes_to_who_came_first():
    found = answer({**CAMPAIGN, "budget": 13})
    (campaign,) = found.campaigns
    assert (campaign.would, campaign.budget_spent) == (13, 13)
    assert {one.member_id: one.would for one in found.members} == {"m1": 12, "m2": 1}


def test_a_draft_in_the_file_counts_as_if_it_were_none(tmp_path):
    file = tmp_path / "draft.yaml"
    file.write_text(f"campaign: x\nbrand: acme\nstarts_at: {NOW - DAY}\nends_at: {NOW}\nearn: []\ndraft: true\n")
    with lived(log_of(MADE, 1)) as live, replayed(live, candidate_of=candidate_of(file)) as run:
        (one,) = run.candidate
        assert isinstance(one, Campaign)
        assert not one.draft


CAMPAIGN_X = f"campaign: x\nbrand: {{}}\nstarts_at: {NOW - DAY}\nends_at: {NOW}\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("campaign: [", "not YAML"),
        ("campaign: x\nbrand: acme\n", "missing; add it"),
        (CAMPAIGN_X.format("nobody") + "earn: []\n", "the brand nobody is in neither the ledger nor the file"),
        (
            CAMPAIGN_X.format("acme") + "earn: [{rule: a, on: interaction, points: 1, tier_multiplier: {nanno: 2}}]\n",
            "the brand has no tier nanno",
        ),
        (
            CAMPAIGN_X.format("acme") + "earn: []\n---\n" + CAMPAIGN_X.format("acme") + "budget: 1\nearn: []\n",
            "is in it twice, with other content",
        ),
    ],
)
def test_a_file_that_is_no_candidate_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "candidate.yaml"
    file.write_text(text)
    log = log_of(MADE, 1, [*DOCUMENTS, LIMITED])
    with lived(log) as live, pytest.raises(Unusable) as no, replayed(live, candidate_of=candidate_of(file)):
        pass
    assert line in str(no.value)
    assert "\n" not in str(no.value)
