"""The blocking reads behind live events: what has changed above a position, as a reader gets it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final, NamedTuple

from aggregates.database import open_database
from projections import queries
from projections.answers import Balance, StandingChange
from projections.projection import Page
from projections.queries import changes
from projections.queries.changes import BalanceChange, ScoreChange, Touched
from projections.upkeep.digest import snapshot

PAGE: Final = 2_000
"""Ledger events a look."""
SPAN: Final = 5_000
"""Ledger events that are gone through at a time for who comes back after long; cut off in one, it begins that again."""

BALANCE: Final = "balance"
STANDING: Final = "standing"


class Change(NamedTuple):
    """A balance or a score that has changed, and what it is since."""

    kind: str
    """`balance` or `standing`."""
    seq: int
    """The ledger position at which it changed."""
    brand: str
    member: str
    campaign: str
    """Empty for a balance."""
    body: Balance | StandingChange
    json: str
    """The body as it is sent."""


class Looked(NamedTuple):
    """What one look at the ledger found."""

    changes: list[Change]
    """By position."""
    reached: int
    """The ledger position up to which these are all."""
    is_all: bool
    """Whether there was no more."""


class LiveChanges:
    """Reads changes from the ledger and its read models. Safe to share between threads."""

    def __init__(self, database: str, clock: Callable[[], int]) -> None:
        """`clock` tells the instant that balances are judged at, in epoch milliseconds."""
        self._engine = open_database(database, read_only=True)
        self._clock = clock

    def close(self) -> None:
        """Give back the connections."""
        self._engine.dispose()

    def positions(self) -> tuple[int, int]:
        """The ledger position that all read models include, and that of the ledger itself."""
        with snapshot(self._engine) as conn:
            return queries.read_position(conn), queries.ledger_position(conn)

    def page(self, after: int) -> Looked:
        """The next changes above a position."""
        with snapshot(self._engine) as conn:
            position = queries.read_position(conn)
            if position <= after:
                return Looked([], after, True)
            page = changes.events(conn, after, position, PAGE)
            found = [_told(one, position) for one in changes.of_events(conn, Page(page), self._clock())]
        reached = page[-1].id if len(page) == PAGE else position
        return Looked(sorted(found, key=_position), reached, reached == position)

    def touched(self, after: int, brand: str | None) -> tuple[list[Touched], int]:
        """Who has events in the next span above a position, and where the span ends."""
        with snapshot(self._engine) as conn:
            end = min(after + SPAN, queries.read_position(conn))
            return changes.touched(conn, after, end, brand), end

    def of_touched(self, some: Iterable[Touched]) -> list[Change]:
        """What these have now, by the position of what touched them last."""
        with snapshot(self._engine) as conn:
            position = queries.read_position(conn)
            found = [_told(one, position) for one in changes.of_touched(conn, some, self._clock())]
        return sorted(found, key=_position)


def _position(change: Change) -> int:
    return change.seq


def _told(change: BalanceChange | ScoreChange, position: int) -> Change:
    of = change.brand, change.member
    if isinstance(change, BalanceChange):
        balance = Balance(
            brand=change.brand,
            member_id=change.member,
            **{**change.totals._asdict(), **change.judged._asdict()},
            position=position,
        )
        return Change(BALANCE, change.seq, *of, "", balance, balance.model_dump_json())
    standing = StandingChange(
        brand=change.brand,
        campaign=change.campaign,
        member_id=change.member,
        metric=change.metric,
        score=Decimal(change.score) if isinstance(change.score, str) else change.score,
        tier=change.tier,
        rank=change.rank,
        final=change.final,
        position=change.seq if change.final else position,
    )
    return Change(STANDING, change.seq, *of, change.campaign, standing, standing.model_dump_json())
