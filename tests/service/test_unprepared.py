"""Roles that start before their topics or tables, or with a password that is wrong: one line, and exit code 2."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy as sa
from own_broker import running

from aggregates.database import open_database
from projections.engagement import tables
from projections.upkeep import runner
from schemas.topics import ACTIVITY, TIERS, TOPICS, WINDOWS
from service import accept, database_refusal
from service.broker import topic_admin
from service.migrate import check, migrate
from service.problems import Unusable
from service.settings import Settings

ROLES = ("worker", "projector", "api")


@pytest.fixture(scope="module")
def empty_broker() -> Iterator[str]:
    """Address of a broker without topics."""
    with running() as address:
        yield address


@pytest.fixture(scope="module")
def full_broker() -> Iterator[str]:
    """Address of a broker with all topics."""
    with running() as address:
        asyncio.run(topic_admin.create(Settings(kafka=address, partitions=1)))
        yield address


def all_end_with_2(kafka: str, database: str, directory: Path, *commands: str) -> list[list[str]]:
    """What each role or command logs, started at once on this Kafka and database."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GROUNDSWELL_")}
    values = {"KAFKA": kafka, "DATABASE": database, "SECRET": "s", "DATA_DIR": str(directory), "PORT": "18999"}
    environment = {**plain, **{f"GROUNDSWELL_{name}": value for name, value in values.items()}}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "service", *command.split()],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        )
        for command in commands
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=60)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [2] * len(commands), said
    assert not [one for one in said if "Traceback" in one or "SELECT" in one]
    return [one.splitlines() for one in said]


def test_roles_without_topics_name_the_first_and_the_command(empty_broker, tmp_path):
    database = f"sqlite:///{tmp_path / 'db'}"
    migrate(database)
    for lines in all_end_with_2(empty_broker, database, tmp_path, *ROLES):
        (line,) = lines
        assert f"Kafka lacks the topic {TOPICS[0].name} and {len(TOPICS) - 1} more" in line
        assert line.endswith(": run `groundswell topics create`")


def test_roles_without_tables_name_the_first_and_the_command(full_broker, tmp_path):
    for lines in all_end_with_2(full_broker, f"sqlite:///{tmp_path / 'db'}", tmp_path, *ROLES):
        (line,) = [one for one in lines if "event=" not in one]
        assert "the database lacks " in line
        assert line.endswith(" of this release's tables: run `groundswell migrate`")


def test_the_logs_cannot_be_accepted_where_there_are_none(empty_broker, tmp_path):
    database = f"sqlite:///{tmp_path / 'db'}"
    migrate(database)
    settings = Settings(kafka=empty_broker, database=database)
    with pytest.raises(Unusable, match=f"the topic {ACTIVITY} does not exist: run `groundswell topics create`"):
        asyncio.run(accept.changes(settings))
    with pytest.raises(Unusable, match=f"the topic ({WINDOWS}|{TIERS}) does not exist"):
        asyncio.run(accept.output_ids(settings))


@pytest.fixture
def database_of(postgresql_address: str, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The address of an emptied database on PostgreSQL, and on SQLite."""
    return {"postgresql": postgresql_address, "sqlite": f"sqlite:///{tmp_path / 'db'}"}


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_every_table_is_missed(database_of, kind):
    database = database_of[kind]
    with pytest.raises(Unusable, match=r"lacks \w+ and \d+ more of this release's tables"):
        check(database)
    migrate(database)
    check(database)
    engine = open_database(database)
    not_missed = set()
    try:
        for name in sa.inspect(engine).get_table_names():
            with engine.begin() as connection:
                connection.execute(sa.text(f"ALTER TABLE {name} RENAME TO set_aside"))
            with suppress(Unusable):
                check(database)
                not_missed.add(name)
            with engine.begin() as connection:
                connection.execute(sa.text(f"ALTER TABLE set_aside RENAME TO {name}"))
    finally:
        engine.dispose()
    assert not_missed <= {"tracking", "ledger_tracking"}, "the library's, which nothing uses"


@pytest.mark.parametrize("table", [runner.POSITIONS, tables.VERSIONS])
def test_tables_of_an_older_release_are_missed(tmp_path, table):
    database = f"sqlite:///{tmp_path / 'db'}"
    migrate(database)
    engine = open_database(database)
    with engine.begin() as connection:
        connection.execute(sa.update(table).values(version=0))
    engine.dispose()
    with pytest.raises(Unusable, match="run `groundswell migrate`"):
        check(database)


def test_a_wrong_password_is_said_and_not_waited_for(full_broker, postgresql_server, tmp_path):
    rules = Path(postgresql_server.pgdata) / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"local all locked_out scram-sha-256\nhost all locked_out all scram-sha-256\n{before}")
    with closing(psycopg.connect(postgresql_server.get_uri(), autocommit=True)) as connection:
        connection.execute("DROP ROLE IF EXISTS locked_out")
        connection.execute("CREATE ROLE locked_out LOGIN PASSWORD 'right'")
        connection.execute("SELECT pg_reload_conf()")
        try:
            host = quote(str(connection.info.host), safe="")
            address = f"postgresql://locked_out:wrong@/postgres?host={host}&port={connection.info.port}"
            for lines in all_end_with_2(full_broker, address, tmp_path, *ROLES, "migrate"):
                assert 'password authentication failed for user "locked_out"' in lines[-1]
                assert lines[-1].endswith(": check GROUNDSWELL_DATABASE")
                assert len(lines) == 1
        finally:
            connection.execute("DROP ROLE locked_out")
            rules.write_text(before)
            connection.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('connection failed: FATAL:  role "nobody" does not exist', 'role "nobody" does not exist'),
        ('connection failed: FATAL:  database "none" does not exist', 'database "none" does not exist'),
        ("connection failed: fe_sendauth: no password supplied", "no password supplied"),
        ('FATAL:  no pg_hba.conf entry for host "::1", user "x"', 'no pg_hba.conf entry for host "::1", user "x"'),
        ('All failures were:\n- host: "a": refused\n- host: "b": FATAL:  Peer authentication failed for user "x"',
         'Peer authentication failed for user "x"'),
        ("connection failed: FATAL:  the database system is starting up", None),
        ("connection failed: FATAL:  sorry, too many clients already", None),
        ("connection failed: Connection refused", None),
        ('relation "heartbeats" does not exist', None),
    ],
)  # fmt: skip
def test_who_is_not_let_in_is_told_from_who_finds_nobody(said, why):
    assert database_refusal.reason(psycopg.OperationalError(said)) == why
