"""One Apache Kafka and one PostgreSQL for the session; topics and a database of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from deployment import Deployment
from kafka import Kafka

_REPORT: list[str] = []


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A real Apache Kafka."""
    broker = Kafka.start(tmp_path_factory.mktemp("kafka"))
    yield broker
    broker.kill()  # nothing of it is kept


@pytest.fixture(scope="session")
def postgres(postgresql_server: Any) -> Any:
    """A real PostgreSQL server that can be stopped."""
    return postgresql_server


@pytest.fixture
def report(request: pytest.FixtureRequest) -> list[str]:
    """Lines that are printed at the end, also of tests that pass."""
    _REPORT.append(request.node.name)
    return _REPORT


@pytest.fixture
def deploy(kafka: Kafka, postgres: Any, tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    """Makes a deployment with fresh topics and a fresh database; keyword arguments are settings of its roles."""
    made: list[Deployment] = []

    def make(**settings: str) -> Deployment:
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(postgres.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        directory = tmp_path / name
        directory.mkdir()
        made.append(Deployment(kafka, postgres, postgres.get_uri(name), directory, settings))
        made[-1].prepare()
        return made[-1]

    yield make
    if kafka.process is None or kafka.process.poll() is not None:
        kafka.restart()
    postgres.ensure_postgres_running()
    for one in made:
        one.close()


@pytest.fixture
def deployment(deploy: Callable[..., Deployment]) -> Deployment:
    """A deployment with the default settings."""
    return deploy()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what was measured."""
    if _REPORT:
        terminalreporter.section("measured")
    for line in _REPORT:
        terminalreporter.line(line)
