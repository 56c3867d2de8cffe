"""Reads of one member's points: balance, statement, why, and what an event would earn."""

from __future__ import annotations

from projections import queries
from projections.answers import Balance, Explanation, Statement
from service import whatif
from service.reads_access import Access, instants
from service.whatif_answers import InteractionEvent, PurchaseEvent, ReferralEvent, WhatIf


class MemberReads(Access):
    """Reads of one member's points."""

    def balance(
        self,
        brand: str,
        member: str,
        *,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> Balance:
        """A member's points; all zero for one never seen. Raises `Refusal`."""
        at, known = instants(as_of, known_at)
        with self.ledger(min_position) as conn:
            return queries.balance(conn, brand, member, self.clock(), as_of=at, known_at=known)

    def statement(
        self,
        brand: str,
        member: str,
        *,
        cursor: str | None = None,
        limit: int = 100,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> Statement:
        """A page of a member's movements. Raises `Refusal`."""
        at, known = instants(as_of, known_at)
        with self.ledger(min_position) as conn:
            return queries.statement(conn, brand, member, cursor=cursor, limit=limit, as_of=at, known_at=known)

    def explain(self, brand: str, member: str, entry: str | None = None) -> Explanation:
        """Where each of a member's points comes from, and what paid nothing and why. Raises `Refusal`."""
        with self.ledger(None) as conn:
            return queries.explain(conn, brand, member, entry_id=entry)

    def what_if(
        self,
        brand: str,
        member: str,
        event: InteractionEvent | PurchaseEvent | ReferralEvent,
        *,
        min_position: str | None = None,
    ) -> WhatIf:
        """What an event would earn, by all that is stored now; nothing is written. Raises `Refusal`."""
        if min_position is not None:
            self.wait_for_panes(min_position)  # with them the worker's profiles and memberships are stored
        with self.ledger(min_position) as conn:
            return whatif.what_if(conn, self.whole, brand, member, event, self.clock())
