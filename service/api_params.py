"""What routes share: parameters with their descriptions, the reads behind them, and how a body is sent."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query, Request, Response
from pydantic import BaseModel

from projections.rates import Window
from service.reads import Reads

BrandId = Annotated[str, Path(description="Brand id", examples=["acme"], max_length=200)]
MemberId = Annotated[str, Path(description="Member id, an opaque pseudonym", examples=["ann"], max_length=200)]
CampaignId = Annotated[str, Path(description="Campaign id", examples=["spring"], max_length=200)]
AsOf = Annotated[str | None, Query(description="Effective time, ISO 8601 with zone", examples=["2026-03-15T12:00:00Z"])]
KnownAt = Annotated[str | None, Query(description="Only what had been recorded by then, ISO 8601 with zone")]
MinPosition = Annotated[
    str | None, Query(description="Wait for this `position` of an answer, or `partition:offset` of a record")
]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Rows at most")]
WindowOf = Annotated[Window, Query(description="Length of the window that ends at `as_of`")]
CampaignOf = Annotated[str | None, Query(description="Only what counts for this campaign")]
PlatformOf = Annotated[str | None, Query(description="Only this platform")]


def _reads(request: Request) -> Reads:
    reads: Reads = request.app.state.reads
    return reads


ReadsOf = Annotated[Reads, Depends(_reads)]


def answer(body: BaseModel, status: int = 200) -> Response:
    """The body exactly as `--json` on the command line prints it."""
    return Response(body.model_dump_json(by_alias=True), status, media_type="application/json")
