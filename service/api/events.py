"""The route of live events: balances and scores as server-sent events, as they change."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from schemas.validate import MAX_ID
from service.api import errors
from service.api.access import KeyOf
from service.api.live import LiveEvents
from service.api.live_changes import BALANCE, STANDING
from service.api.live_readers import KINDS, Dropped, Ended, Interest, Subscription
from service.api.params import ReadsOf, described
from service.api_keys import EVERY_BRAND, Keys
from service.problems import Refusal

HEARTBEAT_SECONDS: Final = 15.0
"""After so long without a change there is a comment, so that proxies keep the connection and readers see that it is
alive; its id lets who comes back go on from now."""
RETRY_MS: Final = 2_000
"""How long a browser waits before it comes back."""
TYPES: Final = {"balances": BALANCE, "standings": STANDING}
_EXAMPLE: Final = (
    'event: balance\nid: 48213\ndata: {"brand":"acme","member_id":"ann","active":120,"pending":500,"spent":200,'
    '"expired":0,"reversed":40,"earned":860,"adjusted":0,"debt":0,"shortfall":0,"position":48213}\n\n'
    'event: standing\nid: 48214\ndata: {"brand":"acme","campaign":"spring","member_id":"ann","metric":"points",'
    '"score":430,"tier":"nano","rank":null,"final":false,"position":48214}\n\n'
)
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events `balance` (a body as of the balance route), `standing` (a member's score in a campaign) "
        "and `dropped` (`resume_from`, a ledger position; then the stream ends)",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    }
}

routes = APIRouter(prefix="/v1", tags=["events"], responses=errors.DOCUMENTED)


async def _live(request: Request) -> LiveEvents:
    live: LiveEvents = request.app.state.live
    return live


LiveOf = Annotated[LiveEvents, Depends(_live)]


class EventStream(StreamingResponse):
    """A subscription as server-sent events, until the reader goes, its key no longer holds, or the server stops."""

    media_type = "text/event-stream"

    def __init__(self, reader: Subscription, holds: Callable[[], bool]) -> None:
        super().__init__(_frames(reader, holds), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._reader = reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send, and let go of the subscription however that ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._reader.close()


async def _frames(reader: Subscription, holds: Callable[[], bool]) -> AsyncIterator[bytes]:
    yield f": connected\nretry: {RETRY_MS}\nid: {reader.position}\n\n".encode()
    try:
        while True:
            batch = await reader.take(HEARTBEAT_SECONDS)
            if not holds():
                return
            yield batch.frames if batch is not None else f": heartbeat\nid: {reader.position}\n\n".encode()
    except Dropped:
        said = json.dumps({"resume_from": reader.position})
        yield f"event: dropped\nid: {reader.position}\ndata: {said}\n\n".encode()
    except Ended:
        return


@routes.get("/events", status_code=200, response_class=EventStream, responses=_STREAM)
async def events(
    request: Request,
    live: LiveOf,
    reads: ReadsOf,
    key: KeyOf,
    brand: Annotated[
        str | None,
        Query(description="Only this brand; without it the API key's, or all", examples=["acme"], max_length=MAX_ID),
    ] = None,
    types: Annotated[
        str | None,
        described(
            "`balances`, `standings`, or both by comma, which is the default",
            pattern="^(balances|standings)(,(balances|standings))*$",
        ),
    ] = None,
    member: Annotated[str | None, Query(description="Only this member of the brand", max_length=MAX_ID)] = None,
    campaign: Annotated[
        str | None, Query(description="Only scores in this campaign of the brand", max_length=MAX_ID)
    ] = None,
    last_event_id: Annotated[
        str | None, described("Like the header, for who cannot set one; the header wins", pattern=r"^\d{1,18}$")
    ] = None,
    last_event_id_header: Annotated[
        str | None,
        Header(alias="Last-Event-ID", description="Id of the last event one has: what has changed since comes first"),
    ] = None,
) -> EventStream:
    """Balances and scores by points as they change, and places as campaigns are settled, as server-sent events.

    Values are absolute. An event's id is a ledger position; coming back with it misses nothing, and a change may come
    again. A reader that is too slow gets `dropped` and the position to come back with.
    """
    came_with = last_event_id_header if last_event_id_header is not None else last_event_id
    after = None if came_with is None else _position(came_with)
    if brand is None and key.brand != EVERY_BRAND:
        brand = key.brand
    if brand is None and (member is not None or campaign is not None):
        field = "member" if member is not None else "campaign"
        raise Refusal("invalid_request", f"{field}: name the brand too, as `brand`", field=field)
    if brand is not None:
        key.check(brand)
        await errors.in_thread(reads.check_brand, brand, campaign)
    keys: Keys | None = request.app.state.keys
    owner = "" if keys is None else key.id
    reader = await live.subscribe(Interest(brand, member, campaign, _kinds(types)), after, owner)
    return EventStream(reader, lambda: keys is None or keys.holds(key))


def _position(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text.strip(), re.ASCII):
        raise Refusal(
            "invalid_position", f"last_event_id: `{text[:40]}` is not the id of an event", field="last_event_id"
        )
    return int(text)


def _kinds(types: str | None) -> frozenset[str]:
    if types is None:
        return KINDS
    names = [name.strip() for name in types.split(",")]
    for name in names:
        if name not in TYPES:
            raise Refusal(
                "invalid_request", f"types: `{name[:40]}` is none; use balances, standings or both", field="types"
            )
    return frozenset(TYPES[name] for name in names)
