"""Faust's own Kafka clients are let in as ours are."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from aggregates.database import open_database
from streams.app import make_app
from streams.connection import Brokers, Sasl
from streams.ownership import StageConfig

SERVERS = "a.internal:9093,b.internal:9094"
USER = Sasl("SCRAM-SHA-256", "groundswell", "hidden")
WANTED = ("_security_protocol", "_ssl_context", "_sasl_mechanism", "_sasl_plain_username", "_sasl_plain_password")


@pytest.mark.parametrize("tls", [None, ssl.create_default_context()])
@pytest.mark.parametrize("sasl", [None, USER])
def test_the_worker_joins_its_group_with_the_same_credentials(tmp_path: Path, tls, sasl):
    brokers = Brokers(SERVERS, tls, sasl)
    engine = open_database("sqlite://")

    async def nothing(*_: Any) -> Any:
        raise AssertionError("no partition is assigned here")

    async def made() -> dict[str, Any]:
        config = StageConfig(brokers, "group", "topic", (), "epoch", True, "worker")
        app, _ = make_app(engine, nothing, config, 4, tmp_path)
        thread: Any = app._new_consumer()._thread
        consumer = thread._create_worker_consumer(app.transport)
        client = consumer._client
        found = {name: getattr(client, name) for name in WANTED} | {"servers": client._bootstrap_servers}
        await consumer.stop()
        thread.thread_loop.close()
        return found

    found = asyncio.run(made())
    engine.dispose()
    assert found.pop("servers") == SERVERS.split(",")
    secured = brokers.security
    plain = {} if sasl else {name: found[name] for name in WANTED[2:]}  # the client's defaults, and not looked at
    assert found == {f"_{name}": value for name, value in secured.items()} | plain
