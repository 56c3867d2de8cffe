"""What an event caused: followed forward through the ledger, from its record to every entry that touched its points.

Read from the accounts themselves, since a record that moved no points is in no read model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import Connection, select

from aggregates.events import (
    AccountEvent,
    CommandRefused,
    Origin,
    PrizeAwarded,
    PurchaseRecorded,
    RefundRecorded,
    StoredEvent,
)
from aggregates.ledger import Recorded, account_id
from aggregates.refusals import Refusal
from aggregates.rules import record_id
from projections import queries, refusals
from projections.answers import EntrySource, Explained, iso
from projections.answers.effects import Caused, Effects, Judged, LotNow, Prize, Referral, Traced
from projections.movements import Movement, movements
from projections.queries import settlement
from projections.queries.explain import by, explained, unpaid
from projections.settlements import PLACES
from projections.statements import holding_of, record_type, statement_row, what_happened

_POSITION: Final = re.compile(r"([0-9]{1,9}):([0-9]{1,18})")
_DUE: Final = "due"
_W: Final = PLACES.table

History = Callable[[str], Iterable[StoredEvent]]
"""The events of an aggregate by its id, oldest first."""


class _Account(NamedTuple):
    """One member's part of the ledger, cut to the times asked for."""

    member: str
    events: Sequence[Recorded]
    movements: Sequence[Movement]


class _World(NamedTuple):
    """What the tracing of one event reads."""

    conn: Connection
    history: History
    brand: str
    at: int
    """The instant whose dates decide what is pending, active and expired."""
    as_of: int | None
    known_at: int | None

    def account(self, member: str) -> _Account:
        """A member's events that had occurred and were recorded by then, numbered in the order of the ledger."""
        name = account_id(self.brand, member)
        kept = [
            Recorded(number, name, event)
            for number, event in enumerate(self.history(name), 1)
            if self._counts(_of(event).origin)
        ]
        return _Account(member, kept, movements(kept))

    def _counts(self, origin: Origin) -> bool:
        occurred = self.as_of is None or origin.occurred_at <= self.as_of
        return occurred and (self.known_at is None or origin.recorded_at <= self.known_at)


def effects(
    conn: Connection,
    history: History,
    brand: str,
    member: str,
    event: str,
    now: int,
    as_of: int | None = None,
    known_at: int | None = None,
) -> Effects:
    """All that came of a member's event: an event id, or `partition:offset` where no event has that id.

    `now` (epoch ms) is the instant whose dates decide where `as_of` is not given; `as_of` and `known_at` leave out
    what had not occurred, or was not recorded, by then. Raises `NotFound` for an unknown brand and for an event that
    the ledger has nothing of.
    """
    queries.brand_definition(conn, brand, now)
    position = queries.ledger_position(conn)
    world = _World(conn, history, brand, now if as_of is None else as_of, as_of, known_at)
    account = world.account(member)
    found = _matching(account, lambda origin: origin.event_id == event)
    place = _POSITION.fullmatch(event)
    if not found and place is not None:
        at = int(place[1]), int(place[2])
        found = _matching(account, lambda origin: (origin.partition, origin.offset) == at)
    if not found:
        raise queries.NotFound(
            "unknown_event",
            f"The ledger has nothing of `{brand}/{member}` that comes from `{event}`{by(as_of, known_at)}: no rule was "
            "about it, it came twice, or it is a dead letter (`groundswell dlt list`).",
        )
    caused = tuple(
        Caused(**dict(_judged(world, account, recorded)), referral=_referral(world, member, _of(recorded.event)))
        for recorded in found
    )
    return Effects(brand=brand, member_id=member, events=caused, position=position)


def _of(event: Any) -> AccountEvent:
    """An account has only these."""
    return cast(AccountEvent, event)


def _matching(account: _Account, wanted: Callable[[Origin], bool]) -> list[Recorded]:
    return [recorded for recorded in account.events if wanted(_of(recorded.event).origin)]


def _judged(world: _World, account: _Account, recorded: Recorded) -> Judged:
    event = _of(recorded.event)
    origin = event.origin
    refused = refusals.fold([recorded])[refusals.REFUSALS.name]
    return Judged(
        source=EntrySource(
            topic=origin.topic, partition=origin.partition, offset=origin.offset, event_id=origin.event_id
        ),
        record_type=record_type(event),
        member_id=account.member,
        occurred_at=iso(origin.occurred_at),
        recorded_at=iso(origin.recorded_at),
        happened=what_happened(event),
        tier=getattr(event, "tier", None),
        tier_followers=getattr(event, "tier_followers", None),
        entries=tuple(_traced(world, account, made) for made in account.movements if made.seq == recorded.id),
        unpaid=tuple(unpaid(SimpleNamespace(**row)) for row in refused),
        refused=_sentence(event.reason) if isinstance(event, CommandRefused) else None,
        prize=_prize(world, account.member, event) if isinstance(event, PrizeAwarded) else None,
    )


def _sentence(reason: str) -> str:
    name = reason.upper()
    return f"{Refusal[name].sentence if name in Refusal.__members__ else reason} [{reason}]"


def _traced(world: _World, account: _Account, made: Movement) -> Traced:
    """An entry, its lot as of then, and the entries after it that touched either."""
    entry = made.entry.entry_id
    later = []
    left = made.lot.points - _paid_off(world.at, account).get(entry, 0) if made.lot is not None else 0
    for other in account.movements:
        taken = sum(take.points for take in other.takes if take.lot == entry)
        left -= taken
        if other.entry.entry_id != entry and (taken or _undoes(other) == entry):
            later.append(_explained(other))
    return Traced(why=_explained(made), lot=_lot(world.at, made, left), later=tuple(later))


def _paid_off(at: int, account: _Account) -> dict[str, int]:
    """What each lot has paid of a debt by `at` (epoch ms), though no entry says so yet."""
    holding = holding_of(statement_row(made) for made in account.movements)
    lots = dict.fromkeys(made.entry.entry_id for made in account.movements if made.lot is not None)
    return dict(zip(lots, holding.paid_off_by(at), strict=False))


def _undoes(movement: Movement) -> str:
    """The entry that a movement takes back or cancels."""
    return getattr(movement.entry, "reverses", "") or getattr(movement.entry, "cancels", "")


def _explained(movement: Movement) -> Explained:
    return explained(SimpleNamespace(**statement_row(movement)))


def _lot(at: int, made: Movement, left: int) -> LotNow | None:
    lot = made.lot
    if lot is None:
        return None
    state = "active"
    if left == 0:
        state = "used_up"
    elif lot.active_at > at:
        state = "pending"
    elif lot.expires_at is not None and lot.expires_at <= at:
        state = "expired"
    return LotNow(left=left, state=state)


def _referral(world: _World, buyer: str, event: AccountEvent) -> Referral | None:
    """What a purchase or a refund puts on the referrer's key, as the outbox does it, and what came of it there."""
    if isinstance(event, PurchaseRecorded):
        referrer = event.referrer_id if event.referral == _DUE else None
    else:
        referrer = event.referrer_id if isinstance(event, RefundRecorded) else None
    if referrer is None:
        return None
    due = record_id("referral", buyer, event.origin.event_id)
    account = world.account(referrer)
    judged = _matching(account, lambda origin: origin.event_id == due)
    return Referral(member_id=referrer, event_id=due, judged=_judged(world, account, judged[0]) if judged else None)


def _prize(world: _World, member: str, event: PrizeAwarded) -> Prize:
    """The place that won a prize, in the standings that the campaign was settled by."""
    of_campaign = (_W.c.brand == world.brand, _W.c.campaign == event.campaign, _W.c.member == member)
    score = world.conn.execute(select(_W.c.score).where(*of_campaign)).scalar_one_or_none()
    settled = settlement.settlement(world.conn, world.brand, event.campaign)
    return Prize(
        campaign=event.campaign,
        version=event.version,
        metric=settled.metric if settled else None,
        rank=event.rank,
        score=settlement.number_of(score),
        members=settled.members if settled else None,
        settled_at=iso(settled.settled_at) if settled and settled.settled_at is not None else None,
    )
