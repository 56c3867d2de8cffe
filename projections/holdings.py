"""What all lots of a brand hold at an instant, by when they expire: of everything recorded, or of a part of it.

Everything is in `lots`. A part (by effective time, recorded time or ledger position) is added up from the statements
instead, under the rule of `statements.balance_of`: what was taken from a lot that is not in the part counts as taken
from points that can be spent and never expire.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    and_,
    case,
    cast,
    func,
    literal_column,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB

from projections.lots import LOTS
from projections.statements import STATEMENTS

_L, _S = LOTS.table, STATEMENTS.table


class Cut(NamedTuple):
    """Which movements count. None: whatever the time or the position."""

    as_of: int | None = None
    """Those that had occurred by then; epoch milliseconds."""
    known_at: int | None = None
    """Those that had been recorded by then; epoch milliseconds."""
    position: int | None = None
    """Those that stand in the ledger up to this notification id, included."""

    @property
    def is_everything(self) -> bool:
        """Whether no movement is left out."""
        return self == Cut()

    def of(self, statements: FromClause) -> list[ColumnElement[bool]]:
        """Conditions for the statement rows that count."""
        columns = (statements.c.occurred_at, statements.c.recorded_at, statements.c.seq)
        return [column <= limit for column, limit in zip(columns, self, strict=True) if limit is not None]


EVERYTHING = Cut()


class Held(NamedTuple):
    """What the lots with one expiry hold, in points."""

    expires_at: int | None
    """First instant at which they are expired (epoch ms); None: never."""
    pending: int
    active: int
    expired: int


def held(conn: Connection, brand: str, at: int, cut: Cut = EVERYTHING) -> list[Held]:
    """What the lots of a brand hold at `at` (epoch ms), soonest expiry first, unlimited last; empty ones left out."""
    holding = _of_everything(brand) if cut.is_everything else _of_part(conn, brand, cut)
    pending = case((holding.c.active_at > at, holding.c.points), else_=0)
    sums = select(holding.c.expires_at, func.sum(holding.c.points), func.sum(pending)).group_by(holding.c.expires_at)
    found = []
    for expires_at, points, waiting in conn.execute(sums):
        left = int(points) - int(waiting)
        expired = expires_at is not None and expires_at <= at
        found.append(Held(expires_at, int(waiting), 0 if expired else left, left if expired else 0))
    return sorted((one for one in found if any(one[1:])), key=lambda one: (one.expires_at is None, one.expires_at or 0))


def _of_everything(brand: str) -> FromClause:
    left = _L.c.points_left.label("points")
    some = _L.c.points_left != literal_column("0")  # as the partial index says it; a bound 0 would not find that
    return select(_L.c.expires_at, _L.c.active_at, left).where(_L.c.brand == brand, some).subquery()


def _of_part(conn: Connection, brand: str, cut: Cut) -> FromClause:
    lot = _S.alias("lot")
    made = select(lot.c.expires_at, lot.c.active_at, lot.c.points).where(
        lot.c.brand == brand, lot.c.active_at.is_not(None), *cut.of(lot)
    )
    if conn.dialect.name == "sqlite":
        each: Any = func.json_each(_S.c.takes).table_valued("key", "value", name="each")
    else:
        each = func.jsonb_each_text(cast(_S.c.takes, JSONB)).table_valued("key", "value", name="each")
    of_lot = and_(
        lot.c.brand == _S.c.brand,
        lot.c.member == _S.c.member,
        lot.c.entry_id == each.c.key,
        lot.c.active_at.is_not(None),
        *cut.of(lot),
    )
    taken = (
        select(lot.c.expires_at, func.coalesce(lot.c.active_at, 0), -cast(each.c.value, BigInteger))
        .select_from(_S.join(each, true()).outerjoin(lot, of_lot))
        .where(_S.c.brand == brand, _S.c.takes != "{}", *cut.of(_S))
    )
    return union_all(made, taken).subquery()
