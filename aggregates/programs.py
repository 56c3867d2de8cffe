"""Which brand and campaign versions a record counts for: the definitions seen so far on the log, looked up by time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, TypeVar

from aggregates.definitions import CAPS, Brand, Campaign, DefinitionError, Rule, content_of
from aggregates.parsing import from_content, parse

__all__ = [
    "Bands",
    "Brand",
    "Campaign",
    "DefinitionError",
    "Judgement",
    "Programs",
    "Rule",
    "content_of",
    "from_content",
    "in_force",
    "parse",
    "unknown_tiers",
]

_Version = TypeVar("_Version", Brand, Campaign)


class Judgement(NamedTuple):
    """What one record counts for, by the definitions seen before it."""

    problem: str
    """`unknown_brand` or `unknown_campaign` (then it is a dead letter), else empty."""
    brand: Brand | None
    """The version in force when it occurred; None only for an unknown brand."""
    campaigns: tuple[Campaign, ...]
    """Live, and the member takes part; in order of their ids."""
    not_live: bool
    """It names a campaign that was not live: it counts nowhere."""
    not_joined: tuple[Campaign, ...]
    """Live opt-in campaigns that it would count for had the member joined."""


NO_LIMIT: Final = 1 << 62
"""Points that nobody pays: of a cap that only counts."""
_EVER: Final = -(1 << 62)
"""Before any instant, in epoch milliseconds."""
_UNKNOWN_BRAND: Final = Judgement("unknown_brand", None, (), False, ())


def in_force(versions: Sequence[_Version], at: int) -> _Version | None:
    """The version with the greatest `effective_at` not after `at`; of equal ones the greatest version number."""
    fitting = [version for version in versions if version.effective_at <= at]
    return max(fitting, key=lambda version: (version.effective_at, version.version), default=None)


def campaign_in_force(versions: Iterable[Campaign], at: int) -> Campaign | None:
    """Like `in_force`, of the versions that are no drafts."""
    return in_force([version for version in versions if not version.draft], at)


def brand_in_force(versions: Sequence[Brand], at: int) -> Brand:
    """Like `in_force`; before the first version takes effect it is the earliest. `versions` is not empty."""
    found = in_force(versions, at)
    return found or min(versions, key=lambda version: (version.effective_at, version.version))


class Bands(NamedTuple):
    """The influence tiers of a brand over time, as far as they are defined."""

    starts: tuple[int, ...]
    """From when each of `brands` applies, ascending epoch milliseconds; the first stands before all instants."""
    brands: tuple[Brand, ...]
    """The versions that change the tiers."""
    bounds: tuple[int, ...]
    """Every lower bound in followers that any of them has, ascending."""

    def at(self, at: int) -> Brand:
        """A version with the tiers in force at an instant."""
        return self.brands[bisect_right(self.starts, at) - 1]

    def place(self, followers: int) -> int:
        """The stretch between two bounds that followers are in: those of one stretch are in one tier at any time."""
        return bisect_right(self.bounds, followers)


def _bands_of(versions: Iterable[Brand]) -> Bands:
    """The tiers of a brand by its versions, as `brand_in_force` has them; `versions` is not empty."""
    ordered = sorted(versions, key=lambda version: (version.effective_at, version.version))
    last_at = {version.effective_at: version for version in ordered}
    starts, brands = [_EVER], ordered[:1]
    for start, brand in last_at.items():
        if brand.tiers != brands[-1].tiers:
            starts.append(start)
            brands.append(brand)
    return Bands(tuple(starts), tuple(brands), tuple(sorted({bound for one in ordered for _, bound in one.tiers})))


def unknown_tiers(brand: Brand, campaign: Campaign) -> list[str]:
    """Tiers that the campaign's multipliers name and the brand does not have: most likely misspelt."""
    known = {name for name, _ in brand.tiers} | {"unknown"}
    return sorted({tier for rule in campaign.earn for tier, _ in rule.multipliers} - known)


def _counting_alike(versions: Mapping[int, Campaign]) -> dict[int, Campaign]:
    """The versions of a campaign, each counting what a cap of any of them is about, though not limited by it.

    So what one version pays uses up the room of another. They are new objects: what was judged by them before is not
    touched, wherever it is on its way.
    """
    caps: dict[str, set[str]] = {}
    for version in versions.values():
        for rule in version.earn:
            caps.setdefault(rule.name, set()).update(cap for cap, _ in rule.caps if cap != "per_event")

    def alike(version: Campaign) -> Campaign:
        earn = []
        for rule in version.earn:
            own = dict(rule.caps)
            named = [cap for cap in CAPS if cap in own or cap in caps[rule.name]]
            earn.append(replace(rule, caps=tuple((cap, own.get(cap, NO_LIMIT)) for cap in named)))
        return replace(version, earn=tuple(earn))

    return {number: alike(version) for number, version in versions.items()} if len(versions) > 1 else dict(versions)


class _Slot:
    """The answers for one stretch of time in which no version starts to apply and no campaign starts or ends."""

    __slots__ = ("brand", "everything", "live", "named", "not_live", "opt_in", "unknown_campaign")

    def __init__(self, brand: Brand, live: Sequence[Campaign]) -> None:
        self.brand = brand
        self.live = {campaign.id: campaign for campaign in live}
        self.opt_in = any(campaign.join == "opt_in" for campaign in live)
        self.everything = Judgement("", brand, tuple(live), False, ())
        self.named = {campaign.id: Judgement("", brand, (campaign,), False, ()) for campaign in live}
        self.not_live = Judgement("", brand, (), True, ())
        self.unknown_campaign = Judgement("unknown_campaign", brand, (), False, ())


class _BrandPrograms:
    """All versions of one brand and of its campaigns, with the slots that were asked for so far."""

    __slots__ = ("_bands", "brands", "campaigns", "cuts", "slots")

    def __init__(self) -> None:
        self.brands: dict[int, Brand] = {}
        self._bands: Bands | None = None
        self.campaigns: dict[str, dict[int, Campaign]] = {}
        self.cuts: list[int] = []
        self.slots: dict[int, _Slot] = {}

    def add(self, definition: Brand | Campaign) -> None:
        if isinstance(definition, Brand):
            self.brands[definition.version] = definition
            self._bands = None
        else:
            versions = {**self.campaigns.get(definition.id, {}), definition.version: definition}
            self.campaigns[definition.id] = _counting_alike(versions)
        cuts = {brand.effective_at for brand in self.brands.values()}
        for versions in self.campaigns.values():
            for version in versions.values():
                cuts.update((version.effective_at, version.starts_at, version.ends_at))
        self.cuts = sorted(cuts)
        self.slots = {}

    @property
    def bands(self) -> Bands | None:
        if self._bands is None and self.brands:
            self._bands = _bands_of(self.brands.values())
        return self._bands

    def slot(self, at: int) -> _Slot:
        index = bisect_right(self.cuts, at)
        found = self.slots.get(index)
        if found is None:
            applicable = [campaign_in_force(self.campaigns[name].values(), at) for name in sorted(self.campaigns)]
            live = [campaign for campaign in applicable if campaign is not None and campaign.live_at(at)]
            found = self.slots[index] = _Slot(brand_in_force(list(self.brands.values()), at), live)
        return found


class Programs:
    """The brand and campaign versions that stand before a point in the log.

    Answers are made once for each stretch of time between two changes, so judging a record is one binary search.
    """

    __slots__ = ("_brands",)

    def __init__(self) -> None:
        self._brands: dict[str, _BrandPrograms] = {}

    def add(self, content: str) -> Brand | Campaign:
        """Take in a definition's canonical JSON; the same version again replaces it. Raises DefinitionError."""
        definition = from_content(content)
        brand_id = definition.id if isinstance(definition, Brand) else definition.brand
        self._brands.setdefault(brand_id, _BrandPrograms()).add(definition)
        return definition

    def brand(self, brand_id: str, at: int) -> Brand | None:
        """The brand's version in force at that time; None for an unknown brand."""
        programs = self._brands.get(brand_id)
        return programs.slot(at).brand if programs is not None and programs.brands else None

    def bands(self, brand_id: str) -> Bands | None:
        """The brand's tiers over time; None for an unknown brand."""
        programs = self._brands.get(brand_id)
        return programs.bands if programs is not None else None

    def bands_after(self, at: int) -> list[tuple[int, str]]:
        """When brands get other tiers, after an instant: (epoch milliseconds, brand), ascending."""
        known = [(brand, programs.bands) for brand, programs in self._brands.items() if programs.bands is not None]
        return sorted((start, brand) for brand, bands in known for start in bands.starts[1:] if start > at)

    def campaign(self, brand_id: str, campaign_id: str, at: int) -> Campaign | None:
        """The campaign's version in force at that time, live or not; None if there is none."""
        programs = self._brands.get(brand_id)
        versions = programs.campaigns.get(campaign_id) if programs is not None else None
        return campaign_in_force(versions.values(), at) if versions else None

    def judge(
        self, brand_id: str, campaign_id: str | None, occurred_at: int, joined: Callable[[str], bool]
    ) -> Judgement:
        """What a record counts for; `joined` says whether the member takes part in an opt-in campaign."""
        programs = self._brands.get(brand_id)
        if programs is None or not programs.brands:
            return _UNKNOWN_BRAND
        slot = programs.slot(occurred_at)
        if campaign_id is not None:
            campaign = slot.live.get(campaign_id)
            if campaign is None:
                return slot.not_live if campaign_id in programs.campaigns else slot.unknown_campaign
            if campaign.join == "open" or joined(campaign_id):
                return slot.named[campaign_id]
            return Judgement("", slot.brand, (), False, (campaign,))
        if not slot.opt_in:
            return slot.everything
        taking_part: list[Campaign] = []
        left_out: list[Campaign] = []
        for campaign in slot.live.values():
            (taking_part if campaign.join == "open" or joined(campaign.id) else left_out).append(campaign)
        return Judgement("", slot.brand, tuple(taking_part), False, tuple(left_out))

    def named(self, brand_id: str, campaign_ids: Iterable[str], at: int) -> tuple[Campaign, ...]:
        """Those of the campaigns that are defined, in the versions in force at `at`, live or not; else in the last."""
        campaigns = self._brands[brand_id].campaigns
        known = [campaigns[one] for one in campaign_ids if one in campaigns]
        return tuple(campaign_in_force(versions.values(), at) or versions[max(versions)] for versions in known)
