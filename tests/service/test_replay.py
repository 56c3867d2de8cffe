"""`replay rebuild` as a person meets it: what it says, its exit codes, and that it sends nothing."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from aggregates.database import Exclusive, Lock
from projections.registry import LEDGER
from service import cli, outbox
from service.settings import Settings

Run = Callable[..., tuple[int, str, str]]
OF_LEDGER = [projection.name for projection in LEDGER]


@pytest.fixture
def kafka() -> Iterator[socket.socket]:
    """Where the settings say that Kafka is; nobody answers there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture
def run(
    settings: Settings, kafka: socket.socket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs `groundswell replay …` on a filled database: exit code, output, errors."""
    monkeypatch.setenv("GROUNDSWELL_KAFKA", f"127.0.0.1:{kafka.getsockname()[1]}")
    monkeypatch.setenv("GROUNDSWELL_DATABASE", settings.database)
    monkeypatch.setenv("GROUNDSWELL_SECRET", "very-secret")

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["groundswell", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return command


def execute(settings: Settings, statement: str) -> Any:
    engine = sa.create_engine(settings.database)
    with engine.begin() as conn:
        result = conn.execute(sa.text(statement))
        rows = result.all() if result.returns_rows else None
    engine.dispose()
    return rows


def test_those_of_the_ledger_are_rebuilt_and_the_digests_are_those_from_before(run: Run) -> None:
    before = json.loads(run("digest", "--json")[1])
    code, said, _ = run("replay", "rebuild", *OF_LEDGER)
    assert code == 0
    assert "These serve now." in said
    assert json.loads(run("digest", "--json")[1]) == before


def test_a_rebuild_sends_nothing_and_leaves_the_outbox_where_it_is(
    run: Run, settings: Settings, kafka: socket.socket
) -> None:
    positions = f"SELECT * FROM {outbox.POSITION.name}"
    before = execute(settings, positions)
    assert run("replay", "rebuild", *OF_LEDGER)[0] == 0
    assert run("replay", "rebuild", *OF_LEDGER, "--rollback")[0] == 0
    assert execute(settings, positions) == before
    with pytest.raises(BlockingIOError):  # nobody so much as knocked
        kafka.accept()


def test_a_damaged_row_is_named_with_exit_code_1_and_mended(run: Run, settings: Settings) -> None:
    execute(settings, "UPDATE statements SET points = points + 1000 WHERE member = 'bob'")
    code, said, _ = run("replay", "rebuild", "statements", "balances")
    assert code == 1
    assert "DIFFERED" in said
    assert "points is 1050 and must be 50" in said
    assert run("replay", "rebuild", "statements")[0] == 0
    code, said, _ = run("replay", "rebuild", "statements", "--json")
    body = json.loads(said)
    assert (code, body["swapped"]) == (0, True)
    assert [one["compared"]["differing"] for one in body["projections"]] == [0]


def test_stop_at_builds_and_swaps_nothing(run: Run, settings: Settings) -> None:
    before = run("digest", "--json")
    code, said, _ = run("replay", "rebuild", "balances", "--stop-at", "3", "--json")
    body = json.loads(said)
    assert (code, body["swapped"]) == (0, False)
    assert [(one["position"], one["rows"]) for one in body["projections"]] == [(3, 1)]
    assert execute(settings, "SELECT member, earned FROM balances__next") == [("ann", 30)]
    assert run("digest", "--json") == before


def test_a_second_rebuild_is_refused_while_one_is_at_work(run: Run, settings: Settings) -> None:
    with Exclusive(settings.database, Lock.REBUILD):
        code, _, said = run("replay", "rebuild", "all")
    assert code == 2
    assert said.strip().endswith("another rebuild is at work on this database: wait until it has ended")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nonsense"], "there is no read model nonsense: there are balances, statements, standings"),
        (["engagement", "--stop-at", "3"], "the engagement tables are built from topics: leave them out"),
        (["balances", "--stop-at", str(10**23)], "the ledger ends at position"),
        (["tiers", "--rollback"], "engagement tables: there is nothing that served before"),
        (["all", "--rollback"], "there is nothing that served before"),
        (["all", "--rollback", "--stop-at", "3"], "give one of them"),
    ],
)
def test_what_cannot_be_rebuilt_is_one_line(run: Run, arguments: list[str], line: str) -> None:
    code, _, said = run("replay", "rebuild", *arguments)
    assert code == 2
    assert said.count("\n") == 1
    assert line in said
