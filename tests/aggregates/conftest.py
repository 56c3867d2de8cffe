"""Databases for the ledger: SQLite files and a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aggregates.ledger import Ledger

Opened = Callable[..., Ledger]


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
