"""The projection of `MemberTier` records: who is in which tier, now and before, and the followers behind it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby, pairwise
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Delete, Insert, Select, bindparam, or_, select

from aggregates.database import among, insert_into
from projections.engagement.tables import MEMBER_TIERS, MEMBERS

_ID_CHUNK: Final = 500


class TierChange(NamedTuple):
    """When a member came into a tier, in event time, and the followers that decided it."""

    occurred_at: int
    number: int
    """In the order of the log, from 0; a change that new bands of the brand brought has that of the one before it."""
    tier: str
    platform: str
    followers: int | None


def member_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a `MemberTier` record. Raises KeyError when the record lacks a field."""
    return {
        "brand": record["brand_id"],
        "member": record["member_id"],
        "tier": record["tier"],
        "followers": record["followers"],
        "platforms": json.dumps(record["platforms"], sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        "changes": record.get("changes", ""),
        "partition": record["partition"],
        "epoch": record["epoch"],
        "stamp": record["stamp"],
    }


def changes_of(text: str) -> list[TierChange]:
    """The changes that a row has, by when they occurred; none for one that an older release wrote."""
    return [TierChange(*change) for change in json.loads(text)] if text else []


def is_whole(changes: Sequence[TierChange]) -> bool:
    """Whether none can have been let go: before the first of them the member had no tier."""
    numbers = {change.number for change in changes}
    return len(numbers) == max(numbers, default=-1) + 1 > 0


def write_members(conn: Connection, records: Iterable[Mapping[str, Any]]) -> int:
    """Write the newest record of each member, unless a newer one is stored. Returns the number of members met.

    `records` stand as in the topic: of one epoch the greatest stamp is the newest; a log made anew counts its offsets
    anew, so a record of another epoch than what is stored replaces it.
    """
    met: set[tuple[str, str]] = set()
    for _, run in groupby(map(member_row, records), lambda row: row["epoch"]):
        newest: dict[tuple[str, str], dict[str, Any]] = {}
        for row in run:
            member = (row["brand"], row["member"])
            if member not in newest or row["stamp"] > newest[member]["stamp"]:
                newest[member] = row
        conn.execute(_writing(conn.dialect.name), list(newest.values()))
        met |= newest.keys()
    for brand in sorted({brand for brand, _ in met}):
        _derive(conn, brand, [member for of, member in met if of == brand])
    return len(met)


@cache
def _writing(dialect: str) -> Insert:
    statement = insert_into(dialect, MEMBERS)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=list(MEMBERS.primary_key.columns),
        set_={column.name: new[column.name] for column in MEMBERS.columns if not column.primary_key},
        where=or_(new.stamp > MEMBERS.c.stamp, new.epoch != MEMBERS.c.epoch),
    )


@cache
def _old_spans(dialect: str) -> Delete:
    at = MEMBER_TIERS.c
    return MEMBER_TIERS.delete().where(at.brand == bindparam("of_brand"), among(dialect, at.member, "some"))


@cache
def _standing(dialect: str) -> Select[Any]:
    at = MEMBERS.c
    return select(MEMBERS).where(at.brand == bindparam("of_brand"), among(dialect, at.member, "some"))


def _derive(conn: Connection, brand: str, members: Sequence[str]) -> None:
    """Write anew from when until when these members were in each tier, by the rows that stand."""
    for start in range(0, len(members), _ID_CHUNK):
        some = members[start : start + _ID_CHUNK]
        of_them = {"of_brand": brand, "some": some}
        conn.execute(_old_spans(conn.dialect.name), of_them)
        stand = conn.execute(_standing(conn.dialect.name), of_them).mappings()
        rows = [row for found in stand for row in _spans(dict(found))]
        if rows:
            conn.execute(MEMBER_TIERS.insert(), rows)


def _spans(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One row for each time in a tier; of changes at one instant the last in the order of the log counts.

    A row of an older release tells of no changes: it counts as if the member had always been in the tier of now.
    """
    kept = changes_of(row["changes"]) or [TierChange(0, 0, row["tier"], "", None)]
    starting = list({change.occurred_at: change for change in kept}.values())
    for change, following in pairwise([*starting, None]):
        assert change is not None
        yield {
            "brand": row["brand"],
            "member": row["member"],
            "since": change.occurred_at,
            "until": None if following is None else following.occurred_at,
            "tier": change.tier,
            "platform": change.platform,
            "followers": change.followers,
        }
