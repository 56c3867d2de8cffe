"""Reads of a brand's books: the trial balance at an instant, and what is owed by month of expiry."""

from __future__ import annotations

from projections import queries
from projections.answers.books import BrandBooks, Liability
from projections.queries import books as books_queries
from projections.queries.holdings import Cut
from service.problems import Refusal
from service.reads.access import Access, instants


class BookReads(Access):
    """Reads of a brand's books."""

    def books(
        self,
        brand: str,
        *,
        position: int | None = None,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> BrandBooks:
        """The trial balance and its tie-out, of the ledger up to `position` if it is given. Raises `Refusal`."""
        at, known = instants(as_of, known_at)
        with self.ledger(min_position) as conn:
            reached = queries.read_position(conn)
            if position is not None and position > reached:
                raise Refusal(
                    "position_not_reached",
                    f"position: the books reach up to {reached}; ask for that, or give {position} as min_position too.",
                    headers={"Retry-After": "1"},
                )
            now = self.clock()
            return books_queries.brand_books(conn, brand, now if at is None else at, Cut(at, known, position))

    def liability(
        self,
        brand: str,
        *,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> Liability:
        """Points outstanding by month of expiry, and what they are worth. Raises `Refusal`."""
        at, known = instants(as_of, known_at)
        with self.ledger(min_position) as conn:
            now = self.clock()
            return books_queries.liability(conn, brand, now if at is None else at, Cut(at, known))
