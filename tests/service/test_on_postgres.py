"""The roles on a real PostgreSQL server: tables, two projectors, the API, commands, and the server being stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from aggregates.activity import Activity
from aggregates.database import open_database
from aggregates.definitions import Brand, Campaign
from aggregates.ledger import Batch, Ledger, Source
from projections import queries
from schemas.topics import ACTIVITY
from service import condition, definitions, instants, waiting
from service.broker import kafka, publisher
from service.broker.topic_admin import create
from service.commands import Command, Commands
from service.embedded.stack import free_port
from service.problems import Refusal
from service.roles.projector import SESSION_NAME
from service.settings import Settings

DEADLINE = 60
DEFINITIONS = """
{brand: acme, plan: free, timezone: UTC, currency: EUR}
---
campaign: spring
brand: acme
starts_at: 2020-01-01T00:00:00Z
ends_at: 2040-01-01T00:00:00Z
budget: 250
earn: [{rule: spend, on: purchase, per_minor: 100, points: 1}]
"""
SOURCE = Source(ACTIVITY, "epoch", 0)


@pytest.fixture
def server(postgresql_server: Any) -> Iterator[Any]:
    """A real PostgreSQL server, which runs again when the test ends."""
    yield postgresql_server
    postgresql_server.ensure_postgres_running()


class Roles:
    """Roles as processes of their own, over one broker and the PostgreSQL server."""

    def __init__(self, broker: str, database: str, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.settings = Settings(
            kafka=broker, database=database, data_dir=directory, secret="s", partitions=1, port=port
        )
        set_aside = {k: v for k, v in os.environ.items() if not k.startswith("GROUNDSWELL_")}
        values = {"KAFKA": broker, "DATABASE": database, "DATA_DIR": str(directory), "SECRET": "s", "PORT": str(port)}
        self.environment = {**set_aside, **{f"GROUNDSWELL_{name}": value for name, value in values.items()}}
        self.directory = directory
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start `groundswell ARGUMENTS`; the process and its log."""
        log = self.directory / f"{arguments[0]}-{len(self.processes)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "service", *arguments], env=self.environment, stdout=out, stderr=out
            )
        self.processes.append(process)
        return process, log

    def apply(self, text: str) -> list[str]:
        """Apply definitions; returns once they are broadcast."""
        return asyncio.run(definitions.apply_documents(self.settings, definitions.documents(text, "test")))

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(condition: Callable[[], bool], log: Path | None = None) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, log.read_text() if log else "it does not come"
        time.sleep(0.05)


@contextmanager
def roles(broker: str, server: Any, directory: Path) -> Iterator[Roles]:
    server.psql("DROP SCHEMA public CASCADE")
    server.psql("CREATE SCHEMA public")
    made = Roles(broker, server.get_uri(), directory)
    try:
        asyncio.run(create(made.settings))
        yield made
    finally:
        made.stop()


def activity(offset: int, record_type: str, programs: tuple[Brand, Campaign], **fields: Any) -> Activity:
    value = {"event_id": f"e{offset}", "occurred_at": instants.now_ms(), "brand_id": "acme", "member_id": "ann"}
    return Activity(
        record_type, offset, {**value, **fields}, programs[0], (programs[1],), False, (), "unknown", None, False
    )


def purchase(offset: int, programs: tuple[Brand, Campaign]) -> Activity:
    fields = {"order_id": f"o{offset}", "kind": "completed", "amount_minor": 10_000, "currency": "EUR"}
    return activity(offset, "Purchase", programs, **fields, campaign_id=None, referrer_id=None)


def redemption(offset: int, programs: tuple[Brand, Campaign], key: str, points: int) -> Activity:
    fields = {"kind": "redeem", "points": points, "reference": None, "reason": None, "requested_by": "api"}
    return activity(offset, "Command", programs, **{**fields, "event_id": key})


def test_migrating_from_several_processes_at_once_makes_every_table_once(broker: str, server: Any, tmp_path: Path):
    with roles(broker, server, tmp_path) as up:
        started = [up.start("migrate") for _ in range(4)]
        for process, log in started:
            assert process.wait(DEADLINE) == 0, log.read_text()
        up.processes.clear()
        assert "no projector is running" in condition.readiness(up.settings)


def test_points_are_earned_read_and_redeemed(broker: str, server: Any, tmp_path: Path):
    with roles(broker, server, tmp_path) as up:
        assert up.start("migrate")[0].wait(DEADLINE) == 0
        up.start("projector")
        _, log = up.start("api")
        assert up.apply(DEFINITIONS) == ["brand acme version 1: accepted", "campaign acme/spring version 1: accepted"]
        until(lambda: not condition.readiness(up.settings, worker=False), log)
        brand, campaign = definitions.documents(DEFINITIONS, "test")
        programs: Any = (brand, campaign)
        ledger = Ledger(up.settings.database)
        ledger.take(SOURCE, "w", 0)
        bought = [purchase(n, programs) for n in range(3)]
        ledger.consume(Batch(SOURCE, 0, 3, bought, instants.now_ms(), "w", 1))

        def decide() -> None:
            """What a worker does with the command, once it is on the log."""
            commands = [redemption(3, programs, "key-1", 70), redemption(4, programs, "key-2", 500)]
            ledger.consume(Batch(SOURCE, 3, 5, commands, instants.now_ms(), "w", 2))

        async def redeem() -> tuple[Any, Any]:
            async with Commands.opened(up.settings) as commands:
                asked = Command("redeem", "acme", "ann", "key-1", 70), Command("redeem", "acme", "ann", "key-2", 500)
                asking, too_much = (asyncio.create_task(commands.redeem(one, DEADLINE)) for one in asked)
                await asyncio.to_thread(decide)
                return await asyncio.gather(asking, too_much, return_exceptions=True)  # type: ignore[return-value]

        answer, refused = asyncio.run(redeem())
        assert (answer.points, answer.idempotency_key) == (70, "key-1")
        assert isinstance(refused, Refusal)
        assert refused.code == "insufficient_points"
        url = f"http://127.0.0.1:{up.settings.port}"
        ask = {"min_position": answer.position}
        balance = httpx.get(f"{url}/v1/brands/acme/members/ann/balance", params=ask).json()
        assert (balance["active"], balance["spent"]) == (180, 70), "three times 100, of a budget of 250"
        engine = open_database(up.settings.database, read_only=True)
        with engine.connect() as connection:
            assert queries.ledger_position(connection) == queries.read_position(connection) == balance["position"]
        engine.dispose()
        ledger.close()


def test_a_worker_takes_the_log_into_the_database_and_outlives_the_server(broker: str, server: Any, tmp_path: Path):
    with roles(broker, server, tmp_path) as up:
        assert up.start("migrate")[0].wait(DEADLINE) == 0
        up.start("projector")
        worker, log = up.start("worker")
        up.apply(DEFINITIONS.replace("acme", "whole"))

        def publish(number: int) -> None:
            fields = {"order_id": f"o{number}", "kind": "completed", "amount_minor": 10_000, "currency": "EUR"}
            value = {"event_id": f"buy-{number}", "occurred_at": instants.now_ms(), "brand_id": "whole", **fields}
            value |= {"member_id": "ann", "campaign_id": None, "referrer_id": None}

            async def send() -> None:
                async with kafka.producer(up.settings) as client:
                    await publisher.send(client, up.settings.signing_key, "Purchase", value)

            asyncio.run(send())

        publish(1)
        asyncio.run(waiting.wait(up.settings, DEADLINE))
        server.stop()
        publish(2)
        until(lambda: "database away" in log.read_text(), log)
        server.ensure_postgres_running()
        asyncio.run(waiting.wait(up.settings, DEADLINE))

        async def redeem() -> Any:
            async with Commands.opened(up.settings) as commands:
                return await commands.redeem(Command("redeem", "whole", "ann", "key-1", 150), DEADLINE)

        answer = asyncio.run(redeem())
        assert answer.points == 150
        assert worker.poll() is None, log.read_text()
        ledger = Ledger(up.settings.database)
        account = ledger.account("whole", "ann")
        ledger.close()
        assert (account.earned, account.spent) == (200, 150)


def test_a_projector_that_stands_by_takes_over_and_both_outlive_the_server(broker: str, server: Any, tmp_path: Path):
    with roles(broker, server, tmp_path) as up:
        assert up.start("migrate")[0].wait(DEADLINE) == 0
        first, first_log = up.start("projector")
        until(lambda: "projecting" in first_log.read_text(), first_log)
        second, second_log = up.start("projector")
        until(lambda: "standing by" in second_log.read_text(), second_log)
        up.apply("{brand: one, currency: EUR}")

        server.stop()
        for log in (first_log, second_log):
            until(lambda log=log: "waiting for the database" in log.read_text(), log)
        server.ensure_postgres_running()
        up.apply("{brand: two, currency: EUR}")
        assert first.poll() is second.poll() is None

        def leads(log: Path) -> bool:
            said = log.read_text().split("\n")
            return [line for line in said if line][-1].endswith("event=projecting")

        until(lambda: leads(first_log) != leads(second_log))
        lead, other, other_log = (first, second, second_log) if leads(first_log) else (second, first, first_log)
        lead.kill()
        lead.wait()
        up.apply("{brand: three, currency: EUR}")
        assert leads(other_log)
        other.send_signal(signal.SIGTERM)
        assert other.wait(20) == 0
        until(lambda: "no projector is running" in condition.readiness(up.settings))  # the killed one's beat expires


def test_a_projector_that_is_frozen_is_replaced_and_stands_by_when_it_goes_on(broker: str, server: Any, tmp_path: Path):
    with roles(broker, server, tmp_path) as up:
        assert up.start("migrate")[0].wait(DEADLINE) == 0
        first, first_log = up.start("projector")
        until(lambda: "projecting" in first_log.read_text(), first_log)
        up.apply("{brand: before, currency: EUR}")
        other, other_log = up.start("projector")
        until(lambda: "standing by" in other_log.read_text(), other_log)
        first.send_signal(signal.SIGSTOP)
        # In the middle of its rows, with what is locked then: the instant at which no timeout of the server ends it.
        with psycopg.connect(up.settings.database, application_name=SESSION_NAME) as frozen:
            frozen.execute("CREATE TEMPORARY TABLE staged (a int)")
            frozen.execute("LOCK TABLE projection_positions IN SHARE ROW EXCLUSIVE MODE")
            copying = frozen.cursor().copy("COPY staged FROM STDIN")
            copying.__enter__()
            up.apply("{brand: after, currency: EUR}")
            with pytest.raises(psycopg.OperationalError):
                copying.__exit__(None, None, None)
        assert "projecting" in other_log.read_text()
        first.send_signal(signal.SIGCONT)
        until(lambda: "another projector is at work" in first_log.read_text().splitlines()[-1], first_log)
        assert first.poll() is other.poll() is None


def test_a_second_projector_on_a_sqlite_file_stands_by_too(broker: str, server: Any, tmp_path: Path):
    with roles(broker, server, tmp_path) as up:
        up.environment["GROUNDSWELL_DATABASE"] = f"sqlite:///{tmp_path / 'g.db'}"
        assert up.start("migrate")[0].wait(DEADLINE) == 0
        first, first_log = up.start("projector")
        until(lambda: "projecting" in first_log.read_text(), first_log)
        port = free_port()
        up.environment["GROUNDSWELL_METRICS_PORT"] = str(port)
        _, second_log = up.start("projector")
        until(lambda: "standing by" in second_log.read_text(), second_log)
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").text == "standing by: another projector is at work\n"
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert 'groundswell_projector_behind_events{projection="balances"} 0.0' in metrics
        assert "groundswell_projector_leads 0.0" in metrics
        first.kill()
        until(lambda: "projecting" in second_log.read_text(), second_log)
