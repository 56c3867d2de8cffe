"""Pages folded in processes of their own: the same read models, and what is wrong is said as if there were none."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from ledger_stream import long_stream
from sqlalchemy import Engine

from aggregates.database import open_database
from aggregates.events import UnknownEvent, to_stored
from aggregates.ledger import Ledger
from projections.registry import LEDGER
from projections.upkeep import load
from projections.upkeep.folding import PROCESSES, Start, folded_beside
from projections.upkeep.rebuild import Rebuild
from projections.upkeep.runner import NEXT, Kept, Runner, digest_of, kept, prepare


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A real ledger with some hundred events."""
    engine: Engine = request.getfixturevalue(f"{request.param}_engine")()
    address = engine.url.set(drivername=engine.url.get_backend_name()).render_as_string(hide_password=False)
    made = Ledger(address)
    made.migrate()
    events = long_stream(300).events
    made.store.write([(recorded.originator, n, *to_stored(recorded.event)) for n, recorded in enumerate(events)])
    yield made
    made.close()


@pytest.fixture
def address(ledger: Ledger, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the ledger is."""
    if "postgresql" in request.node.name:
        return str(request.getfixturevalue("postgresql_server").get_uri())
    return f"sqlite:///{tmp_path / '0.db'}"


def rebuilt(address: str, ledger: Ledger, stop_at: int | None = None) -> dict[str, Kept]:
    """What a rebuild comes to, in processes of its own as if there were much to do; the rows add up to it."""
    engine, reading = open_database(address), open_database(address, read_only=True)
    source, last = ledger.notifications, ledger.last_notification
    work = Rebuild(engine, reading, source, last, LEDGER, page=25, held=150, beside=address)
    try:
        built = work.build(stop_at)
        if stop_at is None:
            work.swap()
        with engine.connect() as conn:
            there = kept(conn)
            for projection in LEDGER if stop_at is None else ():
                assert digest_of(conn, projection) == there[projection.name].digest
        return built
    finally:
        engine.dispose()
        reading.dispose()


def plain(ledger: Ledger, directory: Path, stop_at: int | None = None) -> dict[str, Kept]:
    """The same by the runner, page by page."""
    engine = open_database(f"sqlite:///{directory / 'plain.db'}")
    prepare(engine, LEDGER)
    Runner(engine, ledger.notifications, LEDGER, page=7).catch_up(stop_at)
    with engine.connect() as conn:
        there = kept(conn)
    engine.dispose()
    return {projection.name: there[projection.name] for projection in LEDGER}


def test_the_builds_are_what_the_runner_makes(
    ledger: Ledger, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "FAR", 1)
    with monkeypatch.context() as patched:
        patched.setattr(load, "_fold", lambda *_: 0)  # so that nothing is folded here
        stopped = rebuilt(address, ledger, 160)
    assert stopped == plain(ledger, tmp_path, 160)
    assert rebuilt(address, ledger) == plain(ledger, tmp_path), "it goes on where that one stopped"


def test_pages_come_in_order_and_only_what_is_missing_is_in_them(ledger: Ledger, address: str) -> None:
    last = ledger.last_notification()
    starts = {"statements": Start(100, True), "balances": Start(0, False)}
    pages = list(folded_beside(address, starts, last, 40))
    assert [page.reached for page in pages] == [*range(40, last, 40), last]
    assert all("statements" not in page.rows for page in pages[:2])
    seqs = [row[3] for page in pages for row in page.rows.get("statements", {}).get("statements", [])]
    assert min(seqs) > 100
    assert seqs == sorted(seqs)
    assert all(set(page.digests) <= {"statements"} for page in pages)
    assert len(list(islice(folded_beside(address, starts, last, 40), 1))) == 1, "who stops early leaves no process"


def test_an_event_of_a_newer_release_is_said_and_what_came_before_it_is_kept(
    ledger: Ledger, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "FAR", 1)
    last = ledger.last_notification()
    ledger.store.write([("account:acme/ann", 1_000_000, "account.of-tomorrow.1", b"{}")])
    with pytest.raises(UnknownEvent, match=r"account\.of-tomorrow\.1"):
        rebuilt(address, ledger)
    engine = open_database(address, read_only=True)
    with engine.connect() as conn:
        assert last - 25 <= kept(conn)[f"statements{NEXT}"].position <= last
    engine.dispose()


_BUILDER = """
import sys
sys.path[:0] = [{root!r}]
from aggregates.database import open_database
from aggregates.ledger import Ledger
from projections.upkeep import load
from projections.upkeep.rebuild import Rebuild
from projections.registry import LEDGER
load.FAR = 1
address = {address!r}
source = Ledger(address)
work = Rebuild(open_database(address), open_database(address, read_only=True), source.notifications,
               source.last_notification, LEDGER, page=10, held=50, beside=address)
work.build(told=lambda at, end: (print(at, flush=True), sys.stdin.readline()))
"""


def test_a_rebuild_that_is_killed_leaves_no_process_and_goes_on(ledger: Ledger, address: str, tmp_path: Path) -> None:
    code = _BUILDER.format(root=str(Path(__file__).parents[2]), address=address)
    command = [sys.executable, "-c", code]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    for _ in range(4):
        assert child.stdout.readline()
        child.stdin.write("\n")
        child.stdin.flush()
    helpers = [int(pid) for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()]
    assert len(helpers) == PROCESSES
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in helpers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert rebuilt(address, ledger) == plain(ledger, tmp_path)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
