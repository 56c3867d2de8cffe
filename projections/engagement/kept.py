"""The kept digests of the engagement tables: what a batch changes of them, from the few rows that it meets.

A row of a digest is a sum over pane rows, so all of these are needed, not only those that a batch writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import compress, groupby
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, bindparam, select

from aggregates.database import among
from projections.engagement.sums import totals
from projections.engagement.tables import COUNTER_COLUMNS, DIGESTS, KEY, MEMBERS
from projections.upkeep.digest import of_canonical
from projections.upkeep.rows import MODULUS, NOTHING, Digest

MERGED: Final = (*(key for key in KEY if key not in ("segment", "partition", "epoch")), "length_ms")
"""What makes a canonical row of panes one."""
_TOLD: Final = ("brand", "member", "tier", "followers", "platforms", "changes")
_SOME: Final = 500
"""Members asked for in one statement."""
_MEMBER_ROWS: Final = select(*(MEMBERS.c[name] for name in _TOLD))
_OF: Final = DIGESTS.c.name == bindparam("of")
_KEPT: Final = select(DIGESTS.c.rows, DIGESTS.c.digest).where(_OF)
_HELD: Final = select(DIGESTS.c.name).where(_OF).with_for_update()
_CHANGED: Final = DIGESTS.update().where(_OF)


def pane_rows(conn: Connection, panes: Table) -> Iterator[dict[str, Any]]:
    """The canonical rows of a table of panes: what two builds from one log must agree on."""
    found = totals(conn, panes, [panes.c[name] for name in MERGED])
    return canonical((keys, [*counters.values()]) for keys, counters in found)


def canonical(sums: Iterable[tuple[Sequence[Any], Sequence[int]]]) -> Iterator[dict[str, Any]]:
    """Canonical rows of panes: from the values of `MERGED`, and the sums of the counters in the order of `COUNTERS`.

    Panes are merged over segments, source partitions and epochs, and stamps are left out, so that it does not matter
    where in the log a record stood. Counters of 0 are left out, and rows that have no others, and `post` where it is
    empty.
    """
    for keys, counters in sums:
        filled = dict(compress(zip(COUNTER_COLUMNS, counters, strict=True), counters))
        if filled:
            row = dict(zip(MERGED, keys, strict=True))
            if not row["post"]:
                del row["post"]
            yield row | filled


def member_rows(conn: Connection) -> Iterator[dict[str, Any]]:
    """The canonical rows of members' tiers."""
    return map(dict, conn.execute(_MEMBER_ROWS).mappings())


@cache
def _some_of_a_brand(dialect: str) -> Select[Any]:
    return _MEMBER_ROWS.where(MEMBERS.c.brand == bindparam("of_brand"), among(dialect, MEMBERS.c.member, "some"))


def of_members(conn: Connection, records: Iterable[Mapping[str, Any]]) -> Digest:
    """The digest of the rows of the members that `records` are about."""
    met = sorted({(record["brand_id"], record["member_id"]) for record in records})
    digest = NOTHING
    for brand, members in groupby(met, lambda one: one[0]):
        names = [member for _, member in members]
        for start in range(0, len(names), _SOME):
            some = {"of_brand": brand, "some": names[start : start + _SOME]}
            found = conn.execute(_some_of_a_brand(conn.dialect.name), some)
            digest = digest.plus(of_canonical(map(dict, found.mappings())))
    return digest


def kept(conn: Connection, table: str) -> Digest:
    """The kept digest of a table."""
    row = conn.execute(_KEPT, {"of": table}).one()
    return Digest(int(row.rows), int(row.digest, 16))


def hold(conn: Connection, table: str) -> None:
    """Until the transaction ends nobody else brings the kept digest of this table up to anything."""
    conn.execute(_HELD, {"of": table})


def change(conn: Connection, table: str, before: Digest, after: Digest) -> None:
    """Bring the kept digest of a table, which is held, up to rows that took the place of others."""
    if after != before:
        now = kept(conn, table)
        total = (now.total + after.total - before.total) % MODULUS
        digest = Digest(now.rows + after.rows - before.rows, total)
        conn.execute(_CHANGED, {"of": table, "rows": digest.rows, "digest": digest.hexadecimal()})
