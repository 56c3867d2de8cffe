"""Where the settings come from, and that a process id which was reused is not taken for a stack."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from aggregates.database import open_database
from service import checking, definitions
from service.migrate import migrate
from service.problems import Unusable
from service.settings import Settings, load, running_stack, started


def stack_file(directory: Path, pid: int, start: str) -> None:
    facts = {"pid": pid, "started": start, "kafka": "127.0.0.1:1", "database": "sqlite:///x", "port": 9,
             "secret": "s", "partitions": 3}  # fmt: skip
    (directory / "stack.json").write_text(json.dumps(facts))


def test_a_stack_runs_only_if_that_very_process_does(tmp_path, monkeypatch):
    stack_file(tmp_path, os.getpid(), started(os.getpid()))
    assert running_stack(tmp_path) is not None
    assert load(tmp_path).partitions == 3
    monkeypatch.setenv("GROUNDSWELL_METRICS_PORT", "9464")
    assert load(tmp_path).metrics_port == 9464
    stack_file(tmp_path, os.getppid(), started(os.getppid()))
    assert load(tmp_path).metrics_port == 0, "the roles that a stack starts would fight for one port"
    stack_file(tmp_path, os.getpid(), "0")
    assert running_stack(tmp_path) is None


def test_a_setting_that_is_not_valid_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GROUNDSWELL_GRACE_HOURS", "many")
    with pytest.raises(Unusable, match="GROUNDSWELL_GRACE_HOURS"):
        load(tmp_path)


def test_settings_without_a_secret_or_on_another_database_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GROUNDSWELL_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("GROUNDSWELL_DATABASE", "sqlite:///x.db")
    with pytest.raises(Unusable, match="GROUNDSWELL_SECRET"):
        load()
    monkeypatch.delenv("GROUNDSWELL_DATABASE")
    with pytest.raises(Unusable, match=r"^GROUNDSWELL_DATABASE is not set, and no stack runs on \.groundswell$"):
        load()
    monkeypatch.setenv("GROUNDSWELL_SECRET", "s")
    monkeypatch.setenv("GROUNDSWELL_DATABASE", "mysql://localhost/x")
    with pytest.raises(Unusable, match="mysql is not supported, use sqlite:///FILE or postgresql://"):
        load()
    monkeypatch.setenv("GROUNDSWELL_DATABASE", "postgresql://someone:hidden@localhost/x")
    assert load().database == "postgresql://someone:hidden@localhost/x"
    monkeypatch.setenv("GROUNDSWELL_DATABASE", "postgresql://someone:hidden@localhost:port/x")
    with pytest.raises(Unusable, match=r"^GROUNDSWELL_DATABASE: Port .* 'port'; use postgresql://"):
        load()
    monkeypatch.setenv("GROUNDSWELL_DATABASE", "sqlite:///x.db")
    monkeypatch.setenv("GROUNDSWELL_KAFKA", "127.0.0.1:9092,kafka:nine")
    with pytest.raises(Unusable, match=r"^GROUNDSWELL_KAFKA: the port of `kafka:nine` is no number"):
        load()


def test_a_database_that_cannot_be_reached_is_said_so_without_its_password(tmp_path):
    address = "postgresql://someone:hidden@127.0.0.1:1/x"
    with pytest.raises(Unusable, match="check GROUNDSWELL_DATABASE") as caught:
        migrate(address)
    assert "hidden" not in str(caught.value)
    brands = definitions.documents("{brand: acme, currency: EUR}", "test")
    with pytest.raises(Unusable, match=r"(?s)is away.*refused.*safe to apply the same again") as caught:
        asyncio.run(definitions.apply_documents(Settings(kafka="127.0.0.1:1", database=address), brands))
    assert "hidden" not in str(caught.value)


def test_applying_again_what_nobody_has_broadcast_yet_does_not_say_that_it_is_done(tmp_path, monkeypatch):
    database = f"sqlite:///{tmp_path / 'l.db'}"
    migrate(database)
    open_database(database).dispose()
    settings = Settings(kafka="127.0.0.1:1", database=database)
    monkeypatch.setattr(definitions, "BROADCAST_SECONDS", 0.2)
    brands = definitions.documents("{brand: acme, currency: EUR}", "test")
    for _ in range(2):
        with pytest.raises(Unusable, match="no projector sends it"):
            asyncio.run(definitions.apply_documents(settings, brands))
    assert [one.verdict for one in checking.check(settings, brands)] == ["already there"]
