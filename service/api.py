"""The HTTP API: every route, in the order of the contract. What a read answers is made in `reads`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from projections.answers import Balance, Standings, Statement
from projections.engagement_models import EngagementReport, MemberEngagement, MemberTierAnswer, PostReport, TierReport
from projections.rates import Window
from service import api_errors, commands, condition, heartbeats, metrics
from service.problems import Refusal
from service.reads import Reads
from service.requests import check_redemption

if TYPE_CHECKING:
    from service.settings import Settings

REDEMPTION_SECONDS = 5.0
"""How long a redemption waits for the worker's decision before it answers 503; the command stays on the log."""

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


class RedemptionRequest(BaseModel):
    """Points to spend."""

    model_config = ConfigDict(extra="forbid", strict=True)

    points: int = Field(gt=0, le=10**15, description="Points to take, soonest expiry first", examples=[100])


def answer(body: BaseModel, status: int = 200) -> Response:
    """The body exactly as `--json` on the command line prints it."""
    return Response(body.model_dump_json(by_alias=True), status, media_type="application/json")


ledger = APIRouter(prefix="/v1/brands/{brand}", tags=["ledger"], responses=api_errors.DOCUMENTED)
social = APIRouter(prefix="/v1/brands/{brand}", tags=["engagement"], responses=api_errors.DOCUMENTED)
operations = APIRouter(tags=["operations"])


@ledger.get("/members/{member}/balance", response_model=Balance)
def balance(
    reads: ReadsOf,
    brand: BrandId,
    member: MemberId,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """A member's points: active, pending, spent, expired and reversed. A member never seen has zeros."""
    return answer(reads.balance(brand, member, as_of=as_of, known_at=known_at, min_position=min_position))


@ledger.get("/members/{member}/statement", response_model=Statement)
def statement(
    reads: ReadsOf,
    brand: BrandId,
    member: MemberId,
    cursor: Cursor = None,
    limit: Limit = 100,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """A member's movements of points, each with its rule, campaign version and source record."""
    return answer(
        reads.statement(
            brand, member, cursor=cursor, limit=limit, as_of=as_of, known_at=known_at, min_position=min_position
        )
    )


@ledger.get("/campaigns/{campaign}/standings", response_model=Standings)
def standings(
    reads: ReadsOf,
    brand: BrandId,
    campaign: CampaignId,
    cursor: Cursor = None,
    limit: Limit = 100,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """A campaign's members by its metric; equal scores share a rank (1, 2, 2, 4)."""
    return answer(
        reads.standings(
            brand, campaign, cursor=cursor, limit=limit, as_of=as_of, known_at=known_at, min_position=min_position
        )
    )


@ledger.post(
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


@social.get("/members/{member}/tier", response_model=MemberTierAnswer)
def member_tier(
    reads: ReadsOf,
    brand: BrandId,
    member: MemberId,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """A member's influence tier and the followers behind it, platform by platform."""
    return answer(reads.member_tier(brand, member, as_of=as_of, known_at=known_at, min_position=min_position))


@social.get("/members/{member}/engagement", response_model=MemberEngagement)
def member_engagement(
    reads: ReadsOf,
    brand: BrandId,
    member: MemberId,
    window: WindowOf = Window.DAY,
    campaign: CampaignOf = None,
    platform: PlatformOf = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """A member's counts and rates in a window of whole hours."""
    return answer(
        reads.member_engagement(
            brand,
            member,
            window,
            campaign=campaign,
            platform=platform,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )
    )


@social.get("/members/{member}/posts", response_model=PostReport)
def posts(
    reads: ReadsOf,
    brand: BrandId,
    member: MemberId,
    window: WindowOf = Window.DAY,
    platform: PlatformOf = None,
    limit: Limit = 100,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """A member's posts with any activity in a window of whole hours, most engagements first, each with its rates."""
    return answer(
        reads.posts(
            brand,
            member,
            window,
            platform=platform,
            limit=limit,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )
    )


@social.get("/engagement", response_model=EngagementReport)
def engagement(
    reads: ReadsOf,
    brand: BrandId,
    window: WindowOf = Window.DAY,
    campaign: CampaignOf = None,
    platform: PlatformOf = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """A brand's counts, sales and rates in a window; a rate without posts or reach is null."""
    return answer(
        reads.engagement(
            brand,
            window,
            campaign=campaign,
            platform=platform,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )
    )


@social.get("/tiers", response_model=TierReport)
def tiers(
    reads: ReadsOf,
    brand: BrandId,
    window: WindowOf = Window.DAY,
    campaign: CampaignOf = None,
    platform: PlatformOf = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """One row for each influence tier: its members by followers, counts and rates in a window."""
    return answer(
        reads.tiers(
            brand,
            window,
            campaign=campaign,
            platform=platform,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )
    )


@operations.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process is alive; says nothing about lag."""
    return {"status": "alive"}


@operations.get("/readyz", responses=api_errors.DOCUMENTED)
async def readyz(request: Request) -> Response:
    """200 once every command works; else 503 with what is missing."""
    missing = await api_errors.in_thread(condition.readiness, request.app.state.settings)
    if missing:
        raise Refusal("not_ready", "; ".join(missing), missing=missing, headers={"Retry-After": "1"})
    return JSONResponse({"status": "ready"})


@operations.get("/metrics", include_in_schema=False)
def prometheus(reads: ReadsOf) -> Response:
    """Prometheus text format."""
    return Response(metrics.page(reads), media_type=metrics.MEDIA_TYPE)


@operations.get("/", include_in_schema=False)
async def root() -> RedirectResponse:
    """The documentation, until the console is here."""
    return RedirectResponse("/docs")


def create_app(settings: Settings) -> FastAPI:
    """The API over the database and the Kafka of `settings`; touches neither before the first request."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with heartbeats.beating(settings.database, "api"):
            yield
        app.state.reads.close()

    app = FastAPI(
        title="Groundswell",
        summary="Loyalty points, campaign standings and engagement by influence tier",
        version="1",
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.reads = Reads(settings)
    for router in (ledger, social, operations):
        app.include_router(router)
    api_errors.install(app)
    metrics.install(app)
    return app
