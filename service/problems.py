"""What can go wrong towards people and programs: every HTTP problem and every exit code, in one table.

A program reads `code` (stable) or the exit code; a person reads `detail`, or the one line on standard error.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

MEDIA_TYPE: Final = "application/problem+json"

DONE: Final = 0
REFUSED: Final = 1
"""The command ran; something was refused or differs."""
COULD_NOT_RUN: Final = 2


class Kind(NamedTuple):
    """One kind of problem: its HTTP status, the exit code of a command that meets it, and its title."""

    status: int
    exit_code: int
    title: str


PROBLEMS: Final[dict[str, Kind]] = {
    "key_required": Kind(401, COULD_NOT_RUN, "An API key is needed"),
    "invalid_key": Kind(401, COULD_NOT_RUN, "The API key is unknown or revoked"),
    "insufficient_scope": Kind(403, COULD_NOT_RUN, "The scope of the API key is too small"),
    "other_brand": Kind(403, COULD_NOT_RUN, "The API key is for another brand"),
    "foreign_page": Kind(403, COULD_NOT_RUN, "The request comes from a page of another place"),
    "too_many_requests": Kind(429, COULD_NOT_RUN, "The API key has used up its rate"),
    "invalid_request": Kind(422, COULD_NOT_RUN, "A parameter or the body is not valid"),
    "invalid_time": Kind(422, COULD_NOT_RUN, "A time is not ISO 8601 with a zone"),
    "invalid_position": Kind(422, COULD_NOT_RUN, "A position is neither a number nor partition:offset"),
    "invalid_cursor": Kind(422, COULD_NOT_RUN, "The cursor is not one that an answer gave"),
    "known_at_needs_rederive": Kind(422, COULD_NOT_RUN, "Engagement reads have no recorded time"),
    "as_of_needs_rederive": Kind(422, COULD_NOT_RUN, "It is before the changes of tier that are kept"),
    "definition_refused": Kind(409, REFUSED, "The definition is not accepted"),
    "not_found": Kind(404, COULD_NOT_RUN, "There is nothing at this address"),
    "method_not_allowed": Kind(405, COULD_NOT_RUN, "This address does not take that method"),
    "unknown_brand": Kind(404, COULD_NOT_RUN, "No such brand"),
    "unknown_campaign": Kind(404, COULD_NOT_RUN, "No such campaign"),
    "unknown_member": Kind(404, COULD_NOT_RUN, "No such member"),
    "unknown_tier": Kind(404, COULD_NOT_RUN, "The brand has no such influence tier"),
    "unknown_entry": Kind(404, COULD_NOT_RUN, "No such statement entry"),
    "unknown_event": Kind(404, COULD_NOT_RUN, "Nothing in the ledger comes from this event"),
    "unknown_redemption": Kind(404, REFUSED, "No such redemption of this member"),
    "already_cancelled": Kind(409, REFUSED, "The redemption was cancelled before"),
    "campaign_not_ended": Kind(409, REFUSED, "The campaign is not over yet"),
    "campaign_is_draft": Kind(409, REFUSED, "The campaign is a draft"),
    "not_settled": Kind(409, REFUSED, "The campaign is not settled"),
    "not_derived": Kind(409, REFUSED, "The campaign's retroactive standings were not derived"),
    "campaign_open": Kind(409, REFUSED, "Nobody can leave an open campaign"),
    "too_large": Kind(413, COULD_NOT_RUN, "The body is too large"),
    "unsupported_media_type": Kind(415, COULD_NOT_RUN, "A body of this type is not read here"),
    "no_record_accepted": Kind(422, REFUSED, "None of the records is good"),
    "idempotency_key_required": Kind(400, COULD_NOT_RUN, "The Idempotency-Key header is missing"),
    "idempotency_key_reused": Kind(409, REFUSED, "This Idempotency-Key was used for another request"),
    "position_not_reached": Kind(504, COULD_NOT_RUN, "The read models have not reached that position yet"),
    "not_ready": Kind(503, COULD_NOT_RUN, "Some part does not answer yet"),
    "not_settled_yet": Kind(503, COULD_NOT_RUN, "The campaign is closed and not settled yet"),
    "no_answer_yet": Kind(503, COULD_NOT_RUN, "The command is on the log and not decided yet"),
    "unavailable": Kind(503, COULD_NOT_RUN, "A part that this needs does not answer"),
    "internal_error": Kind(500, COULD_NOT_RUN, "Groundswell failed here; its log has the details"),
}
"""Code → kind. Codes are stable: programs match on them.

A ledger refusal has a code of its own, and is a `REFUSAL` unless it is here.
"""

REFUSAL: Final = Kind(422, REFUSED, "The ledger refused the command")


def kind_of(code: str) -> Kind:
    """The kind of a code; one that is not in the table is the ledger's refusal of a command."""
    return PROBLEMS.get(code, REFUSAL)


class Unusable(Exception):
    """The command cannot run at all. Its message is one clear line: what is missing and what to do (exit code 2)."""


class Refusal(Exception):
    """A request that is answered with a problem instead of what it asked for."""

    def __init__(self, code: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.members = members
        """Further members of the problem document, such as the errors of single fields."""

    @property
    def kind(self) -> Kind:
        """Its row of the table."""
        return kind_of(self.code)


def document(code: str, detail: str, **members: Any) -> dict[str, Any]:
    """The body of an `application/problem+json` answer (RFC 9457), with the stable `code`."""
    kind = kind_of(code)
    head = {"type": f"urn:groundswell:problem:{code}", "title": kind.title, "status": kind.status}
    return {**head, "detail": detail, "code": code, **members}
