"""Accepting brand and campaign definitions: read from YAML, decided, stored, and broadcast to every partition."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

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
from aggregates.program_events import CampaignDefined, ProgramEvent
from service import outbox, yaml_text
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
            raise Unusable(f"{file}: not UTF-8 ({error.reason} at byte {error.start})") from None
    return found


def documents(text: str, where: str) -> list[Brand | Campaign]:
    """The brands and campaigns of a text; `where` names it. Raises `Unusable` where it is no YAML, DefinitionError."""
    try:
        loaded = yaml_text.documents(text)
    except ValueError as error:
        raise Unusable(f"{where}: not YAML: {error}") from None
    found = [parse(document, f"{where} document {n}") for n, document in enumerate(loaded, 1) if document is not None]
    if not found:
        raise DefinitionError(f"{where}: no brand and no campaign in it")
    return found


async def apply_documents(settings: Settings, definitions: list[Brand | Campaign]) -> list[str]:
    """Accept definitions, and return once they stand in every partition before whatever is published next.

    Returns one line a definition. Raises `Refusal` for one that is refused, with nothing of them applied; `Unusable`
    when the database is away, or no projector broadcasts them.
    """
    settings.check_takes()
    ledger = Ledger(settings.database)
    try:
        lines, last = await asyncio.to_thread(_define, ledger, definitions)
    except Unavailable as error:
        raise Unusable(f"{error}; it is safe to apply the same again") from None
    finally:
        ledger.close()
    if last:
        await _broadcast(settings, last)
    return lines


def _define(ledger: Ledger, definitions: list[Brand | Campaign]) -> tuple[list[str], int]:
    for _ in range(3):
        try:
            return _define_once(ledger, definitions)
        except IntegrityError:  # somebody else defined something in between: decide again
            continue
    raise Unusable("other definitions are being applied at the same time: try again")


def _define_once(ledger: Ledger, definitions: list[Brand | Campaign]) -> tuple[list[str], int]:
    accepted = Accepted(ledger)
    lines: list[str] = []
    now = now_ms()
    for definition in definitions:
        try:
            events = accepted.define(definition, now)
        except ProgramRefused as no:
            raise Refusal("definition_refused", f"{name_of(definition)}: {no}") from None
        lines.append(f"{name_of(definition)}: {'accepted' if events else 'already there'}")
    # What is there already may not be broadcast yet, if whoever applied it did not wait for that.
    new = accepted.new
    return lines, ledger.append(new, accepted.versions) if new else ledger.last_notification()


def name_of(definition: Brand | Campaign) -> str:
    """A version of a brand or campaign, for people."""
    what = f"brand {definition.id}" if isinstance(definition, Brand) else f"campaign {definition.brand}/{definition.id}"
    return f"{what} version {definition.version}"


class Accepted:
    """What the ledger has accepted of brands and campaigns, and what it would accept after that; nothing is stored."""

    def __init__(self, ledger: Ledger) -> None:
        self.new: dict[str, list[ProgramEvent]] = {}
        """The events of what was accepted here, by aggregate."""
        self.versions: dict[str, int] = {}
        """How many events each aggregate has in the ledger."""
        self._ledger = ledger
        self._brands: dict[str, BrandState] = {}
        self._campaigns: dict[str, CampaignState] = {}

    def brand(self, brand: str) -> BrandState:
        """A brand's accepted versions and launches."""
        if brand not in self._brands:
            state = self._brands[brand] = BrandState()
            self.versions[brand_aggregate(brand)] = 0
            for event in self._ledger.history(brand_aggregate(brand)):
                evolve_brand(state, event)  # type: ignore[arg-type]
                self.versions[brand_aggregate(brand)] += 1
        return self._brands[brand]

    def campaign(self, brand: str, campaign: str) -> CampaignState:
        """A campaign's accepted versions."""
        aggregate = campaign_aggregate(brand, campaign)
        if aggregate not in self._campaigns:
            state = self._campaigns[aggregate] = CampaignState()
            self.versions[aggregate] = 0
            for event in self._ledger.history(aggregate):
                evolve_campaign(state, event)  # type: ignore[arg-type]
                self.versions[aggregate] += 1
        return self._campaigns[aggregate]

    def define(self, definition: Brand | Campaign, now: int) -> list[ProgramEvent]:
        """Accept a definition; no events for one that is there already. Raises `ProgramRefused`."""
        if isinstance(definition, Brand):
            events: list[ProgramEvent] = list(define_brand(self.brand(definition.id), definition, now))
        else:
            state = self.campaign(definition.brand, definition.id)
            events = list(define_campaign(self.brand(definition.brand), state, definition, now))
        for event in events:
            if isinstance(event, CampaignDefined):
                aggregate = campaign_aggregate(event.brand, event.campaign)
                evolve_campaign(self._campaigns[aggregate], event)
            else:
                brand = definition.id if isinstance(definition, Brand) else definition.brand
                aggregate = brand_aggregate(brand)
                evolve_brand(self._brands[brand], event)  # type: ignore[arg-type]
            self.new.setdefault(aggregate, []).append(event)
        return events


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
