"""Reads of one member's points: balance, statement, why, what an event caused, and what one would earn."""

from __future__ import annotations

from collections.abc import Sequence

from projections import queries
from projections.answers import Balance, Explanation, Statement
from projections.answers.effects import Effects
from projections.balances import NOTHING_HELD
from projections.queries import effects
from projections.queries import explain as explain_queries
from projections.queries.holdings import members_hold
from service import whatif
from service.problems import Refusal
from service.reads.access import Access, instants
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

    def balances(self, asked: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bytes | Refusal]:
        """Balances as they are now, by brand and member, all of one instant, as JSON; or why there is none."""
        found: dict[tuple[str, str], bytes | Refusal] = {}
        by_brand: dict[str, list[str]] = {}
        for brand, member in asked:
            by_brand.setdefault(brand, []).append(member)
        with self.ledger(None) as conn:
            now, position = self.clock(), queries.read_position(conn)
            for brand, members in by_brand.items():
                answers: dict[str, bytes | Refusal]
                if queries.brand_exists(conn, brand):
                    held = members_hold(conn, brand, members)
                    answers = {
                        one: queries.judged(brand, one, held.get(one, NOTHING_HELD), now, position)
                        .model_dump_json()
                        .encode()
                        for one in members
                    }
                else:
                    answers = dict.fromkeys(members, Refusal("unknown_brand", f"There is no brand `{brand}`."))
                found.update(((brand, member), answer) for member, answer in answers.items())
        return found

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

    def explain(
        self,
        brand: str,
        member: str,
        entry: str | None = None,
        *,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> Explanation:
        """Where each of a member's points comes from, and what paid nothing and why. Raises `Refusal`."""
        at, known = instants(as_of, known_at)
        with self.ledger(min_position) as conn:
            return explain_queries.explain(conn, brand, member, entry, as_of=at, known_at=known)

    def effects(
        self,
        brand: str,
        member: str,
        event: str,
        *,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> Effects:
        """All that came of a member's event, an id or `partition:offset`. Raises `Refusal`."""
        at, known = instants(as_of, known_at)
        with self.ledger(min_position) as conn:
            return effects.effects(
                conn, self.whole.history, brand, member, event, self.clock(), as_of=at, known_at=known
            )

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
