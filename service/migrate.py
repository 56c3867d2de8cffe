"""All tables of one database, made where they are missing: once, explicitly, before the roles start that need them."""

from __future__ import annotations

import sqlalchemy as sa

from aggregates.database import Exclusive, Lock, is_unavailable, open_database
from aggregates.ledger import Ledger
from aggregates.ledger_store import EVENTS
from projections import registry, retroactive
from projections.engagement import tables
from projections.upkeep import runner, snapshots
from service import database_refusal, heartbeats, outbox
from service.dead_letters import listing
from service.problems import Unusable
from streams import epochs, readstate, readstate_tables

_PLAIN = (epochs.METADATA, outbox.METADATA, heartbeats.METADATA, listing.METADATA, retroactive.METADATA)
"""Tables that are made as they are declared."""


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
        raise Unusable(database_refusal.line(error)) from error


def _create(database: str) -> None:
    ledger = Ledger(database)
    ledger.migrate()
    ledger.close()
    engine = open_database(database)
    readstate.create_tables(engine)
    for metadata in _PLAIN:
        metadata.create_all(engine)
    runner.prepare(engine, registry.LEDGER)
    with engine.begin() as connection:
        tables.create_tables(connection)
    engine.dispose()


def check(database: str) -> None:
    """See that every table is there. Raises `Unusable` when one is not, or the database does not let us in.

    Raises what `is_unavailable` knows while it is away.
    """
    engine = open_database(database, read_only=True)
    try:
        with engine.connect() as connection:
            missing = _missing(connection)
    except Exception as error:
        if is_unavailable(error) and database_refusal.reason(error) is None:
            raise
        raise Unusable(database_refusal.line(error)) from None
    finally:
        engine.dispose()
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise Unusable(f"the database lacks {missing[0]}{more} of this release's tables: run `groundswell migrate`")


def _missing(connection: sa.Connection) -> list[str]:
    """The tables that are not there, or are of an older release, in alphabetical order."""
    there = set(sa.inspect(connection).get_table_names())
    if {runner.POSITIONS.name, runner.DIGESTS.name} <= there:
        kept = runner.kept(connection)
        older = [one for one in registry.LEDGER if one.name not in kept or kept[one.name].version < one.version]
        there -= {target.table.name for projection in older for target in projection.tables}
    if tables.VERSIONS.name in there:
        version = connection.execute(sa.select(tables.VERSIONS.c.version)).scalar_one_or_none()
        if version is None or version < tables.VERSION:
            there.remove(tables.VERSIONS.name)
    return sorted(_wanted(connection.dialect.name) - there)


def _wanted(dialect: str) -> set[str]:
    """The names of all tables."""
    wanted = {"ledger_positions", "ledger_budgets", EVENTS[dialect][0]}
    for metadata in (*_PLAIN, readstate_tables.METADATA, tables.METADATA):
        wanted |= {table.name for table in metadata.sorted_tables}
    read = [target.table for projection in registry.LEDGER for target in projection.tables]
    return wanted | {table.name for table in (runner.POSITIONS, runner.DIGESTS, *snapshots.TABLES, *read)}
