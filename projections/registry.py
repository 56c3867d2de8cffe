"""The one list of read models: what the runner keeps up, and what digests and `replay verify` cover, in order."""

from __future__ import annotations

from typing import Final

from projections import (
    balances,
    books,
    campaign_results,
    lots,
    outcomes,
    programs,
    referrals,
    refusals,
    settlements,
    standings,
    statements,
)
from projections.projection import Projection
from projections.upkeep.digest import DigestSource, of_projection

LEDGER: Final[tuple[Projection, ...]] = (
    balances.PROJECTION,
    statements.PROJECTION,
    standings.PROJECTION,
    lots.PROJECTION,
    refusals.PROJECTION,
    outcomes.PROJECTION,
    programs.PROJECTION,
    books.PROJECTION,
    campaign_results.PROJECTION,
    referrals.PROJECTION,
    settlements.PROJECTION,
)
"""The read models of the ledger. Balances, statements and standings stay first."""

DIGESTED: Final[tuple[DigestSource, ...]] = tuple(of_projection(projection) for projection in LEDGER)
"""What `groundswell digest` lists. A read model of another topic is added here as a `DigestSource`."""
