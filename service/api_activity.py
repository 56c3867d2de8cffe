"""Routes of publishing: interactions, purchases, profiles and enrolments, for those who have no Kafka client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from schemas.catalogue import current
from service import api_audit, api_errors
from service.activity_bodies import EVENT, EVENTS, JSON, LINES, MAX_RECORDS, records
from service.api_access import KeyOf
from service.api_params import answer
from service.instants import now_ms
from service.problems import Refusal
from service.publishing import Published, Publishing
from service.reading import RECORD_TYPES

PUBLISH_SECONDS: Final = 10.0
"""How long the broker is waited for before the answer is 503."""
AT_ONCE: Final = 16 * 1024
"""Bytes of a body that is read in passing; a longer one is in a thread of its own."""
SOME: Final = 207

routes = APIRouter(prefix="/v1/activity", tags=["activity"], responses=api_errors.DOCUMENTED)


async def _publish(request: Request, record_type: str, key: KeyOf) -> Response:
    publishing: Publishing = request.app.state.publishing
    body = await request.body()
    arguments = (body, request.headers.get("content-type", ""), request.headers, record_type, now_ms())
    found = records(*arguments) if len(body) <= AT_ONCE else await api_errors.in_thread(records, *arguments)
    done = await publishing.publish(found, key, PUBLISH_SECONDS)
    api_audit.note(request, accepted=done.accepted, refused=done.refused)
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
        "properties": {field["name"]: {**_type(field["type"]), "description": field["doc"]} for field in fields},
    }


def _type(avro: Any) -> dict[str, Any]:
    if isinstance(avro, list):
        return {"anyOf": [_type(avro[1]), {"type": "null"}]}
    if isinstance(avro, Mapping):
        if avro["type"] == "enum":
            return {"type": "string", "enum": list(avro["symbols"])}
        return {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}]}
    return {"type": "string"} if avro == "string" else {"type": "integer"}


def _bodies(record_type: str) -> dict[str, Any]:
    """What the documentation says of the body."""
    one = _schema(record_type)
    many = {"type": "array", "items": one, "minItems": 1, "maxItems": MAX_RECORDS}
    event = {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "description": "The `event_id`"},
            "source": {"type": "string", "format": "uri-reference"},
            "type": {"const": f"groundswell.{record_type}"},
            "time": {"type": "string", "format": "date-time", "description": "The `occurred_at`"},
            "data": {**one, "required": [name for name in one["required"] if name not in ("event_id", "occurred_at")]},
        },
    }
    contents = {
        JSON: {"anyOf": [one, many]},
        LINES[0]: one,
        EVENT: event,
        EVENTS: {"type": "array", "items": event, "minItems": 1, "maxItems": MAX_RECORDS},
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
            413: api_errors.described("The body, or the number of its records, is too large"),
            415: api_errors.described("The body is of a type that is not read here"),
            422: api_errors.described("The body cannot be read, or none of its records was accepted"),
        },
        openapi_extra={"requestBody": _bodies(_record_type)},
    )
