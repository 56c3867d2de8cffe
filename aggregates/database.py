"""How every part opens the one database: a SQLAlchemy engine with the settings that make SQLite share well."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url

BUSY_SECONDS = 30
"""How long a SQLite writer waits for the one before it."""


def open_database(url: str, *, read_only: bool = False) -> Engine:
    """An engine for `sqlite:///FILE` or `postgresql://…`.

    On SQLite a transaction takes the write lock when it begins (so that what it reads cannot be outdated when it
    writes), unless the engine is `read_only`: then it sees one snapshot and never waits for the writer.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        parsed = parsed.set(drivername="postgresql+psycopg")
        options = {"postgresql_readonly": True} if read_only else {}
        return create_engine(parsed, pool_pre_ping=True, execution_options=options)
    engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})
    begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # we send BEGIN ourselves
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def sqlite_file(url: str) -> str:
    """The file of a `sqlite:///FILE` address. Raises ValueError for another database."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise ValueError(f"not the address of a SQLite file: {parsed.render_as_string(hide_password=True)}")
    return parsed.database
