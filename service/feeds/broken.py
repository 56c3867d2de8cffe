"""Records that must be refused: each way of breaking one, as real feeds and forgers find them.

Bytes that are no record, a record that breaks a rule, and one that is not theirs to send.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple

from schemas.codec import encode
from schemas.topics import activity_key


class Broken(NamedTuple):
    """Bytes and key to publish that the intake must refuse."""

    raw: bytes
    key: bytes


Break = Callable[[str, dict[str, Any], Random], Broken]
"""From the type and the fields of a good record, with an id of its own."""


def _key(value: dict[str, Any]) -> bytes:
    return activity_key(value["brand_id"], value["member_id"])


def _garbage(_: str, value: dict[str, Any], random: Random) -> Broken:
    return Broken(b"\x00" + random.randbytes(random.randrange(1, 60)), _key(value))


def _cut_short(record_type: str, value: dict[str, Any], _: Random) -> Broken:
    return Broken(encode(record_type, value)[:-4], _key(value))


def _purchase(value: dict[str, Any], **changed: Any) -> Broken:
    head = {name: value[name] for name in ("event_id", "occurred_at", "brand_id", "member_id")}
    body = {"order_id": value["event_id"], "kind": "completed", "amount_minor": 1_000, "currency": "EUR"}
    return Broken(encode("Purchase", {**head, **body, **changed}), _key(value))


def _negative(_: str, value: dict[str, Any], __: Random) -> Broken:
    return _purchase(value, amount_minor=-1_000)


def _other_currency(_: str, value: dict[str, Any], __: Random) -> Broken:
    return _purchase(value, currency="USD")


def _unknown_campaign(record_type: str, value: dict[str, Any], _: Random) -> Broken:
    return Broken(encode(record_type, {**value, "campaign_id": "no-such-campaign"}), _key(value))


def _from_the_future(record_type: str, value: dict[str, Any], _: Random) -> Broken:
    return Broken(encode(record_type, {**value, "occurred_at": 7_258_118_400_000}), _key(value))  # the year 2200


def _under_anothers_key(record_type: str, value: dict[str, Any], _: Random) -> Broken:
    return Broken(encode(record_type, value), activity_key(value["brand_id"], f"{value['member_id']}x"))


def _forged(_: str, value: dict[str, Any], __: Random) -> Broken:
    """A reward that nobody earned: internal, and without our signature."""
    head = {name: value[name] for name in ("event_id", "occurred_at", "brand_id", "member_id")}
    body = {"buyer_id": "nobody", "order_id": value["event_id"], "kind": "completed", "amount_minor": 100_000}
    return Broken(encode("ReferralDue", {**head, **body, "currency": "EUR", "new_customer": True}), _key(value))


BREAKS: Final[tuple[Break, ...]] = (
    *(_garbage, _cut_short, _negative, _other_currency),
    *(_unknown_campaign, _from_the_future, _under_anothers_key, _forged),
)
"""Every way; the intake has another reason for each."""
