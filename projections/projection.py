"""What a projection is: a name, a version, its tables and a pure fold from ledger events to row changes.

A projection is disposable: its tables can be dropped and folded again from the ledger at any time, in pages of any
size, with the same result. So a change of a row is one of three: kept from the first event that made the row, added
up, or taken from the latest event; folding a page and writing a row follow the same three rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from sqlalchemy import BigInteger, Column, Index, MetaData, Table, Text
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
    """Nearly every change makes a new row: then rows are written first, and old ones read only when that fails."""
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
