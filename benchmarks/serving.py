"""`python -m benchmarks.serving`: reads over HTTP at 64 connections, beside a bare FastAPI route of a constant.

Each server is a process of its own and has the same uvicorn; `wrk` (a Debian package) asks for random members. Server
and `wrk` share the machine in every measurement, so what is compared is what the servers cost.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Final, NamedTuple

import httpx
import typer
from rich.console import Console

from aggregates.database import open_database
from aggregates.events import Grant, InteractionRewarded, Origin
from aggregates.ledger import Ledger, account_id, brand_aggregate, campaign_aggregate
from aggregates.ledger_store import encoded
from aggregates.program_events import BrandDefined, CampaignDefined
from aggregates.programs import content_of, parse
from benchmarks.contest import Row, merge, table
from benchmarks.databases import postgres
from projections import registry
from projections.upkeep.runner import Runner
from schemas.topics import ACTIVITY
from service.embedded.stack import free_port
from service.migrate import migrate

TARGET: Final = 0.4
CONNECTIONS: Final = 64
MEMBERS: Final = 10_000
MARCH: Final = 1_772_323_200_000
"""2026-03-01T00:00:00Z."""
READY_SECONDS: Final = 60.0
BRAND: Final = {"brand": "acme", "plan": "free", "timezone": "UTC", "currency": "EUR"}
CAMPAIGN: Final = {
    "campaign": "spring",
    "brand": "acme",
    "starts_at": "2026-03-01T00:00:00Z",
    "ends_at": "2040-04-01T00:00:00Z",
    "earn": [{"rule": "share", "on": "interaction", "kind": ["share"], "points": 10}],
}
BARE: Final = """
import uvicorn, sys
from fastapi import FastAPI
app = FastAPI()

@app.get("/constant")
async def constant() -> dict[str, int | str]:
    return {"brand": "acme", "member_id": "m-1", "active": 120, "pending": 500, "spent": 200, "expired": 0,
            "reversed": 40, "earned": 860, "adjusted": 0, "debt": 0, "shortfall": 0, "position": 48213}

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
"""
RANDOM_MEMBER: Final = f"""
math.randomseed(7)
request = function()
  return wrk.format("GET", "/v1/brands/acme/members/m-" .. math.random({MEMBERS}) .. "/balance")
end
"""
STANDINGS: Final = "/v1/brands/acme/campaigns/spring/standings"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Load(NamedTuple):
    """What one run of `wrk` found."""

    a_second: float
    p99_ms: float


class Wrong(Exception):
    """A run that is no figure."""


@app.command(epilog="Example: python -m benchmarks.serving --seconds 10 --runs 3")
def bench(
    seconds: Annotated[int, typer.Option(min=1, help="Length of each measurement.")] = 10,
    runs: Annotated[int, typer.Option(min=1, help="Measurements of each; the median counts.")] = 3,
    results: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the rows go too, as JSON.")] = None,
) -> None:
    """Compare throughput; a ratio is requests a second over those of the bare route."""
    if shutil.which("wrk") is None:
        print("wrk is missing: install it (Debian: apt-get install wrk)", file=sys.stderr)
        raise typer.Exit(2)
    rows: list[Row] = []
    with ExitStack() as ending:
        directory = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="groundswell-serving-")))
        (directory / "bare.py").write_text(BARE)
        (directory / "member.lua").write_text(RANDOM_MEMBER)
        bare = ending.enter_context(_server([sys.executable, str(directory / "bare.py")], "/constant", {}))
        addresses = {"SQLite": f"sqlite:///{directory / 'groundswell.db'}"}
        addresses["PostgreSQL"] = ending.enter_context(ending.enter_context(postgres())())
        for name, database in addresses.items():
            fill(database)
            role = [sys.executable, "-m", "service", "api"]
            ours = ending.enter_context(_server(role, "/healthz", _environment(database, directory)))
            asked = {"balance": ("", directory / "member.lua"), "standings, 100 places": (STANDINGS, None)}
            for read, (path, script) in asked.items():
                found = [
                    (_load(ours, path, script, seconds), _load(bare, "/constant", None, seconds)) for _ in range(runs)
                ]
                rows.append(_row(read, name, [one for one, _ in found], [peer for _, peer in found]))
    Console(width=None if sys.stdout.isatty() else 160).print(table(rows))
    if results is not None:
        merge(results, rows)


def _row(read: str, database: str, ours: list[Load], bare: list[Load]) -> Row:
    p99 = median(one.p99_ms for one in ours)
    rate, peer = median(one.a_second for one in ours), median(one.a_second for one in bare)
    return {
        "name": f"{read} over HTTP at {CONNECTIONS} connections, {database}",
        "subject": f"the API, p99 {p99:.1f} ms",
        "peer": f"a bare FastAPI route, p99 {median(one.p99_ms for one in bare):.1f} ms",
        "ratio": round(rate / peer, 2),
        "target": TARGET,
        "median": round(rate),
        "peer_median": round(peer),
        "unit": "requests/s",
        "runs": len(ours),
    }


def fill(database: str) -> None:
    """`MEMBERS` members with two lots each and a place in the standings of a campaign."""
    migrate(database)
    ledger = Ledger(database)
    brand, campaign = content_of(parse(BRAND, "benchmark")), content_of(parse(CAMPAIGN, "benchmark"))
    ledger.store.write(
        [
            encoded(brand_aggregate("acme"), 1, BrandDefined("acme", 1, 0, brand, MARCH)),
            encoded(
                campaign_aggregate("acme", "spring"), 1, CampaignDefined("acme", "spring", 1, MARCH, campaign, MARCH)
            ),
        ]
    )
    for version in (1, 2):
        events = [
            encoded(account_id("acme", f"m-{n}"), version, rewarded(version * MEMBERS + n, 1 + n % 997))
            for n in range(1, MEMBERS + 1)
        ]
        ledger.store.write(events)
    engine = open_database(database)
    Runner(engine, ledger.notifications, registry.LEDGER).catch_up()
    engine.dispose()
    ledger.close()


def rewarded(number: int, points: int) -> InteractionRewarded:
    """A share that paid so many points."""
    origin = Origin(ACTIVITY, 0, number, f"e{number}", MARCH, MARCH + 1_000)
    grant = Grant(f"lot-{number}", "spring", 1, "share", points, points, "unit", 10, 0, 1000, MARCH)
    return InteractionRewarded(origin, "share", "brand_post", "x", 1, "nano", 500, "p1", None, (grant,), ())


def _environment(database: str, directory: Path) -> dict[str, str]:
    ours = {"KAFKA": "127.0.0.1:1", "DATABASE": database, "SECRET": "of the benchmark", "DATA_DIR": str(directory)}
    return {f"GROUNDSWELL_{name}": value for name, value in ours.items()}


@contextmanager
def _server(command: list[str], path: str, environment: Mapping[str, str]) -> Iterator[str]:
    """A server that answers at `path`; its address. The bare one takes its port as an argument."""
    port = free_port()
    arguments = [] if environment else [str(port)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GROUNDSWELL_")}
    process = subprocess.Popen(
        [*command, *arguments], env={**clean, **environment, "GROUNDSWELL_PORT": str(port)}, stdout=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                httpx.get(f"{address}{path}").raise_for_status()
                break
            except httpx.HTTPError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Wrong(f"{command} does not answer") from None
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def _load(address: str, path: str, script: Path | None, seconds: int) -> Load:
    """One run of `wrk`, after a short one that does not count. Raises `Wrong` when an answer is no success."""
    command = [
        "wrk",
        "--latency",
        "--timeout",
        "30s",
        "-t",
        "1",
        "-c",
        str(CONNECTIONS),
        *(("-s", str(script)) if script else ()),
    ]
    subprocess.run([*command, "-d", "1s", f"{address}{path}"], check=True, capture_output=True)
    done = subprocess.run(
        [*command, "-d", f"{seconds}s", f"{address}{path}"], check=True, capture_output=True, text=True
    )
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise Wrong(done.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    if rate is None or p99 is None:
        raise Wrong(f"wrk said something else: {done.stdout}")
    return Load(float(rate[1]), float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1_000.0}[p99[2]])


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.serving")
