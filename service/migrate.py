"""All tables of one database, made where they are missing; once, explicitly, before the roles start."""

from __future__ import annotations

from aggregates.database import Exclusive, Lock, is_unavailable, open_database
from aggregates.ledger import Ledger
from projections import registry, retroactive
from projections.engagement import tables
from projections.upkeep import runner
from service import heartbeats, outbox
from service.dead_letters import listing
from service.problems import Unusable
from streams import epochs, readstate


def migrate(database: str) -> None:
    """Create what is missing in the database at this address; who does the same meanwhile waits, and finds it done.

    Raises `Unusable` when the database cannot be reached, or its file cannot be made.
    """
    try:
        with Exclusive(database, Lock.MIGRATE):
            _create(database)
    except OSError as error:
        raise Unusable(f"the database cannot be made, check GROUNDSWELL_DATABASE: {error}") from None
    except Exception as error:
        if not is_unavailable(error):
            raise
        raise Unusable(f"the database cannot be reached, check GROUNDSWELL_DATABASE: {error}") from error


def _create(database: str) -> None:
    ledger = Ledger(database)
    ledger.migrate()
    ledger.close()
    engine = open_database(database)
    readstate.create_tables(engine)
    epochs.METADATA.create_all(engine)
    outbox.METADATA.create_all(engine)
    heartbeats.METADATA.create_all(engine)
    listing.METADATA.create_all(engine)
    retroactive.METADATA.create_all(engine)
    runner.prepare(engine, registry.LEDGER)
    with engine.begin() as connection:
        tables.create_tables(connection)
    engine.dispose()
