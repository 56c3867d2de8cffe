"""All tables of one database, made where they are missing; once, explicitly, before the roles start."""

from __future__ import annotations

from aggregates.database import open_database
from aggregates.ledger import Ledger
from projections import engagement_tables, registry, runner
from service import heartbeats, outbox
from streams import readstate


def migrate(database: str) -> None:
    """Create what is missing in the database at this address."""
    ledger = Ledger(database)
    ledger.migrate()
    ledger.close()
    engine = open_database(database)
    readstate.create_tables(engine)
    outbox.METADATA.create_all(engine)
    heartbeats.METADATA.create_all(engine)
    runner.prepare(engine, registry.LEDGER)
    with engine.begin() as connection:
        engagement_tables.create_tables(connection)
    engine.dispose()
