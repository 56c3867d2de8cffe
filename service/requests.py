"""Checks what HTTP and the command line ask to be put on the log, before it goes there.

A record that broke a rule would be a dead letter, and whoever asked would wait for an answer that never comes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from schemas.validate import problem
from service.problems import Refusal

REASON_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
"""Of an adjustment's reason: a word, and no control character."""
_SPEAKS_OF = {
    "event_id": "Idempotency-Key",
    "brand_id": "brand",
    "member_id": "member",
    "campaign_id": "campaign",
    "reference": "redemption",
}


def check_command(value: Mapping[str, Any]) -> None:
    """Raises `Refusal` when such a `Command` could not be on the log, or could never be carried out."""
    kind, points = value["kind"], value["points"]
    if kind == "redeem" and points < 1:
        raise Refusal(
            "invalid_request", f"points: {points} cannot be spent; give a whole number from 1", field="points"
        )
    if kind == "adjust" and not points:
        raise Refusal("invalid_request", "points: 0 changes nothing; give a number above or below 0", field="points")
    if kind == "adjust" and not re.fullmatch(REASON_PATTERN, value["reason"] or ""):
        raise Refusal(
            "invalid_request",
            "reason: say why, in words on one line, without control characters; it stays with the entry",
            field="reason",
        )
    _check("Command", value)


def check_enrolment(brand: str, member: str, campaign: str) -> None:
    """Raises `Refusal` when such an enrolment could not be on the log."""
    _check("Enrolment", {"event_id": "new", "kind": "joined", "campaign_id": campaign, **_of(brand, member)})


def _of(brand: str, member: str) -> dict[str, Any]:
    return {"occurred_at": 0, "brand_id": brand, "member_id": member}


def _check(record_type: str, value: Mapping[str, Any]) -> None:
    wrong = problem(record_type, value)
    if wrong is not None:
        field = _SPEAKS_OF.get(wrong.field, wrong.field)
        raise Refusal("invalid_request", f"{field}: {wrong.message}", field=field)
