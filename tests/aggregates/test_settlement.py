"""The end of a campaign: given its versions, when it is closed and settled, then events or a refusal."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregates.definitions import Campaign, content_of
from aggregates.parsing import DefinitionError, parse
from aggregates.program_decisions import (
    BrandState,
    CampaignState,
    ProgramRefused,
    define_brand,
    define_campaign,
    evolve_brand,
    evolve_campaign,
)
from aggregates.program_events import CampaignClosed, CampaignDefined, CampaignSettled, Place, StandingsKept
from aggregates.programs import Programs
from aggregates.settlement import CloseRefused, close, closes_at, last_live, ranked, settle, status

DAY = 24 * 3_600_000
START, END = 100 * DAY, 130 * DAY
GRACE = DAY


def version(number: int = 1, starts: int = START, ends: int = END, at: int | None = None, **more: Any) -> Campaign:
    """A version of the campaign, in force from its start unless said otherwise."""
    effective = starts if at is None else at
    document = {"campaign": "spring", "brand": "acme", "version": number, "effective_at": effective}
    found = parse({**document, "starts_at": starts, "ends_at": ends, **more}, "test")
    assert isinstance(found, Campaign)
    return found


def given_versions(*versions: Campaign, accepted_at: int = START - DAY) -> CampaignState:
    """A campaign of which these were accepted."""
    state = CampaignState()
    for one in versions:
        defined = CampaignDefined("acme", "spring", one.version, one.effective_at, content_of(one), accepted_at)
        evolve_campaign(state, defined)
    return state


def closed(*versions: Campaign) -> CampaignState:
    """A campaign that was closed a day after its end."""
    state = given_versions(*versions)
    for event in close(state, END + DAY):
        evolve_campaign(state, event)
    return state


def state_at(state: CampaignState, now: int) -> str:
    return status(state.versions(), state.closed is not None, state.settled is not None, now)


# Drafts


def test_a_draft_is_never_live_and_is_replaced_by_a_later_version_that_is_none():
    draft, real = version(draft=True), version(2)
    assert [state_at(given_versions(draft), at) for at in (START - 1, START, END)] == ["draft"] * 3
    assert state_at(given_versions(draft, real), START) == "live"
    programs = Programs()
    programs.add('{"brand":"acme","currency":"EUR"}')
    programs.add(content_of(draft))
    assert programs.judge("acme", "spring", START, bool).not_live
    programs.add(content_of(real))
    assert programs.judge("acme", "spring", START, bool).campaigns == (real,)


def test_a_draft_beside_a_live_version_leaves_that_in_force():
    programs = Programs()
    programs.add('{"brand":"acme","currency":"EUR"}')
    live = version()
    programs.add(content_of(live))
    programs.add(content_of(version(2, at=START + DAY, draft=True)))
    assert programs.judge("acme", None, START + 2 * DAY, bool).campaigns == (live,)
    assert programs.campaign("acme", "spring", START + 2 * DAY) == live


def test_a_draft_is_no_launch_on_the_free_plan_and_its_first_real_version_is():
    brand = BrandState()
    document = {"brand": "acme", "currency": "EUR", "plan": "free"}
    for event in define_brand(brand, parse(document, "test"), 1):  # type: ignore[arg-type]
        evolve_brand(brand, event)
    other = parse({"campaign": "other", "brand": "acme", "starts_at": START, "ends_at": END}, "test")
    assert isinstance(other, Campaign)
    assert [type(event).__name__ for event in define_campaign(brand, CampaignState(), version(draft=True), 1)] == [
        "CampaignDefined"
    ]
    for event in define_campaign(brand, CampaignState(), other, 1):
        if not isinstance(event, CampaignDefined):
            evolve_brand(brand, event)
    with pytest.raises(
        ProgramRefused, match=r"one campaign launch a calendar month.*the next can start from 1970-05-01"
    ):
        define_campaign(brand, given_versions(version(draft=True)), version(2), 1)


def test_a_draft_is_said_in_its_content_and_other_campaigns_content_is_as_it_was():
    assert '"draft":true' in content_of(version(draft=True))
    assert "draft" not in content_of(version(draft=False))
    with pytest.raises(DefinitionError, match="write true or false, not `1`"):
        version(draft=1)


# When it is over


def test_a_campaign_is_scheduled_then_live_then_ended_then_settled():
    state = given_versions(version())
    assert [state_at(state, at) for at in (START - 1, START, END - 1, END)] == ["scheduled", "live", "live", "ended"]
    for event in [*close(state, END)]:
        evolve_campaign(state, event)
    assert state_at(state, END) == "ended"
    for event in settle(state, [], 1, END):
        evolve_campaign(state, event)
    assert state_at(state, END) == "settled"


@pytest.mark.parametrize(
    ("versions", "end"),
    [
        ([version()], END),
        ([version(), version(2, ends=END + 9 * DAY, at=END - DAY)], END + 9 * DAY),
        ([version(), version(2, ends=END - 9 * DAY, at=END - 5 * DAY)], END - 5 * DAY),
        ([version(), version(2, ends=END + 9 * DAY, at=END + DAY)], END + 9 * DAY),
        ([version(), version(2, ends=END + 9 * DAY, at=END + 20 * DAY)], END),
        ([version(), version(2, ends=END - DAY, at=START)], END - DAY),
        ([version(at=END + DAY)], END),
        ([version(), version(2, ends=END + 9 * DAY, at=START, draft=True)], END),
    ],
    ids=["one", "extended", "cut", "goes on later", "never live again", "replaced", "never live", "a draft"],
)
def test_it_is_over_when_no_version_of_it_will_be_live_any_more(versions, end):
    found = last_live(versions)
    assert found is not None
    assert found[1] == end
    live = [at for at in range(0, END + 40 * DAY, DAY) if state_at(given_versions(*versions), at) == "live"]
    assert not live or max(live) < end


def test_it_closes_by_itself_after_the_grace_unless_it_was_over_when_it_was_accepted():
    assert closes_at(given_versions(version()), GRACE) == END + GRACE
    assert closes_at(given_versions(version(), accepted_at=END + GRACE - 1), GRACE) == END + GRACE
    assert closes_at(given_versions(version(), accepted_at=END + GRACE), GRACE) is None
    assert closes_at(given_versions(version(draft=True)), GRACE) is None
    assert closes_at(closed(version()), GRACE) is None


# Closing


def test_a_campaign_that_runs_or_is_a_draft_is_not_closed():
    with pytest.raises(CloseRefused, match="not over yet") as running:
        close(given_versions(version()), END - 1)
    assert running.value.code == "campaign_not_ended"
    with pytest.raises(CloseRefused, match="is a draft") as draft:
        close(given_versions(version(draft=True)), END)
    assert draft.value.code == "campaign_is_draft"


def test_closing_names_the_version_that_was_live_last_and_closing_again_changes_nothing():
    state = given_versions(version(), version(2, ends=END + DAY, at=END - DAY), version(3, at=END + 9 * DAY))
    assert close(state, END + DAY, "cli") == [CampaignClosed("acme", "spring", 2, END + DAY, END + DAY, "cli")]
    for event in close(state, END + DAY):
        evolve_campaign(state, event)
    assert close(state, END + 2 * DAY) == []


def test_a_closed_campaign_takes_no_new_version_but_the_same_content_again_is_no_error():
    brand = BrandState()
    for event in define_brand(brand, parse({"brand": "acme", "currency": "EUR", "plan": "pro"}, "test"), 1):  # type: ignore[arg-type]
        evolve_brand(brand, event)
    state = closed(version())
    with pytest.raises(ProgramRefused, match="the campaign is closed"):
        define_campaign(brand, state, version(2, ends=END + 9 * DAY, at=END), END + 2 * DAY)
    assert define_campaign(brand, state, version(), END + 2 * DAY) == []


# Prizes


def test_equal_scores_share_a_rank_and_each_gets_its_prize():
    state = closed(version(prizes={1: 500, 2: 300, 4: 50}))
    page, settled = settle(state, [("ann", 7), ("dan", 3), ("bob", 9), ("cat", 7)], 1, END + DAY)
    assert isinstance(page, StandingsKept)
    assert page.places == (
        Place("bob", 1, 9, 500), Place("ann", 2, 7, 300), Place("cat", 2, 7, 300), Place("dan", 4, 3, 50)
    )  # fmt: skip
    assert settled == CampaignSettled("acme", "spring", 1, "points", 4, 4, 1150, END + DAY, END + DAY)


def test_a_score_that_is_not_above_zero_wins_nothing():
    state = closed(version(prizes={1: 500}))
    for scores in ([("ann", 0)], [("ann", -4), ("bob", -4)], [("ann", None)]):
        page, settled = settle(state, scores, 1, END + DAY)
        assert isinstance(page, StandingsKept)
        assert isinstance(settled, CampaignSettled)
        assert (settled.winners, settled.points) == (0, 0)
        assert all(place.rank == 1 and place.prize == 0 for place in page.places)


def test_a_rate_is_kept_as_exact_text_and_says_how_many_posts_it_took():
    state = closed(version(standings="engagement_rate", prizes={1: 10}))
    page, settled = settle(state, [("ann", Decimal("0.012500000")), ("bob", None)], 3, END + DAY)
    assert isinstance(page, StandingsKept)
    assert isinstance(settled, CampaignSettled)
    assert page.places == (Place("ann", 1, "0.012500000", 10), Place("bob", 2, None))
    assert settled.min_posts == 3


def test_it_is_settled_once_and_only_when_it_is_closed():
    assert settle(given_versions(version()), [], 1, END) == []
    state = closed(version())
    for event in settle(state, [], 1, END + DAY):
        evolve_campaign(state, event)
    assert settle(state, [("ann", 5)], 1, END + 2 * DAY) == []


def test_standings_are_kept_whole_in_pages():
    state = closed(version(prizes={1: 5, 12_000: 1}))
    *pages, settled = settle(state, [(f"m{n:05}", 20_000 - n) for n in range(12_001)], 1, END + DAY)
    assert [(page.first, len(page.places)) for page in pages if isinstance(page, StandingsKept)] == [
        (0, 5_000), (5_000, 5_000), (10_000, 2_001)
    ]  # fmt: skip
    assert isinstance(settled, CampaignSettled)
    assert (settled.members, settled.winners, settled.points) == (12_001, 2, 6)


@given(st.dictionaries(st.text(max_size=3), st.none() | st.integers(-3, 3)))
def test_a_rank_is_one_more_than_the_number_of_members_who_are_better(scores):
    found = list(ranked(scores.items()))
    assert sorted(one.member for one in found) == sorted(scores)
    for one in found:
        better = [m for m, s in scores.items() if s is not None and (one.score is None or s > one.score)]
        assert one.rank == len(better) + 1
