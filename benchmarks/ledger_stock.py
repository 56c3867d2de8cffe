"""The peer of the ledger's benchmark: a stock eventsourcing application, as its documentation writes one.

An aggregate class with an event for what was decided, one record processed and saved at a time, with the library's
own recorder, mapper, JSON transcoder and tracking of the position. It takes the very same decisions (`decide`,
`evolve`). Tuned as the library advises for a single writer: aggregates are kept in its cache, not fast-forwarded and
not copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatchmethod
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
from eventsourcing.application import AggregateNotFoundError, ProcessingEvent
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import JSONTranscoder, Tracking, Transcoding
from eventsourcing.projection import EventSourcedProjection
from psycopg.conninfo import conninfo_to_dict

from aggregates.account import Account, decide, evolve
from aggregates.activity import Activity
from aggregates.database import is_postgres, sqlite_file
from aggregates.events import STORED_NAMES, AccountEvent, Origin
from schemas.topics import ACTIVITY

CACHED: Final = 50_000
"""Accounts; more than a run of the peer touches."""


class StockAccount(Aggregate):
    """A member's account as an aggregate of the library."""

    class Decided(Aggregate.Event):
        """What was decided about one record."""

        decision: AccountEvent

        def apply(self, aggregate: StockAccount) -> None:
            """Evolves the account (the library's hook)."""
            evolve(aggregate.account, self.decision)

    def __init__(self, member: str) -> None:
        self.member = member
        self.account = Account()

    @staticmethod
    def create_id(member: str) -> UUID:
        """The id of a member's account (the library's hook)."""
        return uuid5(NAMESPACE_URL, f"/accounts/{member}")

    def decide(self, activity: Activity, origin: Origin) -> None:
        """Trigger what our own decision says."""
        for event in decide(self.account, activity, origin, {}):
            self.trigger_event(self.Decided, decision=event)


class StockLedger(EventSourcedProjection[UUID]):
    """The application: one record in, one save."""

    name = "stock"

    def register_transcodings(self, transcoder: JSONTranscoder) -> None:
        """Our events beside the library's types (its hook)."""
        super().register_transcodings(transcoder)
        for name, kind in STORED_NAMES.items():
            transcoder.register(_transcoding(name, kind))

    @singledispatchmethod
    def policy(self, domain_event: Any, processing_event: ProcessingEvent[UUID]) -> None:
        """Decide one record (the library's hook)."""
        activity: Activity = domain_event
        value = activity.value
        try:
            account: StockAccount = self.repository.get(StockAccount.create_id(value["member_id"]))
        except AggregateNotFoundError:
            account = StockAccount(value["member_id"])
        origin = Origin(ACTIVITY, 0, activity.offset, value["event_id"], value["occurred_at"], value["occurred_at"])
        account.decide(activity, origin)
        processing_event.collect_events(account)

    def consume(self, activities: Sequence[Activity]) -> None:
        """One save a record, each with the position it moves."""
        for activity in activities:
            self.process_event(activity, Tracking(ACTIVITY, activity.offset + 1))  # type: ignore[arg-type]

    def stored(self, member: str) -> Account:
        """An account as it is stored."""
        aggregate: StockAccount = self.repository.get(StockAccount.create_id(member))
        return aggregate.account


def stock_ledger(database: str) -> StockLedger:
    """The application on an empty database, its tables made."""
    settings = {
        "AGGREGATE_CACHE_MAXSIZE": str(CACHED),
        "AGGREGATE_CACHE_FASTFORWARD": "n",
        "DEEPCOPY_FROM_AGGREGATE_CACHE": "n",
    }
    if not is_postgres(database):
        return StockLedger(
            {**settings, "PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": sqlite_file(database)}
        )
    address = conninfo_to_dict(database)
    return StockLedger(
        {
            **settings,
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": str(address["dbname"]),
            "POSTGRES_HOST": str(address["host"]),
            "POSTGRES_PORT": str(address.get("port", 5432)),
            "POSTGRES_USER": str(address["user"]),
            "POSTGRES_PASSWORD": str(address.get("password", "none")),
        }
    )


def _transcoding(stored_name: str, kind: type[Any]) -> Transcoding:
    class AsFields(Transcoding):
        """One of our event types as its fields."""

        type = kind
        name = stored_name

        def encode(self, obj: Any) -> Any:
            return msgspec.to_builtins(obj)

        def decode(self, data: Any) -> Any:
            return msgspec.convert(data, kind)

    return AsFields()
