"""Read-state: whatever a fold reads of the past, kept for each source partition with the position it belongs to.

Profiles and tiers, memberships, definitions, the greatest times, rejected offsets and counts. It is written last in
the order of durability (ledger, then panes and dead letters, then this), so work resumes at its position and a record
folded again meets the read-state it met the first time.
"""

from __future__ import annotations

import json
from bisect import insort
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from aggregates.database import brief_transaction, insert_into
from aggregates.ledger import Fenced, Source
from aggregates.programs import Programs
from streams.readstate_tables import CLOSINGS, DEFINITIONS, MEMBERSHIPS, METADATA, POSITIONS, PROFILES, REJECTED
from streams.recent import tail_start
from streams.tier_history import NO_TIER, TierChange, TierHistory


class OtherLog(Exception):
    """The positions of this deployment belong to another creation of the activity log."""


_LOG = 1 << 40
"""More offsets than a log has."""
_IS_OURS: Final = POSITIONS.c.source == sa.bindparam("of_source"), POSITIONS.c.writer == sa.bindparam("of_writer")
_OURS: Final = sa.select(POSITIONS.c.position).where(*_IS_OURS)
_MOVED: Final = sa.update(POSITIONS).where(*_IS_OURS, POSITIONS.c.position == sa.bindparam("previous"))
_PASSED: Final = sa.delete(REJECTED).where(
    REJECTED.c.source == sa.bindparam("of_source"), REJECTED.c.offset < sa.bindparam("tail")
)
MemberKey = tuple[str, str]
"""Brand and member."""
CampaignKey = tuple[str, str]
"""Brand and campaign."""
MembershipKey = tuple[str, str, str]
"""Brand, member and campaign."""
Change = tuple[int, int, bool]
"""When it occurred, its offset, and whether the member joined (else left)."""


@dataclass(slots=True)
class Delta:
    """What changed since the last save, with its values at `position`."""

    previous: int
    """The position saved before."""
    position: int
    greatest_event_time: int
    greatest_record_time: int
    counts: dict[str, int]
    profiles: dict[MemberKey, tuple[dict[str, int], str]]
    """Followers by platform, and the history of tiers as it is stored."""
    memberships: dict[MembershipKey, list[Change]]
    definitions: list[tuple[int, str]]
    rejected: list[int]
    closings: list[tuple[CampaignKey, int]] = field(default_factory=list)


@dataclass(slots=True)
class ReadState:
    """The read-state of one partition in memory."""

    saved: int = 0
    """The position it was loaded at."""
    outputs: dict[str, int] = field(default_factory=dict)
    """Output topic → the end offset after the last flush."""
    greatest_event_time: int = 0
    greatest_record_time: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    profiles: dict[MemberKey, dict[str, int]] = field(default_factory=dict)
    tiers: dict[MemberKey, TierHistory] = field(default_factory=dict)
    memberships: dict[MembershipKey, list[Change]] = field(default_factory=dict)
    programs: Programs = field(default_factory=Programs)
    closed: dict[CampaignKey, int] = field(default_factory=dict)
    """Closed campaign → the offset of its marker."""
    rejected: deque[int] = field(default_factory=deque)
    _profiles: set[MemberKey] = field(default_factory=set)
    _memberships: set[MembershipKey] = field(default_factory=set)
    _definitions: list[tuple[int, str]] = field(default_factory=list)
    _closings: list[tuple[CampaignKey, int]] = field(default_factory=list)
    _rejected: list[int] = field(default_factory=list)

    def set_followers(self, key: MemberKey, occurred_at: int, platform: str, followers: int) -> bool:
        """Note the followers of a member of a known brand on a platform; True when they changed."""
        profile = self.profiles.setdefault(key, {})
        if profile.get(platform) == followers:
            return False
        before = max(profile.values(), default=None)
        profile[platform] = followers
        if max(profile.values()) != before:
            bands = self.programs.bands(key[0])
            assert bands is not None
            self.tiers.setdefault(key, TierHistory()).note(occurred_at, profile, bands)
        self._profiles.add(key)
        return True

    def tier_at(self, key: MemberKey, at: int) -> TierChange:
        """The member's tier as of an instant (epoch milliseconds), by the changes and definitions seen so far."""
        history = self.tiers.get(key)
        return NO_TIER if history is None else history.at(at, self.programs.bands(key[0]))

    def tiers_of(self, key: MemberKey) -> tuple[str, list[TierChange]]:
        """The tier of a member with a profile as of the log's own time, and all changes of tier, those ahead too."""
        bands = self.programs.bands(key[0])
        assert bands is not None
        history = self.tiers[key]
        now = bands.at(max(self.greatest_record_time, history.latest().occurred_at))
        return now.tier_of(max(self.profiles[key].values())), history.told(bands)

    def set_membership(self, key: MembershipKey, occurred_at: int, offset: int, joined: bool) -> None:
        """Note that a member joined or left a campaign."""
        insort(self.memberships.setdefault(key, []), (occurred_at, offset, joined))
        self._memberships.add(key)

    def is_member(self, key: MembershipKey, at: int) -> bool:
        """Whether the member takes part at `at` (epoch milliseconds), by the changes seen so far."""
        joined = False
        for occurred_at, _, value in self.memberships.get(key, ()):
            if occurred_at > at:
                break
            joined = value
        return joined

    def define(self, offset: int, brand: str, content: str) -> bool:
        """Add an accepted definition of a brand or its campaign; whether the brand's tiers are others now or later."""
        before = self.programs.bands(brand)
        self.programs.add(content)
        self._definitions.append((offset, content))
        bands = self.programs.bands(brand)
        if bands is None or bands == before:
            return False
        self.divide(brand)
        return True

    def divide(self, brand: str) -> None:
        """Keep followers by every bound that a known brand has by now."""
        bands = self.programs.bands(brand)
        assert bands is not None
        for key in self.members_of(brand):
            if self.tiers[key].divide(self.profiles[key], bands):
                self._profiles.add(key)

    def has_other_bands(self, brand: str) -> bool:
        """Whether the brand's tiers are not the same for ever."""
        bands = self.programs.bands(brand)
        return bands is not None and len(bands.starts) > 1

    def members_of(self, brand: str) -> list[MemberKey]:
        """The brand's members with a profile."""
        return [key for key in self.profiles if key[0] == brand]

    def close(self, brand: str, campaign: str, offset: int) -> bool:
        """Note a campaign's marker; False when it has one already, which stays."""
        if (brand, campaign) in self.closed:
            return False
        self.closed[brand, campaign] = offset
        self._closings.append(((brand, campaign), offset))
        return True

    def reject(self, offset: int) -> None:
        """Note the offset of a dead letter."""
        self.rejected.append(offset)
        self._rejected.append(offset)
        while self.rejected[0] < tail_start(offset):
            self.rejected.popleft()

    def take(self, previous: int, position: int) -> Delta:
        """What is to be saved for `position`, which must be the position reached now, after `previous`."""
        delta = Delta(
            previous,
            position,
            self.greatest_event_time,
            self.greatest_record_time,
            dict(self.counts),
            {key: (dict(self.profiles[key]), self.tiers[key].as_json()) for key in self._profiles},
            {key: list(self.memberships[key]) for key in self._memberships},
            self._definitions,
            self._rejected,
            self._closings,
        )
        self._profiles, self._memberships, self._definitions, self._rejected = set(), set(), [], []
        self._closings = []
        return delta


def create_tables(engine: sa.Engine) -> None:
    """Create the read-state tables where they are missing."""
    METADATA.create_all(engine)


def take(engine: sa.Engine, source: Source, writer: str) -> ReadState:
    """Make `writer` the owner of a partition's read-state, and load it; an empty one for a partition never read.

    From then on the former owner's saves are refused. Raises `OtherLog` when the partition was read from another
    creation of the topic, and nobody has said yet that this one takes its place; `Fenced` when another one took it
    meanwhile.
    """
    with brief_transaction(engine) as connection:
        _check_epoch(connection, source)
        row = {"source": source.name, "partition": source.partition, "position": 0, "writer": writer,
               "greatest_event_time": 0, "greatest_record_time": 0, "counts": "{}", "outputs": "{}"}  # fmt: skip
        connection.execute(_upsert(connection.dialect.name, POSITIONS, ("writer",)), row)
    with engine.begin() as connection:  # apart, for it may take long
        state = _load(connection, source)
        owner = connection.execute(sa.select(POSITIONS.c.writer).where(POSITIONS.c.source == source.name)).scalar()
        if owner != writer:  # else nobody has saved meanwhile, and what was loaded is of one moment
            raise Fenced(
                f"{source.topic} partition {source.partition}: another worker took it while this one loaded it"
            )
        return state


def load(engine: sa.Engine, source: Source) -> ReadState:
    """The saved read-state of a partition, to look at; an empty one for a partition never read."""
    with engine.begin() as connection:
        return _load(connection, source)


def of_member(connection: sa.Connection, brand: str, member: str) -> ReadState:
    """What the saved read-state has of one member, wherever that is kept; without definitions."""
    state = ReadState()
    sources = list(connection.execute(sa.select(POSITIONS.c.source)).scalars())

    def rows(table: sa.Table) -> sa.CursorResult[Any]:
        c = table.c  # with the source, the first of its key, this reads no other member's rows
        where = c.source.in_(sources), c.brand == brand, c.member == member
        return connection.execute(sa.select(table).where(*where))

    _take_in(state, rows(PROFILES), rows(MEMBERSHIPS))
    return state


def _check_epoch(connection: sa.Connection, source: Source) -> None:
    of_partition = POSITIONS.c.source.startswith(f"{source.topic}/"), POSITIONS.c.partition == source.partition
    found = {row.source: row.position for row in connection.execute(sa.select(POSITIONS).where(*of_partition))}
    if found and source.name not in found:
        raise OtherLog(
            f"{source.topic} partition {source.partition} was read as {', '.join(found)} up to offset "
            f"{max(found.values())}; the topic that is there now is {source.name}"
        )


def _load(connection: sa.Connection, source: Source) -> ReadState:
    state = ReadState()
    row = connection.execute(sa.select(POSITIONS).where(POSITIONS.c.source == source.name)).one_or_none()
    if row is None:
        return state
    state.saved = row.position
    state.greatest_event_time = row.greatest_event_time
    state.greatest_record_time = row.greatest_record_time
    state.counts = Counter(json.loads(row.counts))
    state.outputs = json.loads(row.outputs)
    _take_in(
        state,
        connection.execute(sa.select(PROFILES).where(PROFILES.c.source == source.name)),
        connection.execute(sa.select(MEMBERSHIPS).where(MEMBERSHIPS.c.source == source.name)),
    )
    definitions = sa.select(DEFINITIONS).where(DEFINITIONS.c.source == source.name).order_by(DEFINITIONS.c.offset)
    for d in connection.execute(definitions):
        state.programs.add(d.content)
    for c in connection.execute(sa.select(CLOSINGS).where(CLOSINGS.c.source == source.name)):
        state.closed[c.brand, c.campaign] = c.offset
    rejected = sa.select(REJECTED.c.offset).where(REJECTED.c.source == source.name).order_by(REJECTED.c.offset)
    state.rejected = deque(connection.execute(rejected).scalars())
    for brand in {brand for brand, _ in state.profiles if state.has_other_bands(brand)}:
        state.divide(brand)  # an older release kept followers by the bounds in force alone
    return state


def _take_in(state: ReadState, profiles: Iterable[Any], memberships: Iterable[Any]) -> None:
    for p in profiles:
        state.profiles[p.brand, p.member] = json.loads(p.platforms)
        state.tiers[p.brand, p.member] = TierHistory.from_json(p.tiers)
    for m in memberships:
        state.memberships[m.brand, m.member, m.campaign] = [(a, o, j) for a, o, j in json.loads(m.changes)]


def accept(
    connection: sa.Connection, old: str, new: Source, position: int, *, anew: bool = False, lost: bool = False
) -> None:
    """Move a partition's read-state from the source named `old` to `new` and `position`; whoever owns it loses it.

    `anew` forgets it instead, but for definitions and markers of logs before, so that the whole log is folded again;
    `lost` forgets where the outputs ended.
    """
    # first what `save` takes first, so that one waits for the other
    connection.execute(sa.select(POSITIONS.c.source).where(POSITIONS.c.source == old).with_for_update())
    for table in (PROFILES, MEMBERSHIPS, DEFINITIONS, CLOSINGS, REJECTED):
        if anew or table is REJECTED:
            of_log = [table.c.offset >= 0] if table in (DEFINITIONS, CLOSINGS) else []
            connection.execute(sa.delete(table).where(table.c.source == old, *of_log))
        elif old != new.name:
            moved: dict[str, Any] = {"source": new.name}
            if table in (CLOSINGS, DEFINITIONS):  # before all offsets of the log that comes
                moved["offset"] = -1 if table is CLOSINGS else table.c.offset - _LOG
            connection.execute(sa.update(table).where(table.c.source == old).values(**moved))
    row = {"source": new.name, "position": position, "writer": ""} | ({"outputs": "{}"} if lost else {})
    row |= {"greatest_event_time": 0, "greatest_record_time": 0, "counts": "{}", "outputs": "{}"} if anew else {}
    connection.execute(sa.update(POSITIONS).where(POSITIONS.c.source == old).values(**row))


def save(engine: sa.Engine, source: Source, delta: Delta, writer: str, outputs: Mapping[str, int]) -> None:
    """Write a delta, its position and the end offsets of the outputs in one transaction.

    Raises `Fenced` when the position is not the one before, or another writer has taken the partition. Saving again
    what was saved (its acknowledgement was lost) changes nothing.
    """
    row = {
        "position": delta.position,
        "greatest_event_time": delta.greatest_event_time,
        "greatest_record_time": delta.greatest_record_time,
        "counts": json.dumps(delta.counts, sort_keys=True),
        "outputs": json.dumps(outputs, sort_keys=True),
    }
    ours = {"of_source": source.name, "of_writer": writer}
    with brief_transaction(engine) as connection:
        if connection.execute(_MOVED, {**ours, "previous": delta.previous, **row}).rowcount != 1:
            if connection.execute(_OURS, ours).scalar() == delta.position:
                return
            raise Fenced(
                f"{source.topic} partition {source.partition}: the saved read-state is no longer ours at "
                f"{delta.previous}. Another worker owns the partition; this one must stop writing it."
            )
        profiles = [
            {
                "source": source.name,
                "brand": b,
                "member": m,
                "platforms": json.dumps(p, sort_keys=True),
                "tiers": tiers,
            }
            for (b, m), (p, tiers) in delta.profiles.items()
        ]
        memberships = [
            {"source": source.name, "brand": b, "member": m, "campaign": c, "changes": json.dumps(changes)}
            for (b, m, c), changes in delta.memberships.items()
        ]
        definitions = [{"source": source.name, "offset": o, "content": c} for o, c in delta.definitions]
        closings = [{"source": source.name, "brand": b, "campaign": c, "offset": o} for (b, c), o in delta.closings]
        rejected = [{"source": source.name, "offset": o} for o in delta.rejected]
        for table, rows in (
            (PROFILES, profiles),
            (MEMBERSHIPS, memberships),
            (DEFINITIONS, definitions),
            (CLOSINGS, closings),
            (REJECTED, rejected),
        ):
            if rows:
                connection.execute(_upsert(connection.dialect.name, table), rows)
        connection.execute(_PASSED, {"of_source": source.name, "tail": tail_start(delta.position)})


@cache
def _upsert(dialect: str, table: sa.Table, change: tuple[str, ...] | None = None) -> sa.Insert:
    """Insert, or change the columns `change` (all by default) of the row that is there."""
    statement = insert_into(dialect, table)
    keys = [c.name for c in table.primary_key]
    names = [c.name for c in table.columns if c.name not in keys] if change is None else change
    if not names:
        return statement.on_conflict_do_nothing(index_elements=keys)
    changed = {name: statement.excluded[name] for name in names}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


def positions(connection: sa.Connection) -> Iterable[Any]:
    """Every partition's saved row: `source, partition, position, counts, outputs, …`."""
    return connection.execute(sa.select(POSITIONS).order_by(POSITIONS.c.source)).all()


def behind_marker(connection: sa.Connection, brand: str, campaign: str) -> list[Any]:
    """The saved row of every partition whose position is behind the campaign's marker."""
    of_campaign = (CLOSINGS.c.brand == brand) & (CLOSINGS.c.campaign == campaign)
    closed = sa.select(CLOSINGS.c.source).where(of_campaign)
    return list(connection.execute(sa.select(POSITIONS).where(POSITIONS.c.source.in_(closed))).all())
