"""Routes of publishing: interactions, purchases, profiles and enrolments, for those who have no Kafka client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from schemas.catalogue import current
from schemas.validate import END_OF_TIME, MAX_AMOUNT_MINOR, MAX_FOLLOWERS, MAX_ID, MAX_QUANTITY
from service.api import audit, errors
from service.api.access import KeyOf
from service.api.activity_bodies import EVENT, EVENTS, JSON, LINES, MAX_RECORDS, records
from service.api.params import ID_PATTERN, TEXT_PATTERN, answer
from service.api.publishing import Published, Publishing
from service.feeds.reading import RECORD_TYPES
from service.instants import now_ms
from service.problems import Refusal

PUBLISH_SECONDS: Final = 10.0
"""How long the broker is waited for before the answer is 503."""
AT_ONCE: Final = 16 * 1024
"""Bytes of a body that is read in passing; a longer one is in a thread of its own."""
SOME: Final = 207
_TIME: Final = {"type": "string", "format": "date-time"}
_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": MAX_ID, "pattern": TEXT_PATTERN}
_ID: Final = {**_TEXT, "pattern": ID_PATTERN}
_FIELDS: Final[Mapping[str, dict[str, Any]]] = {
    **dict.fromkeys(("brand_id", "member_id", "campaign_id", "referrer_id"), _ID),
    "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
    "quantity": {"type": "integer", "minimum": -MAX_QUANTITY, "maximum": MAX_QUANTITY},
    "amount_minor": {"type": "integer", "minimum": 0, "maximum": MAX_AMOUNT_MINOR},
    "followers": {"type": "integer", "minimum": 0, "maximum": MAX_FOLLOWERS},
}
"""The rules of fields (`schemas/validate.py`) in the words of JSON Schema."""

routes = APIRouter(prefix="/v1/activity", tags=["activity"], responses=errors.DOCUMENTED)


async def _publish(request: Request, record_type: str, key: KeyOf) -> Response:
    publishing: Publishing = request.app.state.publishing
    body = await request.body()
    arguments = (body, request.headers.get("content-type", ""), request.headers, record_type, now_ms())
    found = records(*arguments) if len(body) <= AT_ONCE else await errors.in_thread(records, *arguments)
    done = await publishing.publish(found, key, PUBLISH_SECONDS)
    audit.note(request, accepted=done.accepted, refused=done.refused)
    if not done.accepted:
        raise Refusal(
            "no_record_accepted", "None of the records is good: see `records`.", **done.model_dump(exclude_none=True)
        )
    return answer(done, SOME if done.refused else 200)


def _route(what: str, record_type: str) -> Callable[[Request, KeyOf], Awaitable[Response]]:
    async def publish(request: Request, key: KeyOf) -> Response:
        return await _publish(request, record_type, key)

    publish.__name__ = f"publish_{what}"
    publish.__doc__ = (
        f"Publish {what}, one or up to {MAX_RECORDS:,}, in the order given; 200 once the broker has all of them.\n\n"
        "207 when some were refused, 422 when all were: `records` says why. Sending the same again is harmless."
    )
    return publish


def _schema(record_type: str) -> dict[str, Any]:
    """The JSON schema of a record, from its Avro schema."""
    fields = current()[record_type]["fields"]
    return {
        "type": "object",
        "title": record_type,
        "additionalProperties": False,
        "required": [field["name"] for field in fields if not isinstance(field["type"], list)],
        "properties": {
            field["name"]: {**_type(field["name"], field["type"]), "description": field["doc"]} for field in fields
        },
    }


def _type(name: str, avro: Any) -> dict[str, Any]:
    if isinstance(avro, list):
        return {"anyOf": [_type(name, avro[1]), {"type": "null"}]}
    if isinstance(avro, Mapping):
        if avro["type"] == "enum":
            return {"type": "string", "enum": list(avro["symbols"])}
        return {"anyOf": [_TIME, {"type": "integer", "minimum": 0, "maximum": END_OF_TIME - 1}]}
    return _FIELDS.get(name, _TEXT)


def _bodies(record_type: str) -> dict[str, Any]:
    """What the documentation says of the body."""
    one = _schema(record_type)
    some = {"type": "array", "minItems": 1, "description": f"At most {MAX_RECORDS:,}"}
    event = {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {**_TEXT, "description": "The `event_id`"},
            "source": {"type": "string", "format": "uri-reference", "minLength": 1},
            "type": {"const": f"groundswell.{record_type}"},
            "time": {**_TIME, "description": "The `occurred_at`"},
            "data": {**one, "required": [name for name in one["required"] if name not in ("event_id", "occurred_at")]},
        },
    }
    contents = {
        JSON: {"anyOf": [one, {**some, "items": one}]},
        LINES[0]: one,
        EVENT: event,
        EVENTS: {**some, "items": event},
    }
    return {"required": True, "content": {name: {"schema": schema} for name, schema in contents.items()}}


for _what, _record_type in RECORD_TYPES.items():
    routes.add_api_route(
        f"/{_what}",
        _route(_what, _record_type),
        methods=["POST"],
        response_model=Published,
        responses={
            SOME: {"model": Published, "description": "Some records were refused"},
            413: errors.described("The body, or the number of its records, is too large"),
            415: errors.described("The body is of a type that is not read here"),
            422: errors.described("The body cannot be read, or none of its records was accepted"),
        },
        openapi_extra={"requestBody": _bodies(_record_type)},
    )
