"""Reads of members' influence tiers, now and as of an instant of event time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, select

from aggregates.database import among
from projections.answers import iso
from projections.engagement.members import TierChange, changes_of, is_whole
from projections.engagement.models import MemberTierAnswer
from projections.engagement.people import UNKNOWN, tiers_of
from projections.engagement.queries import position_text
from projections.engagement.tables import MEMBERS
from projections.queries import NotFound

_NO_POSITIONS: Final[Mapping[int, int]] = {}
_ID_CHUNK: Final = 500


def member_tier(
    conn: Connection,
    brand: str,
    member: str,
    as_of: int | None = None,
    *,
    positions: Mapping[int, int] = _NO_POSITIONS,
) -> MemberTierAnswer:
    """The tier a member is in now, or was in as of an instant (epoch ms); `unknown` for one without a profile by then.

    Raises `NotFound` for an instant before the changes that are kept.
    """
    found = conn.execute(select(MEMBERS).where(MEMBERS.c.brand == brand, MEMBERS.c.member == member)).one_or_none()
    if as_of is None:
        return _now(brand, member, found, positions)
    table, where = tiers_of(brand, as_of)
    then = conn.execute(select(table).where(*where, table.c.member == member)).one_or_none()
    changes = changes_of(found.changes) if found is not None else []
    if found is not None and (not changes or as_of < changes[0].occurred_at) and not is_whole(changes):
        since = f"those from {iso(changes[0].occurred_at)} on" if changes else "none, as an older release wrote it,"
        raise NotFound(
            "as_of_needs_rederive",
            f"as_of: of `{brand}/{member}` {since} are the changes of tier that are kept; `groundswell replay "
            "rederive` answers what was before.",
        )
    return MemberTierAnswer(
        brand=brand,
        member=member,
        tier=then.tier if then else UNKNOWN,
        since=_since(changes, then.since, then.tier) if then else None,
        platform=(then.platform or None) if then else None,
        followers=then.followers if then else None,
        platforms={then.platform: then.followers} if then and then.platform else {},
        position=position_text(positions),
    )


def _now(brand: str, member: str, found: Any, positions: Mapping[int, int]) -> MemberTierAnswer:
    profiles: dict[str, int] = json.loads(found.platforms) if found else {}
    deciding = min(profiles, key=lambda name: (-profiles[name], name), default=None)
    changes = changes_of(found.changes) if found else []
    last = max((change.number for change in changes), default=None)
    its = [change for change in changes if change.number == last and change.tier == found.tier]
    latest = its[-1] if its else None  # none, where an older release wrote it; what lies ahead is another tier
    return MemberTierAnswer(
        brand=brand,
        member=member,
        tier=found.tier if found else UNKNOWN,
        since=_since(changes, latest.occurred_at, latest.tier) if latest else None,
        platform=deciding,
        followers=found.followers if found and profiles else None,
        platforms=profiles,
        position=position_text(positions),
    )


def _since(changes: Sequence[TierChange], at: int, tier: str) -> str:
    """When the tier of an instant began: not each change of followers that is kept is one of tier."""
    for change in reversed([change for change in changes if change.occurred_at <= at]):
        if change.tier != tier:
            break
        at = change.occurred_at
    return iso(at)


def member_tiers(conn: Connection, brand: str, members: Iterable[str], as_of: int | None = None) -> dict[str, str]:
    """The tier of each of these members now, or as of an instant (epoch ms); `unknown` for one without a profile."""
    asked = dict.fromkeys(members, UNKNOWN)
    ids = list(asked)
    table, where = tiers_of(brand, as_of)
    for start in range(0, len(ids), _ID_CHUNK):
        chunk = ids[start : start + _ID_CHUNK]
        some = among(conn.dialect.name, table.c.member, "some")
        found = conn.execute(select(table.c.member, table.c.tier).where(*where, some), {"some": chunk})
        asked.update((row.member, row.tier) for row in found)
    return asked
