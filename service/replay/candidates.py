"""`replay rederive --candidate`: what would have been paid, and the standings, had other definitions applied.

The definitions of the file stand in the place of every version of the same brand or campaign, before the first record
of the log: each judges from its own `effective_at` on, whenever it was accepted, or if it never was.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from aggregates.activity import Activity
from aggregates.definitions import UNKNOWN_TIER, DefinitionError
from aggregates.engagement import increments
from aggregates.events import CommandRefused, StoredEvent
from aggregates.local_time import local_day
from aggregates.programs import Brand, Campaign, brand_in_force, from_content, unknown_tiers
from aggregates.settlement import Ranked, last_live, ranked
from projections.answers import iso
from projections.engagement.queries import score_of
from projections.queries.standings import POINTS
from service.definitions import name_of, read_definitions
from service.problems import Unusable
from service.replay.rederive_answers import (
    CampaignCompared,
    CandidateReport,
    CommandChanged,
    DayCompared,
    MemberCompared,
    TierCompared,
    WouldPlace,
    WouldStandings,
)
from service.replay.rederiving import Candidate, Told, missing_input, partitions, steps
from streams.rederive import Rederivation, Step
from streams.rederive.causes import LISTED, Comparison, brand_of
from streams.rederive.decided import Decided, DefinitionKey, definition_key

CampaignKey = tuple[str, str]
"""Brand and campaign."""


def candidate_of(file: Path) -> Candidate:
    """The definitions of a file, to be checked against what the ledger has. Raises `Unusable` for what is not one.

    A draft counts as if it were none: to see what it would do is what one asks for.
    """
    try:
        definitions = read_definitions([file])
    except DefinitionError as error:
        raise Unusable(str(error)) from None
    known: dict[DefinitionKey, Brand | Campaign] = {}
    for one in definitions:
        meant = replace(one, draft=False) if isinstance(one, Campaign) else one
        if known.setdefault(definition_key(one), meant) != meant:
            raise Unusable(f"{file}: {name_of(one)} is in it twice, with other content")

    def checked(decided: Decided) -> Sequence[Brand | Campaign]:
        for one in known.values():
            if isinstance(one, Campaign):
                _check_brand(one, _brands(one.brand, known, decided), file)
        return list(known.values())

    return checked


def _brands(brand: str, known: dict[DefinitionKey, Brand | Campaign], decided: Decided) -> list[Brand]:
    """The versions of a brand: those of the file, else those that the ledger has accepted."""
    ours = [one for one in known.values() if isinstance(one, Brand) and one.id == brand]
    accepted = [from_content(text) for key, text in decided.contents.items() if key[:2] == (brand, "")]
    return ours or [one for one in accepted if isinstance(one, Brand)]


def _check_brand(campaign: Campaign, brands: list[Brand], file: Path) -> None:
    if not brands:
        raise Unusable(f"{file}: {name_of(campaign)}: the brand {campaign.brand} is in neither the ledger nor the file")
    unknown = unknown_tiers(brand_in_force(brands, campaign.starts_at), campaign)
    if unknown:
        raise Unusable(f"{file}: {name_of(campaign)}: the brand has no tier {', '.join(unknown)}")


class Outcome:
    """Adds up what was paid and what would have been, of the campaigns that the candidate touches."""

    def __init__(self, run: Rederivation) -> None:
        self._run = run
        candidate = run.candidate
        brands = {one.id for one in candidate if isinstance(one, Brand)}
        accepted = {key: from_content(text) for key, text in run.decided.contents.items()}
        definitions = {**accepted, **{definition_key(one): one for one in candidate}}
        replaced = {definition_key(one)[:2] for one in candidate}
        ours = {definition_key(one) for one in candidate}
        self.versions: dict[CampaignKey, list[Campaign]] = defaultdict(list)
        """The campaigns that the candidate touches: its own, and all of a brand that is its own."""
        self._brands: dict[str, list[Brand]] = defaultdict(list)
        for key, one in definitions.items():
            if key[:2] in replaced and key not in ours:
                continue
            if isinstance(one, Brand):
                self._brands[one.id].append(one)
            elif key in ours or one.brand in brands:
                self.versions[one.brand, one.id].append(one)
        self.metric = {key: _shown(versions).standings for key, versions in self.versions.items()}
        self._by_panes = {key for key, metric in self.metric.items() if metric != POINTS}
        self.points: defaultdict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])
        """(what it is by, brand, campaign, its key) → points paid, and points that would have been."""
        self.scored: defaultdict[CampaignKey, dict[str, Any]] = defaultdict(dict)
        """Campaign → member → points, or counters, by its metric."""
        self.commands: list[CommandChanged] = []

    def take(self, step: Step) -> None:
        """Add one step."""
        activity = step.activity
        if step.recorded is not None:
            self._pay(step, step.recorded, 0)
        if activity is None:
            return
        if step.derived is not None:
            self._pay(step, step.derived, 1)
        if activity.type == "Command":
            self._note_command(step, activity)
        elif self._by_panes:
            self._count(activity)

    def _pay(self, step: Step, event: StoredEvent, side: int) -> None:
        aggregate = step.account or (step.row.originator if step.row is not None else "")
        brand, member = brand_of(aggregate), aggregate.rpartition("/")[2]
        moved: Counter[str] = Counter()
        for grant in getattr(event, "grants", ()):
            moved[grant.campaign] += grant.points
        for reversal in getattr(event, "reversals", ()):
            moved[reversal.campaign] -= reversal.points
        for campaign, points in moved.items():
            if (brand, campaign) not in self.versions:
                continue
            tier = getattr(event, "tier", None) or (step.activity.tier if step.activity is not None else UNKNOWN_TIER)
            day = self._day(brand, event.origin.occurred_at)  # type: ignore[union-attr]
            for by, key in (("campaign", ""), ("tier", tier), ("day", day), ("member", member)):
                self.points[by, brand, campaign, key][side] += points
            if side and (brand, campaign) not in self._by_panes:
                scores = self.scored[brand, campaign]
                scores[member] = scores.get(member, 0) + points

    def _day(self, brand: str, at: int) -> str:
        return local_day(at, self._brand(brand, at).timezone).day

    def _brand(self, brand: str, at: int) -> Brand:
        return brand_in_force(self._brands[brand], at)

    def _count(self, activity: Activity) -> None:
        """What panes would count of it for campaigns whose standings are read from panes."""
        value = activity.value
        added = None
        for campaign in activity.campaigns:
            key = campaign.brand, campaign.id
            if key in self._by_panes:
                added = increments(activity) if added is None else added
                if added:
                    self.scored[key].setdefault(value["member_id"], Counter()).update(added)

    def _note_command(self, step: Step, activity: Activity) -> None:
        recorded, would = _became(step.recorded), _became(step.derived)
        if recorded != would and len(self.commands) < LISTED:
            value = activity.value
            self.commands.append(
                CommandChanged(
                    brand=value["brand_id"],
                    member_id=value["member_id"],
                    event_id=value["event_id"],
                    recorded=recorded,
                    would=would,
                    points=value["points"],
                )
            )

    # The answer

    def rows(self, by: str) -> Iterable[tuple[str, dict[str, Any]]]:
        """What was added up by tier, day or member: the key, and the fields that all of them have; in order."""
        for (name, brand, campaign, key), (paid, would) in sorted(self.points.items()):
            if name == by:
                yield key, {"brand": brand, "campaign": campaign, **self._worth(brand, paid, would)}

    def _worth(self, brand: str, paid: int, would: int) -> dict[str, int | None]:
        value = self._newest(brand).value_per_1000
        minor = [None if value is None else round(Fraction(points * value, 1000)) for points in (paid, would)]
        return {"paid": paid, "would": would, "paid_minor": minor[0], "would_minor": minor[1]}

    def _newest(self, brand: str) -> Brand:
        return max(self._brands[brand], key=lambda version: (version.effective_at, version.version))

    def campaigns(self) -> Iterable[CampaignCompared]:
        """Each campaign in all, also one that neither paid nor would have."""
        for brand, campaign in sorted(self.versions):
            paid, would = self.points.get(("campaign", brand, campaign, ""), (0, 0))
            limited = any(version.budget is not None for version in self.versions[brand, campaign])
            yield CampaignCompared(
                brand=brand,
                campaign=campaign,
                currency=self._newest(brand).currency,
                budget_spent=self._run.spent.get((brand, campaign), 0) if limited else None,
                **self._worth(brand, paid, would),  # type: ignore[arg-type]
            )

    def ranking(self, key: CampaignKey, min_posts: int) -> Iterable[Ranked]:
        """A campaign's places by its metric, of everyone who has a score."""
        metric = self.metric[key]
        return ranked(
            (member, score if metric == POINTS else score_of(metric, score, min_posts))
            for member, score in self.scored[key].items()
        )

    def standings(self, min_posts: int) -> Iterable[WouldStandings]:
        """The ranking of each campaign by its metric."""
        for key in sorted(self.versions):
            version = _shown(self.versions[key])
            prizes = dict(version.prizes)
            yield WouldStandings(
                brand=key[0],
                campaign=key[1],
                version=version.version,
                metric=self.metric[key],
                retroactive=True,
                entries=tuple(
                    WouldPlace(
                        rank=place.rank,
                        member_id=place.member,
                        tier=self._tier(key[0], place.member),
                        score=place.score,
                        prize=prizes.get(place.rank) if (place.score or 0) > 0 else None,
                        paid=self.points.get(("member", *key, place.member), (0, 0))[0],
                    )
                    for place in self.ranking(key, min_posts)
                ),
            )

    def _tier(self, brand: str, member: str) -> str:
        for state in self._run.states.values():
            profile = state.profiles.get((brand, member))
            if profile:
                return state.tiers_of((brand, member))[0]
        return UNKNOWN_TIER


def _shown(versions: Sequence[Campaign]) -> Campaign:
    """The version by which a campaign's standings are ranked: the one that is live last."""
    last = last_live(versions)
    return versions[0] if last is None else last[0]


def _became(event: StoredEvent | None) -> str:
    """What became of a command, in a word."""
    if isinstance(event, CommandRefused):
        return event.reason
    return "nothing" if event is None else "done"


def what_if(
    run: Rederivation,
    source: str,
    min_posts: int,
    told: Told = lambda *_: None,
) -> CandidateReport:
    """Derive everything under the candidate, and compare with what was paid. Raises `Unusable`."""
    outcome = Outcome(run)
    take = outcome.take
    for step in steps(run, told):
        take(step)
    members = [MemberCompared(member_id=member, **row) for member, row in outcome.rows("member")]
    return CandidateReport(
        source=source,
        epoch=run.log.epoch,
        until=None if run.until is None else iso(run.until),
        position=run.decided.last,
        partitions=partitions(run),
        records=run.records,
        missing=missing_input(run, list(Comparison(run).missing())),
        definitions=tuple(name_of(one) for one in run.candidate),
        campaigns=tuple(outcome.campaigns()),
        tiers=tuple(TierCompared(tier=tier, **row) for tier, row in outcome.rows("tier")),
        days=tuple(DayCompared(day=day, **row) for day, row in outcome.rows("day")),
        members=tuple(sorted(members, key=lambda one: (-abs(one.difference), one.brand, one.campaign, one.member_id))),
        commands=tuple(outcome.commands),
        standings=tuple(outcome.standings(min_posts)),
    )
