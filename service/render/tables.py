"""The parts that printed answers are made of: tables, numbers, bars. No colour carries meaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

BAR: Final = 12
"""Characters of the longest bar."""
NOTHING: Final = "–"


def table(left: Sequence[str], right: Sequence[str] = ()) -> Table:
    """An empty table: columns of text, aligned left, then of numbers, aligned right."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in left:
        made.add_column(name, overflow="fold")
    for name in right:
        made.add_column(name, justify="right", no_wrap=True)
    return made


def titled(title: str, made: RenderableType, *after: RenderableType) -> Group:
    """A table under its title, and what follows it."""
    return Group(Text(title, style="bold"), made, *after)


def row(into: Table, cells: Iterable[object]) -> None:
    """Add a row; what is not text yet becomes it, never read as markup."""
    into.add_row(*(cell if isinstance(cell, Text) else Text(_shown(cell)) for cell in cells))


def _shown(cell: object) -> str:
    if cell is None or cell == "":
        return NOTHING
    return number(cell) if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)


def number(value: int) -> str:
    """An integer with its thousands apart."""
    return f"{value:,}"


def percent(rate: Decimal | None) -> str:
    """A rate as a percentage of three places."""
    return NOTHING if rate is None else f"{rate * 100:.3f} %"


def plain(rate: Decimal | None) -> str:
    """A quotient as a number of at most three places."""
    return NOTHING if rate is None else f"{rate:,.3f}"


def bar(value: Decimal | None, greatest: Decimal | None) -> Text:
    """A bar whose length is the share of the greatest value."""
    if value is None or not greatest or value <= 0:
        return Text("")
    return Text("█" * max(1, round(value / greatest * BAR)), style="cyan")


def more(cursor: str | None) -> list[Text]:
    """How to ask for the next page, if there is one."""
    return [Text(f"more: --cursor {cursor}")] if cursor else []
