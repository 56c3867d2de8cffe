"""Reads a definition document (YAML or JSON already loaded) and says in one sentence what is wrong with it."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache
from itertools import pairwise
from typing import Any, Final, NoReturn
from zoneinfo import ZoneInfo

from aggregates import definitions as names
from aggregates.definitions import Brand, Campaign, DefinitionError, Period, Rule

_MAX_POINTS: Final = 10**12
_MAX_VERSION: Final = 2**31 - 1
_MAX_TIME: Final = 2 * 4_102_444_800_000
_MAX_MULTIPLIER: Final = 1_000
_MAX_DURATION_MS: Final = 36_500 * names.DAY_MS
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION: Final = re.compile(r"(\d{1,9})(d|h|m|s)")
_MONTHS: Final = re.compile(r"(\d{1,4})(mo|y)")
_MAX_MONTHS: Final = 1_200
_UNITS: Final = {"d": names.DAY_MS, "h": names.HOUR_MS, "m": names.MINUTE_MS, "s": names.SECOND_MS}
_REQUIRED: Final = object()


def parse(document: Mapping[Any, Any], where: str) -> Brand | Campaign:
    """A brand or campaign from a loaded document; `where` names it in errors (a file and document number).

    Raises DefinitionError with one sentence for the first thing that is wrong.
    """
    if not isinstance(document, Mapping):
        raise DefinitionError(f"{where}: a definition is a mapping of keys to values; this is {_shown(document)}")
    if "campaign" in document:
        return _campaign(_Reader(where, "", document, CAMPAIGN_KEYS))
    if "brand" in document:
        return _brand(_Reader(where, "", document, BRAND_KEYS))
    raise DefinitionError(f"{where}: neither a brand nor a campaign; start it with `brand: ID` or `campaign: ID`")


def from_content(content: str) -> Brand | Campaign:
    """The definition that `content_of` wrote. Raises DefinitionError for text that it did not."""
    try:
        document = json.loads(content)
    except json.JSONDecodeError as error:
        raise DefinitionError(f"stored definition: not JSON ({error}); publish the definition again") from None
    return parse(document, "stored definition")


BRAND_KEYS: Final = ("brand", "version", "effective_at", "plan", "timezone", "currency", "tiers", "points")
CAMPAIGN_KEYS: Final = (
    *("campaign", "brand", "version", "effective_at", "starts_at", "ends_at"),
    *("budget", "join", "earn", "standings", "prizes", "draft"),
)
POINTS_KEYS: Final = ("expire_after", "negative_balance", "value_per_1000")
RULE_KEYS: Final = (
    *("rule", "on", "kind", "surface", "platform", "per_minor", "points", "tier_multiplier", "caps", "hold"),
    "first_time",
)


class _Reader:
    """One mapping of a definition, read key by key; a key that nobody reads is refused with the nearest allowed one."""

    def __init__(self, where: str, path: str, value: Any, allowed: Sequence[str] | None) -> None:
        self.where, self.path, self.allowed = where, path, allowed
        if not isinstance(value, Mapping):
            raise DefinitionError(f"{where}: {path}: write keys and values here, not {_shown(value)}")
        # YAML 1.1 reads the bare key `on` as the boolean true.
        self.value = {("on" if key is True else str(key)): item for key, item in value.items()}
        for key in self.value:
            if allowed is not None and key not in allowed:
                near = difflib.get_close_matches(key, allowed, 1)
                hint = f"did you mean `{near[0]}`?" if near else f"allowed are {', '.join(allowed)}"
                self.fail(key, f"unknown key; {hint}")

    def fail(self, key: str, message: str) -> NoReturn:
        raise DefinitionError(f"{self.where}: {self.path}{key}: {message}")

    def get(self, key: str, default: Any = _REQUIRED) -> Any:
        found = self.value.get(key)
        if found is not None:
            return found
        if default is _REQUIRED:
            self.fail(key, "missing; add it")
        return default

    def below(self, key: str, allowed: Sequence[str] | None) -> _Reader:
        return _Reader(self.where, f"{self.path}{key}.", self.get(key, {}), allowed)

    def identifier(self, key: str) -> str:
        return self.checked_id(key, self.get(key))

    def checked_id(self, key: str, found: Any) -> str:
        if not isinstance(found, str):
            self.fail(key, f"an id is text; put {_shown(found)} in quotes")
        if not 0 < len(found) <= 200 or any(c == "/" or c.isspace() or not c.isprintable() for c in found):
            self.fail(key, f"{_shown(found)} is no id; use 1 to 200 characters, no `/`, spaces or control characters")
        return found

    def integer(self, key: str, default: Any = _REQUIRED, least: int = 0, most: int = _MAX_POINTS) -> Any:
        found = self.get(key, default)
        if self.value.get(key) is None:
            return found
        if not isinstance(found, int) or isinstance(found, bool):
            self.fail(key, f"write a whole number, not {_shown(found)}")
        if not least <= found <= most:
            self.fail(key, f"{found} is out of range; use {least} to {most}")
        return found

    def choice(self, key: str, allowed: Sequence[str], default: Any = _REQUIRED) -> str:
        return self.checked_choice(key, self.get(key, default), allowed)

    def checked_choice(self, key: str, found: Any, allowed: Sequence[str]) -> str:
        if not isinstance(found, str) or found not in allowed:
            near = difflib.get_close_matches(str(found), allowed, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"use one of {', '.join(allowed)}"
            self.fail(key, f"{_shown(found)} is not allowed; {hint}")
        return found

    def listed(self, key: str, allowed: Sequence[str] | None) -> tuple[str, ...]:
        found = self.get(key, ())
        items = (found,) if isinstance(found, str) else found
        if not isinstance(items, list | tuple):
            self.fail(key, f"write a list such as [{allowed[0] if allowed else 'x'}], not {_shown(found)}")
        if not items and self.value.get(key) is not None:  # `content_of` writes none, so what is stored has none
            self.fail(key, f"an empty list names nothing; leave `{key}` out for any, or write what it is about")
        checked = [self.checked_choice(key, i, allowed) if allowed else self.checked_id(key, i) for i in items]
        return tuple(sorted(set(checked)))

    def time(self, key: str, default: Any = _REQUIRED) -> int:
        found = self.get(key, default)
        advice = "write it as 2026-03-01T00:00:00Z, with a zone"
        if isinstance(found, int) and not isinstance(found, bool):
            ms = found
        else:
            if isinstance(found, str):
                try:
                    found = datetime.fromisoformat(found)
                except ValueError:
                    self.fail(key, f"{_shown(found)} is no time; {advice}")
            if not isinstance(found, datetime):
                self.fail(key, f"{_shown(found)} is no time; {advice}")
            if found.utcoffset() is None:
                self.fail(key, f"the time {_shown(found)} has no zone; {advice}")
            ms = (found - _EPOCH) // timedelta(milliseconds=1)
        if not 0 <= ms < _MAX_TIME:
            self.fail(key, f"{_shown(found)} is out of range; use a time between 1970 and 2229")
        return ms

    def duration(self, key: str, default: str, allowed: str = "14d, 12h or 0d") -> int:
        """Milliseconds."""
        found = self.get(key, default)
        match = _DURATION.fullmatch(found) if isinstance(found, str) else None
        if match is None:
            self.fail(key, f"{_shown(found)} is no duration; write it like {allowed}")
        ms = int(match[1]) * _UNITS[match[2]]
        if ms > _MAX_DURATION_MS:
            self.fail(key, f"{found} is too long; use at most 36500d")
        return ms

    def expiry(self, key: str) -> Period | None:
        """Days, or months (twelve for a year); None for `none`."""
        found = self.get(key, "none")
        if found == "none":
            return None
        match = _MONTHS.fullmatch(found) if isinstance(found, str) else None
        if match is None:
            days, rest = divmod(self.duration(key, "none", "365d, 12mo, 1y or none"), names.DAY_MS)
            if rest or not days:
                self.fail(key, "points expire at midnight; use whole days such as 365d, at least 1d, or 12mo, 1y, none")
            return Period(days, "d")
        months = int(match[1]) * (12 if match[2] == "y" else 1)
        if not 1 <= months <= _MAX_MONTHS:
            self.fail(key, f"{found} is out of range; use 1mo to 100y")
        return Period(months, "mo")

    def flag(self, key: str) -> bool:
        found = self.get(key, False)
        if not isinstance(found, bool):
            self.fail(key, f"write true or false, not {_shown(found)}")
        return found


def _shown(value: Any) -> str:
    if isinstance(value, date):
        return f"`{value.isoformat()}`"
    text = f"`{value}`" if isinstance(value, str) else f"`{value!r}`"
    return text if len(text) <= 80 else text[:76] + "…`"


@cache
def _is_timezone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return False
    return True


def _brand(reader: _Reader) -> Brand:
    version = reader.integer("version", 1, least=1, most=_MAX_VERSION)
    effective_at = reader.time("effective_at", 0 if version == 1 else _REQUIRED)
    timezone = reader.get("timezone", "UTC")
    if not isinstance(timezone, str) or not _is_timezone(timezone):
        reader.fail("timezone", f"{_shown(timezone)} is no known timezone; use an IANA name such as Europe/Paris")
    currency = reader.get("currency")
    if not isinstance(currency, str) or not re.fullmatch(r"[A-Z]{3}", currency):
        reader.fail("currency", f"{_shown(currency)} is no currency code; use three capital letters such as EUR")
    points = reader.below("points", POINTS_KEYS)
    return Brand(
        id=reader.identifier("brand"),
        version=version,
        effective_at=effective_at,
        plan=reader.choice("plan", names.PLANS, "free"),
        timezone=timezone,
        currency=currency,
        tiers=_tiers(reader),
        expire_after=points.expiry("expire_after"),
        negative_balance=points.choice("negative_balance", ("allow", "forbid"), "forbid") == "allow",
        value_per_1000=points.integer("value_per_1000", None),
    )


def _tiers(reader: _Reader) -> tuple[tuple[str, int], ...]:
    if reader.get("tiers", None) is None:
        return names.DEFAULT_TIERS
    bands = reader.below("tiers", None)
    tiers = tuple((bands.checked_id(name, name), bands.integer(name)) for name in bands.value)
    bounds = [bound for _, bound in tiers]
    if any(name == names.UNKNOWN_TIER for name, _ in tiers):
        bands.fail(names.UNKNOWN_TIER, "this name means a member without a profile; use another one")
    if not bounds or bounds[0] != 0 or any(low >= high for low, high in pairwise(bounds)):
        reader.fail("tiers", f"lower bounds {bounds} overlap or leave a gap; they must strictly increase from 0")
    return tiers


def _campaign(reader: _Reader) -> Campaign:
    version = reader.integer("version", 1, least=1, most=_MAX_VERSION)
    starts_at, ends_at = reader.time("starts_at"), reader.time("ends_at")
    if ends_at <= starts_at:
        reader.fail("ends_at", "it is not after starts_at; the campaign would never be live")
    if version > 1 and reader.get("effective_at", None) is None:
        reader.fail("effective_at", f"missing; version {version} needs the time from which it applies")
    return Campaign(
        id=reader.identifier("campaign"),
        brand=reader.identifier("brand"),
        version=version,
        effective_at=reader.time("effective_at", starts_at),
        starts_at=starts_at,
        ends_at=ends_at,
        budget=reader.integer("budget", None),
        join=reader.choice("join", names.JOINS, "open"),
        earn=_rules(reader),
        standings=reader.choice("standings", names.METRICS, "points"),
        prizes=_prizes(reader),
        draft=reader.flag("draft"),
    )


def _rules(reader: _Reader) -> tuple[Rule, ...]:
    found = reader.get("earn", [])
    if not isinstance(found, list):
        reader.fail("earn", f"write a list of rules, not {_shown(found)}")
    rules: list[Rule] = []
    for index, item in enumerate(found):
        one = _Reader(reader.where, f"earn[{index}].", item, RULE_KEYS)
        rule = _rule(one)
        if any(rule.name == other.name for other in rules):
            one.fail("rule", f"`{rule.name}` names two rules of this campaign; give each its own name")
        rules.append(rule)
    return tuple(rules)


def _rule(reader: _Reader) -> Rule:
    on = reader.choice("on", names.TRIGGERS)
    money = on != "interaction"
    _only(reader, money, ("kind", "surface", "platform"), "only a rule on interaction has this filter; remove it")
    _only(reader, not money, ("per_minor",), "only a rule on purchase or referral counts money; remove it")
    caps = reader.below("caps", names.CAPS)
    _only(caps, money, ("per_post",), "only a rule on interaction has posts; remove it")
    multipliers = reader.below("tier_multiplier", None)
    return Rule(
        name=reader.identifier("rule"),
        on=on,
        points=reader.integer("points", least=1),
        per=reader.integer("per_minor", 0, least=1),
        kinds=reader.listed("kind", names.KINDS),
        surfaces=reader.listed("surface", names.SURFACES),
        platforms=reader.listed("platform", None),
        multipliers=tuple(
            sorted((multipliers.checked_id(tier, tier), _milli(multipliers, tier)) for tier in multipliers.value)
        ),
        caps=tuple((cap, caps.integer(cap)) for cap in names.CAPS if caps.get(cap, None) is not None),
        hold_ms=reader.duration("hold", "0d"),
        first_time=reader.flag("first_time"),
    )


def _only(reader: _Reader, refused: bool, keys: Iterable[str], message: str) -> None:
    for key in keys:
        if refused and reader.get(key, None) is not None:
            reader.fail(key, message)


def _milli(reader: _Reader, tier: str) -> int:
    """A multiplier in thousandths, exact: a number is taken as it was written, never as its binary fraction."""
    found = reader.get(tier)
    try:
        value = Decimal("nan") if isinstance(found, bool) else Decimal(str(found))
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite() or not 0 <= value <= _MAX_MULTIPLIER:
        reader.fail(tier, f"{_shown(found)} is no multiplier; use a number from 0 to {_MAX_MULTIPLIER}")
    milli = value * 1000
    if milli != milli.to_integral_value():
        reader.fail(tier, f"{found} has more than three decimal places; round it to three")
    return int(milli)


def _prizes(reader: _Reader) -> tuple[tuple[int, int], ...]:
    prizes = reader.below("prizes", None)
    for rank in prizes.value:
        if not re.fullmatch(r"[1-9][0-9]{0,5}", rank):
            prizes.fail(rank, "a prize is for a rank; use 1, 2, 3, …")
    return tuple(sorted((int(rank), prizes.integer(rank, least=1)) for rank in prizes.value))
