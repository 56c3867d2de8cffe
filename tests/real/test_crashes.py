"""SIGKILL of real workers at random instants, on Apache Kafka and PostgreSQL: the end is that of a clean run."""

from __future__ import annotations

import math
import os
import statistics
import time

from comparison import assert_exact
from deployment import SESSION_SECONDS, Deployment, drawn

KILLS = int(os.environ.get("KILLS") or 10)
EVENTS = int(os.environ.get("EVENTS") or 300_000)
EXPECTED = {"killed", "stopped", "Fenced"}
"""How a worker may end here; a fenced one ends on purpose."""


def test_workers_killed_at_random_instants_end_as_an_undisturbed_run(deployment, report):
    seed, rnd = drawn()
    report.append(f"seed {seed}, {KILLS} kills, {EVENTS} events")
    events = deployment.workload(seed, EVENTS)
    deployment.workers.scale(2)
    killed: list[tuple[float, set[int]]] = []
    slice_size = EVENTS // (KILLS + 1)
    while len(killed) < KILLS:
        start = deployment.positions("ledger")
        deployment.publish(events, slice_size)
        if rnd.random() < 0.7:  # else at any instant, while partitions are taken over too
            deployment.until(lambda at=start: deployment.positions("ledger") != at, 60, f"work goes on, seed {seed}")
        time.sleep(rnd.uniform(0, 2.5))  # the instant is what is random here
        if rnd.random() < 0.2:
            deployment.projectors.kill(0)
        for slot in rnd.sample([0, 1], 2 if rnd.random() < 0.1 else 1):
            owned, at = deployment.owned_by(slot), time.monotonic()
            deployment.workers.kill(slot)
            killed.append((at, owned))
    deployment.publish(events)
    assert_exact(deployment, report)
    assert set(deployment.workers.reasons()) <= EXPECTED, deployment.workers.unasked()
    report_recoveries(deployment, killed, report)


def report_recoveries(deployment: Deployment, killed: list[tuple[float, set[int]]], report: list[str]) -> None:
    """From SIGKILL to the first record of the partition in the ledger by its next owner."""
    seconds, overtaken = [], 0
    for (at, owned), (after, _) in zip(killed, [*killed[1:], (math.inf, set())], strict=True):
        for took in (deployment.watch.resumed(p, at) for p in owned):
            if took is None or at + took > after:
                overtaken += 1
            else:
                seconds.append(took)
    if seconds:
        report.append(
            f"SIGKILL to work resumed, of {len(seconds)} partitions: median {statistics.median(seconds):.1f} s, "
            f"most {max(seconds):.1f} s, of which up to {SESSION_SECONDS} s until the group notices; of {overtaken} "
            "more the next kill came first"
        )
    roles = [dict(role.reasons()) for role in (deployment.workers, deployment.projectors)]
    report.append(f"exits of workers and projector: {roles}")
