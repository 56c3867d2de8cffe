"""Routes of a brand's books: the trial balance and the liability."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from projections.answers.books import BrandBooks, Liability
from service.api import errors
from service.api.params import AsOf, BrandId, KnownAt, ReadsOf, answer
from service.api.positions import LedgerIncludes

routes = APIRouter(prefix="/v1/brands/{brand}", tags=["books"], responses=errors.DOCUMENTED)


@routes.get("/books", response_model=BrandBooks)
def books(
    reads: ReadsOf,
    _: LedgerIncludes,
    brand: BrandId,
    position: Annotated[
        int | None, Query(ge=0, le=2**63 - 1, description="Only the ledger up to this position")
    ] = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
) -> Response:
    """Every account of the double entry, which add up to zero, tied out with the balances of the members."""
    return answer(reads.books(brand, position=position, as_of=as_of, known_at=known_at))


@routes.get("/liability", response_model=Liability)
def liability(
    reads: ReadsOf,
    _: LedgerIncludes,
    brand: BrandId,
    as_of: AsOf = None,
    known_at: KnownAt = None,
) -> Response:
    """Points outstanding by the month in which they expire, debt apart, and what they are worth."""
    return answer(reads.liability(brand, as_of=as_of, known_at=known_at))
