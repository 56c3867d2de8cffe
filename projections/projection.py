"""What a projection is: a name, a version, its tables and a pure fold from ledger events to row changes.

A projection is disposable: its tables can be dropped and folded again from the ledger at any time, in pages of any
size, with the same result. So a change of a row is one of three: kept from the first event that made the row, added
up, or taken from the latest event; folding a page and writing a row follow the same three rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from sqlalchemy import BigInteger, Column, Connection, Index, MetaData, Table, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

T = TypeVar("T")

METADATA: Final = MetaData()
"""Every table of the ledger's read models."""

STRING: Final[TypeEngine[str]] = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
"""Text that every database orders by its bytes, as Python does."""

Value = int | str | None
Row = dict[str, Value]
Key = tuple[Value, ...]
Changes = Mapping[str, Iterable[Row]]
"""Table name → rows, each key at most once."""
Held: TypeAlias = MutableMapping[str, dict[Key, list[Any]]]
"""Table name → primary key → the row that events changed so far, as the values of the table's columns."""
Source: TypeAlias = "Callable[[int, int], list[Recorded]]"
"""`(after, limit)` → at most `limit` ledger events with a notification id above `after`, oldest first."""


@dataclass(frozen=True, slots=True)
class ReadTable:
    """A table of a projection and how each of its columns changes when a later event meets the same key."""

    table: Table
    sums: tuple[str, ...] = ()
    """Columns that add up. They must be integers."""
    latest: tuple[str, ...] = ()
    """Columns that the latest event sets. What is in neither is kept from the row's first event."""
    volatile: frozenset[str] = frozenset()
    """Columns that differ between two runs of one log (recorded times, notification ids, where in the log a record
    stood): they are in no digest."""
    mostly_new: bool = False
    """Nearly every change makes a new row: then rows are written first, and old ones read only when that fails. Such a
    table has a column `seq`, the notification id of the row's first event."""
    new_where: str = ""
    """A column that adds up, whose change is above zero where it nearly always makes a new row, and only there."""
    name: str = ""
    """What folds and digests call it: the table's name, also where the table is a copy under another one."""
    key: tuple[str, ...] = field(init=False)
    """The primary key's columns, in order."""
    columns: tuple[str, ...] = field(init=False)
    """All columns, in order."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or str(self.table.name))
        object.__setattr__(self, "key", tuple(column.name for column in self.table.primary_key))
        object.__setattr__(self, "columns", tuple(column.name for column in self.table.columns))


@dataclass(frozen=True, slots=True)
class Projection:
    """A read model of the ledger. Raise `version` whenever the fold or a table changes: it is then built anew."""

    name: str
    version: int
    tables: tuple[ReadTable, ...]
    fold: Callable[[Sequence[Recorded]], Changes]
    """Pure: the row changes of these events, in their order. Never fails on a stored event."""
    folds_into: Callable[[Sequence[Recorded], Held], None] | None = None
    """The same, added to what is held, which has none or all of the rows of a table that earlier events changed; for a
    read model that many events change. Then `fold` is made of it, by `fold_of`."""
    handles: frozenset[type] | None = None
    """The types of events that change a row; None: all may. The others need not be folded."""

    then: Callable[[Connection, Held], Callable[[], None]] | None = None
    """Called with what is held, in the transaction that writes it, for what is derived from the rows and kept: it asks
    what there is of that, and the answer does what is to be done."""

    def hold(self, events: Sequence[Recorded], held: Held) -> None:
        """Add the row changes of these events, which come after those that are held, to what is held."""
        if self.folds_into is not None:
            self.folds_into(events, held)
            return
        if self.handles is not None:
            events = [recorded for recorded in events if type(recorded.event) in self.handles]
        changes = self.fold(events)
        for target in self.tables:
            merge(target, held.setdefault(target.name, {}), changes.get(target.name, ()))


def merge(target: ReadTable, held: dict[Key, list[Any]], rows: Iterable[Row]) -> None:
    """Add changes of rows, in the order of their events, to those that are held."""
    columns = target.columns
    combine(target, held, ([row[name] for name in columns] for row in rows))


def combine(target: ReadTable, held: dict[Key, list[Any]], rows: Iterable[list[Any]]) -> None:
    """The same with rows as the values of the table's columns."""
    key, sums, latest = (
        [target.columns.index(name) for name in names] for names in (target.key, target.sums, target.latest)
    )
    for row in rows:
        known = held.setdefault(tuple([row[place] for place in key]), row)
        if known is not row:
            for place in sums:
                known[place] += row[place]
            for place in latest:
                known[place] = row[place]


def fold_of(
    folds_into: Callable[[Sequence[Recorded], Held], None], target: ReadTable
) -> Callable[[Sequence[Recorded]], Changes]:
    """The fold of a projection of one table that has `folds_into`."""

    def fold(events: Sequence[Recorded]) -> Changes:
        held: Held = {}
        folds_into(events, held)
        return {target.name: [dict(zip(target.columns, row, strict=True)) for row in held[target.name].values()]}

    return fold


class Page(list["Recorded"]):
    """The events of a page, which nobody changes: what several folds derive from them is worked out once."""

    def __init__(self, events: Iterable[Recorded]) -> None:
        super().__init__(events)
        self._derived: dict[Callable[[Sequence[Recorded]], Any], Any] = {}

    def once(self, derive: Callable[[Sequence[Recorded]], T]) -> T:
        """What `derive` makes of the events."""
        if derive not in self._derived:
            self._derived[derive] = derive(self)
        made: T = self._derived[derive]
        return made


class Coalesced:
    """The rows that one page changes in one table, merged by key as the database would merge them."""

    def __init__(self, target: ReadTable) -> None:
        self._target = target
        self._key = itemgetter(*target.key)
        self._rows: dict[Value | Key, Row] = {}

    def add(self, row: Row) -> None:
        """Merge a full row (every column of the table) into what the page has for its key."""
        target = self._target
        known = self._rows.setdefault(self._key(row), row)
        if known is row:
            return
        for name in target.sums:
            known[name] += row[name]  # type: ignore[operator]
        for name in target.latest:
            known[name] = row[name]

    def changes(self) -> Changes:
        """What the projection's fold answers for this table alone."""
        return {self._target.name: self._rows.values()}


def text(name: str, *, key: bool = False, optional: bool = False) -> Column[Any]:
    """A text column."""
    return Column(name, STRING, primary_key=key, nullable=optional)


def number(name: str, *, key: bool = False, optional: bool = False) -> Column[Any]:
    """A 64-bit integer column."""
    return Column(name, BigInteger, primary_key=key, nullable=optional, autoincrement=False)


def read_table(name: str, *columns: Column[Any] | Index) -> Table:
    """A table in `METADATA`."""
    return Table(name, METADATA, *columns)
