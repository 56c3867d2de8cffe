"""The peer of the read models' benchmark: eventsourcing's own ProjectionRunner on PostgreSQL, as it is documented.

It reads the very same events from the ledger's table by the library's subscription, and writes the rows that the very
same folds answer, with the library's tracking, an event a transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import singledispatchmethod
from typing import Any, Final

from eventsourcing.application import Application
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.conninfo import conninfo_to_dict

from aggregates.ledger import Recorded
from projections import projection as ours
from projections import registry

THREE: Final = registry.LEDGER[:3]
"""Balances, statements and standings."""


class StockApplication(Application[str]):
    """Reads the ledger's events."""

    name = "ledger"


class StockView(PostgresTrackingRecorder):
    """The rows, and the library's tracking of the position."""

    def apply(self, changes: Mapping[ours.ReadTable, list[ours.Row]], tracking: Tracking) -> None:
        """One event's rows and position, in one transaction."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            for target, rows in changes.items():
                for row in rows:
                    cursor.execute(_UPSERTS[target.name], row, prepare=True)


class StockProjection(Projection[StockView]):
    """Folds an event at a time."""

    name = "stock"

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """One event (the library's hook)."""
        page = [Recorded(tracking.notification_id, domain_event.originator_id, domain_event.event)]
        changes: dict[ours.ReadTable, list[ours.Row]] = {}
        for projection in THREE:
            folded = projection.fold(page)
            changes |= {target: list(folded.get(target.name, ())) for target in projection.tables}
        self.view.apply(changes, tracking)


def _upsert(target: ours.ReadTable) -> str:
    names = ", ".join(target.columns)
    values = ", ".join(f"%({name})s" for name in target.columns)
    sets = ", ".join(f"{name} = {target.table.name}.{name} + excluded.{name}" for name in target.sums)
    return (
        f"INSERT INTO {target.table.name} ({names}) VALUES ({values}) "
        f"ON CONFLICT ({', '.join(target.key)}) DO UPDATE SET {sets}"
    )


_UPSERTS: Final = {target.name: _upsert(target) for projection in THREE for target in projection.tables}


@contextmanager
def stock_runner(database: str) -> Iterator[ProjectionRunner[StockApplication, StockView]]:
    """The library's runner at work on the database; it has begun when this is entered."""
    address = conninfo_to_dict(database)
    environment = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "ORIGINATOR_ID_TYPE": "text",
        "MAPPER_TOPIC": "aggregates.ledger_store:LedgerMapper",
        "LEDGER_CREATE_TABLE": "n",
        "POSTGRES_DBNAME": str(address["dbname"]),
        "POSTGRES_HOST": str(address["host"]),
        "POSTGRES_PORT": str(address.get("port", 5432)),
        "POSTGRES_USER": str(address["user"]),
        "POSTGRES_PASSWORD": str(address.get("password", "none")),
    }
    with ProjectionRunner(
        application_class=StockApplication,
        projection_class=StockProjection,
        view_class=StockView,
        env=environment,
    ) as runner:
        yield runner
