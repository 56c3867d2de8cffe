"""Databases for the read models: SQLite files and a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from aggregates.database import open_database

Fresh = Callable[[], Engine]


@pytest.fixture
def sqlite_engine(tmp_path: Path) -> Iterator[Fresh]:
    """Makes an engine of a fresh SQLite file, as many as wanted."""
    made: list[Engine] = []

    def fresh() -> Engine:
        made.append(open_database(f"sqlite:///{tmp_path / f'{len(made)}.db'}"))
        return made[-1]

    yield fresh
    for engine in made:
        engine.dispose()


@pytest.fixture
def postgresql_engine(emptied_postgresql: Callable[[], str]) -> Iterator[Fresh]:
    """Makes an engine of the emptied PostgreSQL database."""
    made: list[Engine] = []

    def fresh() -> Engine:
        made.append(open_database(emptied_postgresql()))
        return made[-1]

    yield fresh
    for engine in made:
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest) -> Fresh:
    """Makes an engine of an empty database, on each kind of database."""
    return request.getfixturevalue(f"{request.param}_engine")
