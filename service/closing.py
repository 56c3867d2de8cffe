"""Closing a campaign because somebody asks for it, and waiting until it is settled."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from eventsourcing.persistence import IntegrityError

from aggregates.database import Unavailable, open_database
from aggregates.ledger import Ledger, campaign_aggregate
from aggregates.program_decisions import CampaignState, evolve_campaign
from aggregates.program_events import CampaignClosed, CampaignSettled, StandingsKept
from aggregates.settlement import CloseRefused, close
from projections.answers import Settlement
from projections.queries import campaigns
from service.instants import now_ms
from service.problems import Refusal, Unusable
from service.settings import Settings

POLL_SECONDS: Final = 0.1
_TRIES: Final = 5


def load(ledger: Ledger, brand: str, campaign: str) -> tuple[CampaignState, int]:
    """A campaign as its events made it, and how many they are."""
    state, version = CampaignState(), 0
    for event in ledger.history(campaign_aggregate(brand, campaign)):
        evolve_campaign(state, event)  # type: ignore[arg-type]
        version += 1
    return state, version


def store(
    ledger: Ledger,
    brand: str,
    campaign: str,
    version: int,
    events: list[CampaignClosed | StandingsKept | CampaignSettled],
) -> bool:
    """Append to a campaign that has `version` events; False when somebody else has written it meanwhile."""
    aggregate = campaign_aggregate(brand, campaign)
    try:
        ledger.append({aggregate: events}, {aggregate: version})
    except IntegrityError:
        return False
    return True


async def settle(settings: Settings, brand: str, campaign: str, timeout: float, requested_by: str) -> Settlement:
    """Close a campaign that is over, and answer with its settlement; of a settled one, with what was done.

    Raises `Refusal` for one that is not over, a draft, or one that does not exist; `not_settled_yet` when it takes
    longer than `timeout` seconds: it then settles by itself. Raises `Unusable` while the database is away.
    """
    settings.check_takes()
    ledger = Ledger(settings.database)
    try:
        await asyncio.to_thread(_close, ledger, brand, campaign, requested_by)
    except Unavailable as error:
        raise Unusable(f"{error}; it is safe to settle the same again") from None
    except CloseRefused as no:
        raise Refusal(no.code, f"{brand}/{campaign}: {no}") from None
    finally:
        ledger.close()
    engine = open_database(settings.database, read_only=True)
    deadline = time.monotonic() + timeout

    def look() -> Settlement | None:
        with engine.connect() as conn:
            return campaigns.settled(conn, brand, campaign)

    try:
        while (found := await asyncio.to_thread(look)) is None:
            if time.monotonic() >= deadline:
                raise Refusal(
                    "not_settled_yet",
                    f"{brand}/{campaign} is closed, and not settled after {timeout:g} s: every partition must have "
                    "passed its marker (are the worker and the projector running?). It settles by itself; ask again "
                    "for the outcome.",
                    headers={"Retry-After": "5"},
                )
            await asyncio.sleep(POLL_SECONDS)
    finally:
        engine.dispose()
    return found


def _close(ledger: Ledger, brand: str, campaign: str, requested_by: str) -> None:
    for _ in range(_TRIES):
        state, version = load(ledger, brand, campaign)
        if not version:
            raise Refusal("unknown_campaign", f"There is no campaign `{campaign}` of a brand `{brand}`.")
        events = close(state, now_ms(), requested_by)
        if not events or store(ledger, brand, campaign, version, [*events]):
            return
    raise Unusable("the campaign is being defined at the same time: try again")
