"""What commands do besides reading: define, redeem, enrol, wait, and say how the system is."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import yaml
from eventsourcing.persistence import IntegrityError
from pydantic import BaseModel, ConfigDict, Field

from aggregates.database import Unavailable, open_database
from aggregates.definitions import Brand, Campaign, DefinitionError
from aggregates.events import ProgramEvent
from aggregates.ledger import Ledger, brand_aggregate, campaign_aggregate
from aggregates.parsing import parse
from aggregates.program_decisions import (
    BrandState,
    CampaignState,
    ProgramRefused,
    define_brand,
    define_campaign,
    evolve_brand,
    evolve_campaign,
)
from aggregates.refusals import Refusal as Reason
from projections import engagement, queries, registry
from projections.runner import positions as projection_positions
from schemas.topics import ACTIVITY, TIERS, WINDOWS
from service import kafka, outbox
from service.problems import Refusal, Unusable
from service.publisher import Position, send
from service.settings import Settings
from streams import readstate

POLL_SECONDS: Final = 0.05
BROADCAST_SECONDS: Final = 30.0


def now_ms() -> int:
    """The wall clock in epoch milliseconds."""
    return time.time_ns() // 1_000_000


# Definitions


def read_definitions(files: list[Path]) -> list[Brand | Campaign]:
    """Every document of the YAML files, in order. Raises `Unusable` for a file, DefinitionError for a document."""
    found: list[Brand | Campaign] = []
    for file in files:
        try:
            found += documents(file.read_text(encoding="utf-8"), str(file))
        except OSError as error:
            raise Unusable(f"{file}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise DefinitionError(f"{file}: not UTF-8 ({error.reason} at byte {error.start})") from None
    return found


def documents(text: str, where: str) -> list[Brand | Campaign]:
    """The brands and campaigns of a YAML text; `where` names it. Raises DefinitionError."""
    try:
        loaded = list(yaml.safe_load_all(text))
    except (yaml.YAMLError, ValueError) as error:
        raise DefinitionError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    found = [parse(document, f"{where} document {n}") for n, document in enumerate(loaded, 1) if document is not None]
    if not found:
        raise DefinitionError(f"{where}: no brand and no campaign in it")
    return found


async def apply_definitions(settings: Settings, files: list[Path], check: bool) -> list[str]:
    """Like `apply_documents`, of the documents in YAML files."""
    return await apply_documents(settings, read_definitions(files), check)


async def apply_documents(settings: Settings, definitions: list[Brand | Campaign], check: bool) -> list[str]:
    """Accept definitions, and return once they stand in every partition before whatever is published next.

    `check` decides only. Returns one line a definition. Raises `Refusal` for one that is refused, with nothing of
    them applied; `Unusable` when the database is away, or no projector broadcasts them.
    """
    ledger = Ledger(settings.database)
    try:
        lines, last = await asyncio.to_thread(_define, ledger, definitions, check)
    except Unavailable as error:
        raise Unusable(f"{error}; it is safe to apply the same again") from None
    finally:
        ledger.close()
    if last:
        await _broadcast(settings, last)
    return lines


def _define(ledger: Ledger, definitions: list[Brand | Campaign], check: bool) -> tuple[list[str], int]:
    for _ in range(3):
        try:
            return _define_once(ledger, definitions, check)
        except IntegrityError:  # somebody else defined something in between: decide again
            continue
    raise Unusable("other definitions are being applied at the same time: try again")


def _define_once(ledger: Ledger, definitions: list[Brand | Campaign], check: bool) -> tuple[list[str], int]:
    brands: dict[str, BrandState] = {}
    campaigns: dict[str, CampaignState] = {}
    versions: dict[str, int] = {}
    new: dict[str, list[ProgramEvent]] = {}
    lines: list[str] = []

    def brand_state(brand: str) -> BrandState:
        if brand not in brands:
            brands[brand] = BrandState()
            versions[brand_aggregate(brand)] = 0
            for event in ledger.history(brand_aggregate(brand)):
                evolve_brand(brands[brand], event)  # type: ignore[arg-type]
                versions[brand_aggregate(brand)] += 1
        return brands[brand]

    def campaign_state(brand: str, campaign: str) -> CampaignState:
        aggregate = campaign_aggregate(brand, campaign)
        if aggregate not in campaigns:
            campaigns[aggregate] = CampaignState()
            versions[aggregate] = 0
            for event in ledger.history(aggregate):
                evolve_campaign(campaigns[aggregate], event)  # type: ignore[arg-type]
                versions[aggregate] += 1
        return campaigns[aggregate]

    now = now_ms()
    for definition in definitions:
        state = brand_state(definition.id if isinstance(definition, Brand) else definition.brand)
        try:
            if isinstance(definition, Brand):
                name = f"brand {definition.id}"
                events: list[ProgramEvent] = list(define_brand(state, definition, now))
            else:
                name = f"campaign {definition.brand}/{definition.id}"
                events = list(define_campaign(state, campaign_state(definition.brand, definition.id), definition, now))
        except ProgramRefused as no:
            raise Refusal("definition_refused", f"{name} version {definition.version}: {no}") from None
        for event in events:
            aggregate = _aggregate_of(event, definition)
            new.setdefault(aggregate, []).append(event)
            if aggregate.startswith("brand:"):
                evolve_brand(state, event)  # type: ignore[arg-type]
            else:
                evolve_campaign(campaigns[aggregate], event)  # type: ignore[arg-type]
        lines.append(f"{name} version {definition.version}: {'accepted' if events else 'already there'}")
    if check:
        return lines, 0
    # What is there already may not be broadcast yet, if whoever applied it did not wait for that.
    return lines, ledger.append(new, versions) if new else ledger.last_notification()


def _aggregate_of(event: ProgramEvent, definition: Brand | Campaign) -> str:
    if type(event).__name__ == "CampaignDefined":
        return campaign_aggregate(event.brand, event.campaign)  # type: ignore[union-attr]
    return brand_aggregate(definition.id if isinstance(definition, Brand) else definition.brand)


async def _broadcast(settings: Settings, notification: int) -> None:
    engine = open_database(settings.database, read_only=True)
    deadline = time.monotonic() + BROADCAST_SECONDS
    try:
        while time.monotonic() < deadline:
            with engine.connect() as connection:
                if outbox.position(connection) >= notification:
                    return
            await asyncio.sleep(POLL_SECONDS)
    finally:
        engine.dispose()
    raise Unusable(
        "accepted, but not on the activity log yet: no projector sends it. Start one (`groundswell up` or "
        "`groundswell projector`); it goes on by itself, nothing has to be applied again"
    )


# Commands


class RedemptionAnswer(BaseModel):
    """The outcome of a redemption; a retry with the same key gets the same one."""

    model_config = ConfigDict(frozen=True)

    redemption_id: str = Field(description="Id of the statement entry", examples=["5d41402abc4b2a76"])
    brand: str = Field(description="Brand id", examples=["acme"])
    member_id: str = Field(description="Member id", examples=["m-1"])
    points: int = Field(description="Points spent", examples=[200])
    idempotency_key: str = Field(description="The key it was asked with", examples=["order-77"])
    occurred_at: str = Field(description="When it was asked for, ISO 8601 UTC")
    position: int = Field(description="Ledger position that includes it")


async def redeem(
    settings: Settings, brand: str, member: str, points: int, key: str, timeout: float, requested_by: str = "api"
) -> RedemptionAnswer:
    """Spend a member's active points through the activity log; returns when the ledger has decided.

    Raises `Refusal` with the ledger's reason, `idempotency_key_reused` for a key that asked for something else, or
    `no_answer_yet` when the decision does not come within `timeout` seconds: the command is then on the log and runs
    once; asking again with the same key gets its outcome.
    """
    engine = open_database(settings.database, read_only=True)
    try:
        found = await asyncio.to_thread(_outcome, engine, brand, member, key)
        if found is None:
            value = {
                "event_id": key,
                "occurred_at": now_ms(),
                "brand_id": brand,
                "member_id": member,
                "kind": "redeem",
                "points": points,
                "reference": None,
                "reason": None,
                "requested_by": requested_by,
            }
            async with kafka.producer(settings.kafka) as client:
                await send(client, settings.signing_key, "Command", value)
            deadline = time.monotonic() + timeout
            while found is None and time.monotonic() < deadline:
                await asyncio.sleep(POLL_SECONDS)
                found = await asyncio.to_thread(_outcome, engine, brand, member, key)
    finally:
        engine.dispose()
    if found is None:
        raise Refusal(
            "no_answer_yet",
            f"The redemption is on the log and not decided after {timeout:g} s (is a worker running?). It will be "
            "decided once; ask again with the same key.",
            headers={"Retry-After": "5"},
        )
    if found.kind != "redeem" or found.points != points:
        raise Refusal(
            "idempotency_key_reused",
            f"The key {key!r} was used for another command of {brand}/{member}: {found.kind} of {found.points} points.",
        )
    if found.reason:
        raise Refusal(found.reason, Reason(found.reason).sentence)
    return RedemptionAnswer(
        redemption_id=found.entry_id,
        brand=brand,
        member_id=member,
        points=points,
        idempotency_key=key,
        occurred_at=found.occurred_at,
        position=found.position,
    )


def _outcome(engine: sa.Engine, brand: str, member: str, key: str) -> Any:
    with engine.connect() as connection:
        return queries.outcome(connection, brand, member, key)


async def enrol(settings: Settings, brand: str, member: str, campaign: str, left: bool = False) -> Position:
    """Publish that a member joins or leaves a campaign, from now on. Raises `Refusal` for an unknown campaign."""
    engine = open_database(settings.database, read_only=True)
    try:
        with engine.connect() as connection:
            if not queries.brand_exists(connection, brand):
                raise Refusal("unknown_brand", f"There is no brand {brand!r}.")
            if not queries.campaign_exists(connection, brand, campaign):
                raise Refusal("unknown_campaign", f"Brand {brand!r} has no campaign {campaign!r}.")
    finally:
        engine.dispose()
    value = {
        "event_id": uuid.uuid4().hex,
        "occurred_at": now_ms(),
        "brand_id": brand,
        "member_id": member,
        "campaign_id": campaign,
        "kind": "left" if left else "joined",
    }
    async with kafka.producer(settings.kafka) as client:
        return await send(client, settings.signing_key, "Enrolment", value)


# Waiting


async def wait(settings: Settings, timeout: float, on_progress: Callable[[str], None] = lambda _: None) -> None:
    """Return when everything published so far, and all that is derived from it, is in every table.

    Raises `Unusable` with what is behind when that takes longer than `timeout` seconds.
    """
    engine = open_database(settings.database, read_only=True)
    deadline = time.monotonic() + timeout
    ends: dict[int, int] | None = None
    try:
        while True:
            if ends is None:
                ends = await kafka.log_ends(settings.kafka, ACTIVITY)
            behind = await asyncio.to_thread(_behind, engine, ends)
            if not behind:
                again = await kafka.log_ends(settings.kafka, ACTIVITY)
                if again == ends:
                    return
                ends = again  # what was derived meanwhile counts too
                continue
            on_progress(behind)
            if time.monotonic() >= deadline:
                raise Unusable(f"not done after {timeout:g} s: {behind}")
            await asyncio.sleep(POLL_SECONDS)
    finally:
        engine.dispose()


def _behind(engine: sa.Engine, ends: dict[int, int]) -> str:
    """What has not caught up with the log's `ends`, for a person; empty when all has."""
    with engine.connect() as connection:
        rows = {row.partition: row for row in readstate.positions(connection)}
        consumed = {
            (topic, partition): engagement.position(connection, topic, partition)
            for topic in (WINDOWS, TIERS)
            for partition in ends
        }
        for partition, end in ends.items():
            row = rows.get(partition)
            at = 0 if row is None else row.position
            if at < end:
                return f"the worker is at offset {at} of {end} in partition {partition}"
            written = {} if row is None else json.loads(row.outputs)
            for topic, output_end in written.items():
                if consumed.get((topic, partition), output_end) < output_end:
                    return f"the engagement tables have not read all of {topic} partition {partition}"
        last = queries.ledger_position(connection)
        if outbox.position(connection) < last:
            return "the outbox has not sent everything"
        for name, position in projection_positions(connection, registry.LEDGER).items():
            if position < last:
                return f"the read model {name} is at {position} of {last}"
    return ""
