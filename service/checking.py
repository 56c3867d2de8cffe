"""`apply --check`: what would become of definitions, and what one would want to know before applying them."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field

from aggregates import advice
from aggregates.database import Unavailable
from aggregates.definitions import Brand, Campaign
from aggregates.ledger import Ledger
from aggregates.program_decisions import ProgramRefused
from service.definitions import Accepted, name_of
from service.instants import now_ms
from service.problems import Unusable
from service.settings import Settings


class Checked(BaseModel):
    """What would become of one definition."""

    model_config = ConfigDict(frozen=True)

    definition: str = Field(description="The brand or campaign with its version")
    verdict: str = Field(description="`accepted`, `already there` or `refused`")
    refusal: str = Field(description="Why, and what to do; empty when it is not refused")
    notes: tuple[str, ...] = Field(description="What accepting it changes")
    warnings: tuple[str, ...] = Field(description="What is allowed and seldom meant")


def check(settings: Settings, definitions: list[Brand | Campaign]) -> list[Checked]:
    """What would become of definitions if they were applied in this order; a refused one counts as not there.

    Nothing is stored. Raises `Unusable` when the database is away.
    """
    ledger = Ledger(settings.database)
    try:
        accepted, now = Accepted(ledger), now_ms()
        return [_checked(accepted, definition, now) for definition in definitions]
    except Unavailable as error:
        raise Unusable(str(error)) from None
    finally:
        ledger.close()


def _checked(accepted: Accepted, definition: Brand | Campaign, now: int) -> Checked:
    name = name_of(definition)
    notes, warnings = _advice(accepted, definition, now)
    before = dict(accepted.brand(definition.id if isinstance(definition, Brand) else definition.brand).launches)
    try:
        events = accepted.define(definition, now)
    except ProgramRefused as no:
        return Checked(definition=name, verdict="refused", refusal=str(no), notes=(), warnings=())
    if not events:
        return Checked(definition=name, verdict="already there", refusal="", notes=(), warnings=tuple(warnings))
    notes += _launch(accepted, definition, before)
    return Checked(definition=name, verdict="accepted", refusal="", notes=tuple(notes), warnings=tuple(warnings))


def _advice(accepted: Accepted, definition: Brand | Campaign, now: int) -> tuple[list[str], list[str]]:
    """Notes and warnings, by what was accepted before it."""
    if isinstance(definition, Brand):
        state = accepted.brand(definition.id)
        others = [version for version in state.versions() if version.version != definition.version]
        campaigns = [
            version for name in state.launches for version in accepted.campaign(definition.id, name).versions()
        ]
        notes = advice.brand_notes(definition, others)
        return list(notes), list(advice.brand_warnings(definition, others, campaigns))
    owner = accepted.brand(definition.brand).at(definition.starts_at)
    if owner is None:
        return [], []  # it is refused
    known = accepted.campaign(definition.brand, definition.id).versions()
    versions = [version for version in known if version.version != definition.version]
    warnings = advice.campaign_warnings(owner, definition, versions, now)
    return list(advice.campaign_notes(definition, versions)), list(warnings)


def _launch(accepted: Accepted, definition: Brand | Campaign, before: dict[str, str]) -> Iterator[str]:
    """That a campaign takes the free plan's launch of its month."""
    if isinstance(definition, Brand):
        return
    state = accepted.brand(definition.brand)
    owner, month = state.at(definition.starts_at), state.launches.get(definition.id)
    if month is not None and definition.id not in before and owner is not None and owner.plan == "free":
        yield f"it takes the free plan's one launch of {month}"
