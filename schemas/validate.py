"""The rules that a record must keep, checked by publishers before sending and by the intake after decoding.

What depends on the definitions (an unknown brand, a currency that is not the brand's) is not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, Final, NamedTuple

from schemas.catalogue import Schema, current

MAX_ID: Final = 200
"""Characters of an id."""
MAX_QUANTITY: Final = 10**9
MAX_AMOUNT_MINOR: Final = 10**15
MAX_FOLLOWERS: Final = 10**10
MAX_POINTS: Final = 10**15
END_OF_TIME: Final = 4_102_444_800_000 * 2
"""Times are before this, in epoch milliseconds (year 2230)."""
MAX_REASON: Final = 1_000
"""Characters of a command's reason."""
MAX_CONTENT: Final = 500_000
"""Characters of a definition's content."""


class Problem(NamedTuple):
    """What is wrong with a record, in one sentence, and with which field (empty: the record as a whole)."""

    field: str
    message: str


class Check(NamedTuple):
    """One rule of a field."""

    holds: Callable[[Any], bool]
    says: str
    """For people, after "give"."""
    quick: str = "False"
    """Source of an expression on `v` that is true for almost every good value, and for no bad one."""


class Shape(NamedTuple):
    """The rules of one record type."""

    names: frozenset[str]
    required: tuple[str, ...]
    checks: tuple[tuple[str, Callable[[Any], bool]], ...]
    optional: tuple[tuple[str, Callable[[Any], bool]], ...]
    rules: Mapping[str, Check]
    quick: Callable[[Mapping[str, Any]], bool]
    """True only when every field is there and keeps its rule: 0.9 µs for an Interaction, one call per field 2 µs."""


def problem(record_type: str, value: Mapping[str, Any]) -> Problem | None:
    """The first thing wrong with a record, or None: a missing, unknown or mistyped field, or a broken rule.

    An optional field may be absent or None. Times are epoch milliseconds; a bool is no integer.
    """
    shape = _shapes().get(record_type)
    if shape is None:
        return Problem("", f"record type {record_type!r} is unknown{_nearest(record_type, _shapes())}")
    if shape.quick(value):
        return _across(record_type, value)
    try:
        for name, holds in shape.checks:
            if not holds(value[name]):
                return _explain(shape, value, name)
        for name, holds in shape.optional:
            item = value.get(name)
            if item is not None and not holds(item):
                return _explain(shape, value, name)
    except KeyError:
        return _explain(shape, value, "")
    if not value.keys() <= shape.names:
        return _explain(shape, value, "")
    return _across(record_type, value)


def _explain(shape: Shape, value: Mapping[str, Any], broken: str) -> Problem:
    """The sentence: an unknown name first, since it is often the missing field misspelled."""
    for name in value:
        if name not in shape.names:
            return Problem(str(name), f"`{name}` is no field of this record type{_nearest(str(name), shape.names)}")
    for name in shape.required:
        if value.get(name) is None:
            return Problem(name, f"`{name}` is missing: give {shape.rules[name].says}")
    return Problem(broken, f"`{broken}` is {_shown(value[broken])}: give {shape.rules[broken].says}")


def _across(record_type: str, value: Mapping[str, Any]) -> Problem | None:
    """Rules over several fields."""
    if record_type == "Purchase" and value["kind"] == "completed" and value.get("order_id") is None:
        return Problem(
            "order_id", "`order_id` is missing: a completed purchase needs one, so that a refund can name it"
        )
    return None


def _is_id(item: Any) -> bool:
    return item.__class__ is str and 0 < len(item) <= MAX_ID and (item.isprintable() or not _CONTROL.search(item))


def _is_key_part(item: Any) -> bool:
    return _is_id(item) and "/" not in item and item.strip() == item


def _is_text(longest: int) -> Callable[[Any], bool]:
    def holds(item: Any) -> bool:
        return item.__class__ is str and len(item) <= longest and (item.isprintable() or not _UNSTORABLE.search(item))

    return holds


def _is_label(item: Any) -> bool:
    return item == "" or _is_id(item)


def _is_currency(item: Any) -> bool:
    return item.__class__ is str and len(item) == 3 and item.isascii() and item.isalpha() and item.isupper()


def _is_between(low: int, high: int) -> Callable[[Any], bool]:
    def holds(item: Any) -> bool:
        return item.__class__ is int and low <= item <= high

    return holds


def _is_one_of(symbols: frozenset[str]) -> Callable[[Any], bool]:
    def holds(item: Any) -> bool:
        return item.__class__ is str and item in symbols

    return holds


def _is_bool(item: Any) -> bool:
    return item is True or item is False


def _is_counts(item: Any) -> bool:
    return isinstance(item, Mapping) and all(
        key.__class__ is str and not _UNSTORABLE.search(key) and _LONG.holds(number) for key, number in item.items()
    )


def _nearest(name: str, names: Any) -> str:
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else f": one of {', '.join(sorted(names))}"


def _shown(item: Any) -> str:
    text = repr(item)
    return text if len(text) <= 60 else f"{text[:57]}…"


@cache
def _shapes() -> Mapping[str, Shape]:
    return {name: _shape(name, schema) for name, schema in current().items()}


def _shape(record_type: str, schema: Schema) -> Shape:
    rules: dict[str, Check] = {}
    required: list[str] = []
    for field in schema["fields"]:
        avro = field["type"]
        if isinstance(avro, list):
            avro = avro[1]
        else:
            required.append(field["name"])
        rules[field["name"]] = _rule(record_type, field["name"], avro)
    return Shape(
        names=frozenset(rules),
        required=tuple(required),
        checks=tuple((name, rules[name].holds) for name in required),
        optional=tuple((name, check.holds) for name, check in rules.items() if name not in required),
        rules=rules,
        quick=_quick(rules, required),
    )


def _quick(rules: Mapping[str, Check], required: Collection[str]) -> Callable[[Mapping[str, Any]], bool]:
    """All rules of a record type as one function; what it does not pass is judged by the rules one by one."""
    names: dict[str, Any] = {}
    lines = ["def quick(value):", f"    if len(value) != {len(rules)}: return False", "    try:"]
    for index, (name, check) in enumerate(rules.items()):
        names[f"holds{index}"] = check.holds
        absent = "" if name in required else "v is None or "
        test = f"{absent}({check.quick}) or holds{index}(v)"
        lines += [f"        v = value[{name!r}]", f"        if not ({test}): return False"]
    lines += ["    except (KeyError, TypeError): return False", "    return True"]
    exec(compile("\n".join(lines), "<rules of a record type>", "exec"), names)
    made: Callable[[Mapping[str, Any]], bool] = names["quick"]
    return made


def _rule(record_type: str, field: str, avro: Any) -> Check:
    own = _OWN.get((record_type, field)) or _BY_FIELD.get(field)
    if own is not None:
        return own
    if not isinstance(avro, dict):
        return _BY_TYPE[avro]
    if avro["type"] == "enum":
        return _one_of(avro["symbols"])
    if avro.get("logicalType") == "timestamp-millis":
        return _TIME
    return _BY_TYPE[avro["type"]]


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")


def _whole(low: int, high: int, what: str) -> Check:
    quick = f"v.__class__ is int and {low} <= v <= {high}"
    return Check(_is_between(low, high), f"a whole number from {low} to {high}{what}", quick)


def _one_of(symbols: Sequence[str]) -> Check:
    quick = f"v.__class__ is str and v in {set(symbols)}"
    return Check(_is_one_of(frozenset(symbols)), f"one of {', '.join(symbols)}", quick)


_QUICK_ID: Final = f"v.__class__ is str and 0 < len(v) <= {MAX_ID} and v.isprintable()"
_ID: Final = Check(_is_id, f"a text of 1 to {MAX_ID} characters without control characters", _QUICK_ID)
_KEY_PART: Final = Check(
    _is_key_part,
    f"a text of 1 to {MAX_ID} characters without '/', control characters or surrounding space",
    f"{_QUICK_ID} and '/' not in v and v[0] != ' ' and v[-1] != ' '",
)
_LABEL: Final = Check(_is_label, f"a text of at most {MAX_ID} characters without control characters")
_LONG: Final = _whole(-(2**63), 2**63 - 1, "")
_TIME: Final = _whole(0, END_OF_TIME - 1, ", the milliseconds since 1970-01-01T00:00:00Z")
_COUNT: Final = _whole(0, 2**63 - 1, "")
_BY_TYPE: Final[Mapping[str, Check]] = {
    "string": _ID,
    "long": _LONG,
    "int": _whole(-(2**31), 2**31 - 1, ""),
    "boolean": Check(_is_bool, "true or false"),
    "map": Check(_is_counts, "whole numbers by name"),
}
_BY_FIELD: Final[Mapping[str, Check]] = {
    "brand_id": _KEY_PART,
    "member_id": _KEY_PART,
    "campaign_id": _KEY_PART,
    "subject_id": _KEY_PART,
    "referrer_id": _KEY_PART,
    "buyer_id": _KEY_PART,
    "quantity": _whole(-MAX_QUANTITY, MAX_QUANTITY, ""),
    "amount_minor": _whole(0, MAX_AMOUNT_MINOR, " in minor units of the currency (cents), for a refund too"),
    "followers": _whole(0, MAX_FOLLOWERS, ""),
    "currency": Check(_is_currency, "three capital letters, like EUR"),
    "points": _whole(-MAX_POINTS, MAX_POINTS, ""),
    "version": _whole(1, 2**31 - 1, ""),
    "campaign_version": _whole(1, 2**31 - 1, ""),
    "rank": _whole(1, 2**31 - 1, ""),
    "reason": Check(_is_text(MAX_REASON), f"a text of at most {MAX_REASON} characters"),
    "content": Check(_is_text(MAX_CONTENT), f"canonical JSON of at most {MAX_CONTENT} characters"),
    "stamp": _COUNT,
    "position": _COUNT,
    "partition": _whole(0, 2**31 - 1, ""),
}
_OWN: Final[Mapping[tuple[str, str], Check]] = {
    ("EngagementPane", "campaign_id"): _LABEL,
    ("EngagementPane", "member_id"): _LABEL,
    ("EngagementPane", "tier"): _LABEL,
    ("EngagementPane", "platform"): _LABEL,
    ("EngagementPane", "post_id"): _LABEL,
    ("EngagementPane", "epoch"): _LABEL,
    ("MemberTier", "epoch"): _LABEL,
    ("ReferralDue", "counted_for"): Check(_is_text(MAX_CONTENT), "ids of campaigns divided by '/'"),
    ("MemberTier", "changes"): Check(_is_text(MAX_CONTENT), f"JSON of at most {MAX_CONTENT} characters"),
}
