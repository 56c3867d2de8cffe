"""Routes of commands: what changes a member's account travels on the log and answers when it is decided."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from schemas.validate import MAX_ID, MAX_POINTS, MAX_REASON
from service.api import errors
from service.api.access import KeyOf
from service.api.params import ID_PATTERN, BrandId, CampaignId, MemberId, ReadsOf, StrictRoute, answer
from service.command_answers import AdjustmentAnswer, CancellationAnswer, EnrolmentAnswer, RedemptionAnswer
from service.commands import Command, Commands
from service.problems import Refusal
from service.requests import REASON_PATTERN, check_command

KEY_PATTERN: Final = r"^[!-~]([ -~]*[!-~])?$"
"""Of keys that every client can send; other printable characters are keys too."""
COMMAND_SECONDS: Final = 5.0
"""How long a command waits for the worker's decision before it answers 503; it stays on the log."""

routes = APIRouter(prefix="/v1/brands/{brand}", tags=["commands"], responses=errors.DOCUMENTED, route_class=StrictRoute)


async def _commands(request: Request) -> Commands:
    commands: Commands = request.app.state.commands
    return commands


async def _key(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Names this command of the member, in 1 to 200 characters. A retry with it gets the first "
            "answer and does nothing again; another command with it is refused.",
            examples=["order-77"],
            json_schema_extra={"minLength": 1, "maxLength": MAX_ID, "pattern": KEY_PATTERN},
        ),
    ] = None,
) -> str:
    key = (idempotency_key or "").strip(" \t")  # white space around a header's value is none of it
    if not key:
        raise Refusal(
            "idempotency_key_required",
            "A command needs an Idempotency-Key header, so that a retry does nothing twice.",
        )
    if len(request.headers.getlist("idempotency-key")) > 1:
        raise Refusal("invalid_request", "Idempotency-Key: send one; which of several counts would be a guess.")
    return key


CommandsOf = Annotated[Commands, Depends(_commands)]
Key = Annotated[str, Depends(_key)]
RedemptionId = Annotated[
    str,
    Path(
        description="`redemption_id` of the redemption",
        examples=["5d41402abc4b2a76"],
        min_length=1,
        max_length=MAX_ID,
        pattern=ID_PATTERN,
    ),
]
REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    400: errors.described("The Idempotency-Key is missing"),
    409: errors.described("The key was used for another command, or it was done before: see `code`"),
    413: errors.described("The body is too large"),
}


class RedemptionRequest(BaseModel):
    """Points to spend."""

    model_config = ConfigDict(extra="forbid", strict=True)

    points: int = Field(gt=0, le=MAX_POINTS, description="Points to take, soonest expiry first", examples=[100])


class AdjustmentRequest(BaseModel):
    """Points to add or take by hand."""

    model_config = ConfigDict(extra="forbid", strict=True)

    points: int = Field(
        ge=-MAX_POINTS,
        le=MAX_POINTS,
        description="Points to add, or below zero: to take; not 0",
        examples=[-50],
        json_schema_extra={"not": {"const": 0}},
    )
    reason: str = Field(
        min_length=1,
        max_length=MAX_REASON,
        description="Why, in words",
        examples=["goodwill after a late parcel"],
        json_schema_extra={"pattern": REASON_PATTERN},
    )


async def _checked(reads: ReadsOf, command: Command) -> Command:
    """The command, of a brand that there is; what could not be on the log is refused before the database is asked."""
    check_command(command.record(0))
    await errors.in_thread(reads.check_brand, command.brand)
    return command


@routes.post("/members/{member}/redemptions", status_code=201, response_model=RedemptionAnswer, responses=REFUSED)
async def redeem(
    commands: CommandsOf,
    reads: ReadsOf,
    brand: BrandId,
    member: MemberId,
    body: RedemptionRequest,
    key: Key,
    who: KeyOf,
) -> Response:
    """Spend active points. A retry with the same key gets the first answer; a refusal names its `code`."""
    command = await _checked(reads, Command("redeem", brand, member, key, body.points, requested_by=who.asker))
    return answer(await commands.redeem(command, COMMAND_SECONDS), 201)


@routes.post(
    "/members/{member}/redemptions/{redemption}/cancel",
    status_code=201,
    response_model=CancellationAnswer,
    responses=REFUSED,
)
async def cancel(
    commands: CommandsOf,
    reads: ReadsOf,
    brand: BrandId,
    member: MemberId,
    redemption: RedemptionId,
    key: Key,
    who: KeyOf,
) -> Response:
    """Give the points of a redemption back, with the expiry they had; what has expired since comes back expired."""
    command = await _checked(reads, Command("cancel", brand, member, key, reference=redemption, requested_by=who.asker))
    return answer(await commands.cancel(command, COMMAND_SECONDS), 201)


@routes.post("/members/{member}/adjustments", status_code=201, response_model=AdjustmentAnswer, responses=REFUSED)
async def adjust(
    commands: CommandsOf,
    reads: ReadsOf,
    brand: BrandId,
    member: MemberId,
    body: AdjustmentRequest,
    key: Key,
    who: KeyOf,
) -> Response:
    """Add points to a member, or take some, with the reason in words."""
    asked = Command("adjust", brand, member, key, body.points, words=body.reason, requested_by=who.asker)
    command = await _checked(reads, asked)
    return answer(await commands.adjust(command, COMMAND_SECONDS), 201)


@routes.put("/campaigns/{campaign}/members/{member}", response_model=EnrolmentAnswer)
async def join(commands: CommandsOf, brand: BrandId, campaign: CampaignId, member: MemberId) -> Response:
    """Let a member join an opt-in campaign, for what occurs from now on; again changes nothing.

    In an open campaign everybody takes part; joining one is noted, for a later version that is not open.
    """
    return answer(await commands.enrol(brand, member, campaign, False, COMMAND_SECONDS))


@routes.delete(
    "/campaigns/{campaign}/members/{member}",
    response_model=EnrolmentAnswer,
    responses={409: errors.described("The campaign is open: nobody can leave it")},
)
async def leave(commands: CommandsOf, brand: BrandId, campaign: CampaignId, member: MemberId) -> Response:
    """Let a member leave an opt-in campaign, for what occurs from now on; again changes nothing."""
    return answer(await commands.enrol(brand, member, campaign, True, COMMAND_SECONDS))
