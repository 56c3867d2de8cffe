"""Where the settings come from, and that a process id which was reused is not taken for a stack."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aggregates.database import open_database
from service import control
from service.migrate import migrate
from service.problems import Unusable
from service.settings import Settings, load, running_stack, started


def stack_file(directory: Path, pid: int, start: str) -> None:
    facts = {"pid": pid, "started": start, "kafka": "127.0.0.1:1", "database": "sqlite:///x", "port": 9,
             "secret": "s", "epoch": "e", "partitions": 3}  # fmt: skip
    (directory / "stack.json").write_text(json.dumps(facts))


def test_a_stack_runs_only_if_that_very_process_does(tmp_path):
    stack_file(tmp_path, os.getpid(), started(os.getpid()))
    assert running_stack(tmp_path) is not None
    assert load(tmp_path).partitions == 3
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
    monkeypatch.setenv("GROUNDSWELL_SECRET", "s")
    monkeypatch.setenv("GROUNDSWELL_DATABASE", "postgresql://localhost/x")
    with pytest.raises(Unusable, match="postgresql is not supported yet"):
        load()


def test_applying_again_what_nobody_has_broadcast_yet_does_not_say_that_it_is_done(tmp_path, monkeypatch):
    import asyncio

    database = f"sqlite:///{tmp_path / 'l.db'}"
    migrate(database)
    open_database(database).dispose()
    settings = Settings(kafka="127.0.0.1:1", database=database)
    monkeypatch.setattr(control, "BROADCAST_SECONDS", 0.2)
    brands = control.documents("{brand: acme, currency: EUR}", "test")
    for _ in range(2):
        with pytest.raises(Unusable, match="no projector sends it"):
            asyncio.run(control.apply_documents(settings, brands, check=False))
    assert asyncio.run(control.apply_documents(settings, brands, check=True)) == ["brand acme version 1: already there"]
