"""Accepting brand and campaign definitions: read from YAML, decided, stored, and broadcast to every partition."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import yaml
from eventsourcing.persistence import IntegrityError

from aggregates.database import Unavailable, open_database
from aggregates.definitions import Brand, Campaign, DefinitionError
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
from aggregates.program_events import ProgramEvent
from service import outbox
from service.instants import now_ms
from service.problems import Refusal, Unusable
from service.settings import Settings

POLL_SECONDS: Final = 0.05
BROADCAST_SECONDS: Final = 30.0


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
