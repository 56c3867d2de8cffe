"""The kept digests of the engagement tables: what a batch changes of them, from the few rows that it meets.

A row of a digest is a sum over pane rows, so it is read before and after they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, select

from aggregates.database import among
from projections.digest import of_canonical
from projections.engagement_sums import totals
from projections.engagement_tables import DIGESTS, KEY, MEMBERS, column_of
from projections.rows import MODULUS, NOTHING, Digest

_MERGED: Final = (*(key for key in KEY if key not in ("segment", "partition", "epoch")), "length_ms")
_TOLD: Final = ("brand", "member", "tier", "followers", "platforms", "changes")
_SOME: Final = 500
"""Members asked for in one statement."""


def pane_rows(conn: Connection, panes: Table, *where: ColumnElement[bool]) -> Iterator[dict[str, Any]]:
    """The canonical rows of a table of panes, of those that meet `where`: what two builds from one log must agree on.

    Panes are merged over segments, source partitions and epochs, and stamps are left out, so that it does not matter
    where in the log a record stood. Counters of 0 are left out, and rows that have no others, and `post` where it is
    empty.
    """
    for keys, counters in totals(conn, panes, [panes.c[name] for name in _MERGED], *where):
        filled = {column_of(counter): value for counter, value in counters.items() if value}
        if filled:
            row = dict(zip(_MERGED, keys, strict=True))
            if not row["post"]:
                del row["post"]
            yield {**row, **filled}


def member_rows(conn: Connection, *where: ColumnElement[bool]) -> Iterator[dict[str, Any]]:
    """The canonical rows of members' tiers."""
    for found in conn.execute(select(*(MEMBERS.c[name] for name in _TOLD)).where(*where)):
        yield dict(found._mapping)


def of_staged(conn: Connection, panes: Table, staged: Table) -> Digest:
    """The digest of the canonical rows that the rows of `staged` go into."""
    met = select(*(staged.c[name] for name in _MERGED)).distinct().subquery("met")
    return of_canonical(pane_rows(conn, panes, *(panes.c[name] == met.c[name] for name in _MERGED)))


def of_members(conn: Connection, records: Iterable[Mapping[str, Any]]) -> Digest:
    """The digest of the rows of the members that `records` are about."""
    met = sorted({(record["brand_id"], record["member_id"]) for record in records})
    digest = NOTHING
    for brand, members in groupby(met, lambda one: one[0]):
        names = [member for _, member in members]
        for start in range(0, len(names), _SOME):
            some = among(conn, MEMBERS.c.member, names[start : start + _SOME])
            digest = digest.plus(of_canonical(member_rows(conn, MEMBERS.c.brand == brand, some)))
    return digest


def kept(conn: Connection, table: str) -> Digest:
    """The kept digest of a table."""
    row = conn.execute(select(DIGESTS.c.rows, DIGESTS.c.digest).where(DIGESTS.c.name == table)).one()
    return Digest(int(row.rows), int(row.digest, 16))


@contextmanager
def keeping(conn: Connection, table: str, content: Callable[[], Digest]) -> Iterator[None]:
    """Bring the kept digest of a table up to what the block writes; `content` answers the digest of what it touches.

    Until the transaction ends nobody else writes the table in such a block.
    """
    row = DIGESTS.c.name == table
    conn.execute(select(DIGESTS.c.name).where(row).with_for_update())
    before = content()
    yield
    after = content()
    if after != before:
        now = kept(conn, table)
        total = (now.total + after.total - before.total) % MODULUS
        digest = Digest(now.rows + after.rows - before.rows, total)
        conn.execute(DIGESTS.update().where(row).values(rows=digest.rows, digest=digest.hexadecimal()))
