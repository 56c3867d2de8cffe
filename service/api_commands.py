"""Routes of commands: what changes a member's points travels on the log and answers when it is decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service import api_errors, commands
from service.api_params import BrandId, MemberId, ReadsOf, answer
from service.problems import Refusal
from service.requests import check_redemption

if TYPE_CHECKING:
    from service.settings import Settings

REDEMPTION_SECONDS = 5.0
"""How long a redemption waits for the worker's decision before it answers 503; the command stays on the log."""

routes = APIRouter(prefix="/v1/brands/{brand}", tags=["commands"], responses=api_errors.DOCUMENTED)


class RedemptionRequest(BaseModel):
    """Points to spend."""

    model_config = ConfigDict(extra="forbid", strict=True)

    points: int = Field(gt=0, le=10**15, description="Points to take, soonest expiry first", examples=[100])


@routes.post(
    "/members/{member}/redemptions", status_code=201, response_model=commands.RedemptionAnswer, responses={409: {}}
)
async def redeem(
    request: Request,
    reads: ReadsOf,
    brand: BrandId,
    member: MemberId,
    body: RedemptionRequest,
    idempotency_key: Annotated[str | None, Header(description="Names this redemption; a retry repeats it")] = None,
) -> Response:
    """Spend active points. A retry with the same key gets the first answer; a refusal names its `code`."""
    if not idempotency_key:
        raise Refusal(
            "idempotency_key_required",
            "A redemption needs an Idempotency-Key header, so that a retry spends nothing twice.",
        )
    check_redemption(brand, member, body.points, idempotency_key)
    await api_errors.in_thread(reads.check_brand, brand)
    settings: Settings = request.app.state.settings
    decided = await commands.redeem(settings, brand, member, body.points, idempotency_key, REDEMPTION_SECONDS)
    return answer(decided, 201)
