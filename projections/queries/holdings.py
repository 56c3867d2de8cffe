"""What members hold, and what all lots of a brand do at an instant, by when they expire: of everything, or of a part.

Everything is in `lots`. A part (by effective time, recorded time or ledger position) is added up from the statements
instead, under the rule of `statements.holding_of`: what was taken from a lot that is not in the part counts as taken
from points that can be spent and never expire. One by effective time alone begins with the snapshot before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB

from aggregates.database import among
from projections.balances import BALANCES, Holding, LotLeft, Totals
from projections.lots import LOTS
from projections.statements import STATEMENTS, holding_of
from projections.upkeep import snapshots

_B, _L, _S = BALANCES.table, LOTS.table, STATEMENTS.table
_ID_CHUNK: Final = 500
_DEBT: Final = _S.c.debt != literal_column("0")
"""As the partial index says it; a bound 0 would not find that."""


class Cut(NamedTuple):
    """Which movements count. None: whatever the time or the position."""

    as_of: int | None = None
    """Those that had occurred by then; epoch milliseconds."""
    known_at: int | None = None
    """Those that had been recorded by then; epoch milliseconds."""
    position: int | None = None
    """Those that stand in the ledger up to this notification id, included."""
    after: int | None = None
    """Those that had not occurred yet by then; epoch milliseconds."""

    @property
    def is_everything(self) -> bool:
        """Whether no movement is left out."""
        return self == Cut()

    def of(self, statements: FromClause) -> list[ColumnElement[bool]]:
        """Conditions for the statement rows that count."""
        columns = (statements.c.occurred_at, statements.c.recorded_at, statements.c.seq)
        limits = [column <= limit for column, limit in zip(columns, self[:3], strict=True) if limit is not None]
        return limits if self.after is None else [*limits, statements.c.occurred_at > self.after]

    def since(self, conn: Connection, brand: str, at: int) -> Cut:
        """The part of this cut that comes after the last snapshot that can be read at `at`; all where there is none."""
        if self.as_of is None or self[1:] != EVERYTHING[1:]:
            return self
        return self._replace(after=snapshots.latest(conn, brand, min(at, self.as_of)))


EVERYTHING = Cut()


class Held(NamedTuple):
    """What the lots with one expiry hold, in points."""

    expires_at: int | None
    """First instant at which they are expired (epoch ms); None: never."""
    pending: int
    active: int
    expired: int


def held(conn: Connection, brand: str, at: int, cut: Cut = EVERYTHING) -> tuple[list[Held], int]:
    """What the lots of a brand hold at `at` (epoch ms), soonest expiry first, unlimited last; empty ones left out.

    And the points that they have paid of debts by then, though no entry says so yet: these are not in it.
    """
    holding, paid = lots_of(conn, brand, at, cut), _paid_off(conn, brand, at, cut)
    pending = case((holding.c.active_at > at, holding.c.points), else_=0)
    sums = select(holding.c.expires_at, func.sum(holding.c.points), func.sum(pending)).group_by(holding.c.expires_at)
    found = []
    for expires_at, points, waiting in conn.execute(sums):
        left = int(points) - int(waiting) - paid[expires_at]
        expired = expires_at is not None and expires_at <= at
        found.append(Held(expires_at, int(waiting), 0 if expired else left, left if expired else 0))
    some = (one for one in found if any(one[1:]))
    return sorted(some, key=lambda one: (one.expires_at is None, one.expires_at or 0)), paid.total()


def _paid_off(conn: Connection, brand: str, at: int, cut: Cut) -> Counter[int | None]:
    """What lots have paid of debts by `at`, though no entry of the part says so, by when these lots expire."""
    paid: Counter[int | None] = Counter()
    for holding in _of_debtors(conn, brand, cut):
        for lot, points in zip(holding.lots, holding.paid_off_by(at), strict=True):
            paid[lot.expires_at] += points
    return paid


def _of_debtors(conn: Connection, brand: str, cut: Cut) -> Iterator[Holding]:
    owed = select(_S.c.member).where(_S.c.brand == brand, _DEBT, *cut.of(_S))
    debtors = conn.execute(owed.group_by(_S.c.member).having(func.sum(_S.c.debt) > 0)).scalars().all()
    if cut.is_everything:
        yield from members_hold(conn, brand, debtors).values()
        return
    for some in chunks(debtors):
        rows: dict[str, list[dict[str, Any]]] = {}
        of_them = select(_S).where(_S.c.brand == brand, among(conn.dialect.name, _S.c.member, "some"), *cut.of(_S))
        for row in conn.execute(of_them, {"some": some}):
            rows.setdefault(row.member, []).append(dict(row._mapping))
        yield from map(holding_of, rows.values())


def members_hold(conn: Connection, brand: str, members: Iterable[str]) -> dict[str, Holding]:
    """What each of these members of a brand has by the entries so far, of those who ever had a movement."""
    found: dict[str, Holding] = {}
    for some in chunks(members):
        lots: dict[str, list[LotLeft]] = {}
        rows = conn.execute(_balances_and_lots(conn.dialect.name), {"of_brand": brand, "some": some})
        for _, member, *values in rows:
            totals, lot = values[:-3], values[-3:]
            if member not in found:
                lots[member] = []
                found[member] = Holding(Totals(*totals), lots[member])
            if lot[0] is not None:
                lots[member].append(LotLeft(*lot))
    debtors = [member for member, holding in found.items() if holding.totals.debt > 0]
    for some in chunks(debtors):
        for row in conn.execute(_last_debts(conn.dialect.name), {"of_brand": brand, "some": some}):
            found[row.member] = found[row.member]._replace(owed_since=row.at)
    return found


@cache
def _balances_and_lots(dialect: str) -> Select[Any]:
    left = and_(_L.c.brand == bindparam("of_brand"), _L.c.member == _B.c.member, _L.c.points_left != 0)
    query = select(_B, _L.c.points_left, _L.c.active_at, _L.c.expires_at).select_from(_B.outerjoin(_L, left))
    return query.where(_B.c.brand == bindparam("of_brand"), among(dialect, _B.c.member, "some"))


@cache
def _last_debts(dialect: str) -> Select[Any]:
    arose = select(_S.c.member, func.max(_S.c.occurred_at).label("at")).group_by(_S.c.member)
    some = among(dialect, _S.c.member, "some")
    return arose.where(_S.c.brand == bindparam("of_brand"), some, _DEBT, _S.c.debt > 0)


def chunks(members: Iterable[str]) -> Iterator[list[str]]:
    """Members in lists that a statement can name."""
    ids = list(members)
    return (ids[start : start + _ID_CHUNK] for start in range(0, len(ids), _ID_CHUNK))


def lots_of(conn: Connection, brand: str, at: int, cut: Cut) -> FromClause:
    """What lots hold by entries, as rows of dates and points that add up to it; it is looked at at `at` (epoch ms)."""
    return _of_everything(brand) if cut.is_everything else _of_part(conn, brand, cut, cut.since(conn, brand, at))


def _of_everything(brand: str) -> FromClause:
    left = _L.c.points_left.label("points")
    some = _L.c.points_left != literal_column("0")  # as the partial index says it; a bound 0 would not find that
    return select(_L.c.expires_at, _L.c.active_at, left).where(_L.c.brand == brand, some).subquery()


def _of_part(conn: Connection, brand: str, cut: Cut, since: Cut) -> FromClause:
    lot = _S.alias("lot")
    came = rows_of(conn, lot, brand, since)
    parts = [select(lot.c.expires_at, lot.c.active_at, lot.c.points).where(lot.c.active_at.is_not(None), *came)]
    takes = _takes(conn, rows_of(conn, _S, brand, since))
    parts.append(_taken(takes, lot, takes.outerjoin(lot, _is_lot(takes, lot, cut))))
    if since.after is not None:
        kept, unplaced = snapshots.LEFT, snapshots.UNPLACED
        of_kept = snapshots.of(kept, brand, since.after)
        parts.append(select(kept.c.expires_at, kept.c.active_at, kept.c.points).where(*of_kept))
        late = select(unplaced).where(*snapshots.of(unplaced, brand, since.after)).subquery("late")
        found = late.join(lot, _is_lot(late, lot, cut))
        parts.append(_taken(late, lot, found))
        parts.append(select(_NEVER, _AT_ONCE, late.c.points).select_from(found))
    return union_all(*parts).subquery()


def unplaced(conn: Connection, brand: str, at: int, cut: Cut) -> list[tuple[str, str, int]]:
    """Member, lot and points of what was taken from lots that are not in the part."""
    since, lot = cut.since(conn, brand, at), _S.alias("lot")
    takes = _takes(conn, rows_of(conn, _S, brand, since))
    sources: list[FromClause] = [takes]
    if since.after is not None:
        kept = snapshots.UNPLACED
        sources.append(select(kept).where(*snapshots.of(kept, brand, since.after)).subquery("late"))
    found = []
    for source in sources:
        query = select(source.c.member, source.c.lot, source.c.points).select_from(
            source.outerjoin(lot, _is_lot(source, lot, cut))
        )
        found += [(row.member, row.lot, int(row.points)) for row in conn.execute(query.where(lot.c.entry_id.is_(None)))]
    return found


_NEVER: Final = literal_column("NULL", BigInteger).label("expires_at")
_AT_ONCE: Final = literal_column("0", BigInteger).label("active_at")


def _takes(conn: Connection, where: Sequence[ColumnElement[bool]]) -> FromClause:
    """What these statement rows took from each lot."""
    if conn.dialect.name == "sqlite":
        each: Any = func.json_each(_S.c.takes).table_valued("key", "value", name="each")
    else:
        each = func.jsonb_each_text(cast(_S.c.takes, JSONB)).table_valued("key", "value", name="each")
    columns = (_S.c.brand, _S.c.member, each.c.key.label("lot"), cast(each.c.value, BigInteger).label("points"))
    return select(*columns).select_from(_S.join(each, true())).where(_S.c.takes != "{}", *where).subquery("takes")


def _is_lot(taken: FromClause, lot: FromClause, cut: Cut) -> ColumnElement[bool]:
    return and_(
        lot.c.brand == taken.c.brand,
        lot.c.member == taken.c.member,
        lot.c.entry_id == taken.c.lot,
        lot.c.active_at.is_not(None),
        *cut.of(lot),
    )


def _taken(taken: FromClause, lot: FromClause, joined: FromClause) -> Select[Any]:
    return select(lot.c.expires_at, func.coalesce(lot.c.active_at, 0), -taken.c.points).select_from(joined)


def rows_of(conn: Connection, statements: FromClause, brand: str, cut: Cut) -> list[ColumnElement[bool]]:
    """Conditions for a brand's statement rows that count; of a part of its time by the index of its campaigns."""
    where = [statements.c.brand == brand, *cut.of(statements)]
    return where if cut.after is None else [*where, statements.c.campaign.in_(campaigns(conn, brand))]


def campaigns(conn: Connection, brand: str) -> list[str]:
    """The campaigns of a brand's statement rows, '' for those of none; a step of the index for each."""
    found: list[str] = []
    next_one = select(func.min(_S.c.campaign)).where(_S.c.brand == brand)
    name = conn.execute(next_one).scalar_one()
    while name is not None:
        found.append(name)
        name = conn.execute(next_one.where(_S.c.campaign > name)).scalar_one()
    return found
