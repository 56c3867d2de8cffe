"""What routes share: parameters with their descriptions, the reads behind them, and how a body is read and sent."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from difflib import get_close_matches
from typing import Annotated, Any, Final

from fastapi import Depends, HTTPException, Path, Query, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from projections.rates import Window
from schemas.validate import MAX_ID
from service.feeds.formats import FormatError, json_body
from service.problems import Refusal
from service.reads import Reads

_INSIDE: Final = r"[^/\x00-\x1f\x7f-\x9f\u2028\u2029]"
_ENDS: Final = r"[^/\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
ID_PATTERN: Final = f"^{_ENDS}({_INSIDE}*{_ENDS})?$"
"""What an id on the log looks like (`schemas/validate.py`): no slash, no control character, no space at its ends."""
TEXT_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"
"""What other texts on the log look like: no control character."""
_POSITION: Final = r"^(\d{1,18}|\d{1,9}:\d{1,18}(,\d{1,9}:\d{1,18})*)$"
_DATE_TIME: Final = {"format": "date-time"}


def _id(description: str, example: str) -> Any:
    return Path(description=description, examples=[example], min_length=1, max_length=MAX_ID, pattern=ID_PATTERN)


def described(description: str, **schema: Any) -> Any:
    """A query parameter whose values are checked where they are used; `schema` tells others what is valid."""
    return Query(description=description, json_schema_extra=schema)


BrandId = Annotated[str, _id("Brand id", "acme")]
MemberId = Annotated[str, _id("Member id, an opaque pseudonym", "ann")]
CampaignId = Annotated[str, _id("Campaign id", "spring")]
AsOf = Annotated[
    str | None,
    Query(
        description="Effective time, ISO 8601 with zone",
        examples=["2026-03-15T12:00:00Z"],
        json_schema_extra=_DATE_TIME,
    ),
]
KnownAt = Annotated[str | None, described("Only what had been recorded by then, ISO 8601 with zone", **_DATE_TIME)]
NoKnownAt = Annotated[str | None, Query(include_in_schema=False)]
"""`known_at` where it is always refused, with the reason."""
MinPosition = Annotated[
    str | None,
    described("Wait for this `position` of an answer, or `partition:offset` of a record", pattern=_POSITION),
]
Cursor = Annotated[str | None, described("`next_cursor` of the page before", pattern=r"^\d{1,18}-[^\x00]+$")]
PlaceCursor = Annotated[str | None, described("`next_cursor` of the page before", pattern=r"^\d{1,18}$")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Rows at most")]
WindowOf = Annotated[Window, Query(description="Length of the window that ends at `as_of`")]
CampaignOf = Annotated[str | None, Query(description="Only what counts for this campaign", max_length=MAX_ID)]
PlatformOf = Annotated[str | None, Query(description="Only this platform", max_length=MAX_ID)]


class StrictRoute(APIRoute):
    """A route whose body is JSON in UTF-8 without a name twice: which of two amounts is meant would be a guess."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's, with a body that is read so (FastAPI's hook)."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_Strict(request.scope, request.receive))

        return strictly


class _Strict(Request):
    async def json(self) -> Any:
        try:
            return json_body(await self.body())
        except FormatError as error:
            raise HTTPException(400, f"body: {error}") from None


async def only_known(request: Request) -> None:
    """Raises `Refusal` for a parameter of the query that the route does not have: a misspelt `as_of` would be answered
    with the number of now."""
    if not request.scope["query_string"]:
        return
    known = _names(request.scope["route"].dependant)
    for name in request.query_params:
        if name not in known:
            name = name[:80]
            near = get_close_matches(name, known, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"it has {', '.join(sorted(known)) or 'none'}"
            raise Refusal("invalid_request", f"{name}: this address has no such parameter; {hint}", field=name)


def _names(of: Dependant) -> set[str]:
    """The parameters of a query that a route takes, its dependencies' among them."""
    return {param.alias for param in of.query_params}.union(*map(_names, of.dependencies))


async def _reads(request: Request) -> Reads:  # a function that is not async would be called in a thread
    reads: Reads = request.app.state.reads
    return reads


ReadsOf = Annotated[Reads, Depends(_reads)]


def answer(body: BaseModel, status: int = 200) -> Response:
    """The body exactly as `--json` on the command line prints it."""
    return Response(body.model_dump_json(by_alias=True), status, media_type="application/json")
