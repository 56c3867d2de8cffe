"""PostgreSQL goes away at full input and comes back: workers stay where they are, wait in bounded memory, and go on."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from comparison import assert_exact
from deployment import Deployment, drawn

EVENTS = int(os.environ.get("SIDE_EVENTS") or 30_000)
AWAY_SECONDS = float(os.environ.get("DATABASE_AWAY_SECONDS") or 20)
MEMORY_MB = 150
"""What a waiting worker may add: a few chunks, however long the database is away."""
_REBALANCED = re.compile(r'event="partitions ready" generation=\d+|.*rebalanc.*|.*rejoin.*')


def rebalances(deployment: Deployment) -> dict[int, list[str]]:
    """Slot → what its process has said of rebalances."""
    return {slot: _REBALANCED.findall(worker.log) for slot, worker in sorted(deployment.workers.workers.items())}


def processes(deployment: Deployment) -> dict[int, int]:
    """Slot → process id."""
    return {slot: worker.process.pid for slot, worker in sorted(deployment.workers.workers.items())}


def memory(deployment: Deployment) -> dict[int, float]:
    """Slot → resident megabytes."""
    return {slot: worker.memory_mb for slot, worker in sorted(deployment.workers.workers.items())}


def at_work(deployment: Deployment, events: Any) -> None:
    """Two workers with partitions each, in the middle of their work."""
    deployment.publish(events, 2_000)
    deployment.until_shared(2)
    deployment.until_behind_by(0)
    start = deployment.positions("ledger")
    deployment.publish(events, EVENTS // 2)
    deployment.until(lambda: deployment.positions("ledger") != start, 60, "work goes on")


def test_workers_outwait_a_database_that_is_stopped_at_full_input(deployment, postgres, report):
    seed, _ = drawn()
    report.append(f"seed {seed}, away for {AWAY_SECONDS:g} s")
    events = deployment.workload(seed, EVENTS)
    at_work(deployment, events)
    before = (processes(deployment), rebalances(deployment))
    used = memory(deployment)
    postgres.stop()
    stopped = time.monotonic()
    deployment.publish(events)
    peak = dict(used)
    while time.monotonic() < stopped + AWAY_SECONDS:
        assert not deployment.workers.unasked(), deployment.workers.unasked()
        peak = {slot: max(megabytes, peak[slot]) for slot, megabytes in memory(deployment).items()}
        time.sleep(0.2)
    postgres.ensure_postgres_running()
    back, start = time.monotonic(), deployment.positions("ledger")
    deployment.until(lambda: all(deployment.positions("ledger")[p] > start[p] for p in start), 60, "all go on")
    went_on = time.monotonic() - back
    assert_exact(deployment, report)
    assert (processes(deployment), rebalances(deployment)) == before, "a worker ended, or the group rebalanced"
    assert not deployment.workers.unasked()
    assert all(peak[slot] - used[slot] < MEMORY_MB for slot in used), (used, peak)
    shown = ", ".join(f"{used[slot]:.0f} to {peak[slot]:.0f} MB" for slot in used)
    report.append(f"all partitions went on {went_on:.1f} s after the database; memory {shown}")
    report.append(f"projector exits: {dict(deployment.projectors.reasons())}")


def test_a_database_that_crashes_at_full_input_loses_and_repeats_nothing(deployment, postgres, report):
    seed, rnd = drawn()
    report.append(f"seed {seed}")
    events = deployment.workload(seed, EVENTS // 2)
    deployment.workers.scale(2)
    for _ in range(3):
        start = deployment.positions("ledger")
        deployment.publish(events, EVENTS // 8)
        deployment.until(lambda at=start: deployment.positions("ledger") != at, 60, "work goes on")
        time.sleep(rnd.uniform(0, 0.5))  # the instant is what is random here
        crash(postgres)
    deployment.publish(events)
    assert_exact(deployment, report)
    report.append(f"exits: workers {dict(deployment.workers.reasons())}")
    assert not deployment.workers.unasked(), deployment.workers.unasked()


def crash(postgres: Any) -> None:
    """Every process of the server ends at once, and it starts again."""
    process = postgres.get_postmaster_info().process
    process.send_signal(3)  # SIGQUIT: an immediate shutdown; the next start recovers from the log
    process.wait(20)
    postgres.ensure_postgres_running()
