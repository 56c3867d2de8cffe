"""Kafka is killed and comes back while workers are at work: they go on, and the end is that of a clean run."""

from __future__ import annotations

import os
import time

from comparison import assert_exact
from deployment import drawn

EVENTS = int(os.environ.get("SIDE_EVENTS") or 18_000)
ROUNDS = 2


def test_a_broker_that_is_killed_and_comes_back_loses_and_repeats_nothing(deployment, kafka, report):
    seed, rnd = drawn()
    report.append(f"seed {seed}")
    events = deployment.workload(seed, EVENTS)
    deployment.workers.scale(2)
    took = []
    for _ in range(ROUNDS):
        start = deployment.positions("ledger")
        deployment.publish(events, EVENTS // (ROUNDS + 1))
        deployment.until(lambda at=start: deployment.positions("ledger") != at, 60, "work goes on")
        time.sleep(rnd.uniform(0, 0.7))  # the instant is what is random here
        kafka.kill()
        time.sleep(rnd.uniform(0, 2))
        kafka.restart()
        back = time.monotonic()
        deployment.until(deployment.ends, 60, "the broker answers")
        deployment.publish(events, 500)
        ends = deployment.ends()
        deployment.until(lambda to=ends: reached(deployment.positions("readstate"), to), 120, f"goes on, seed {seed}")
        took.append(time.monotonic() - back)
    deployment.publish(events)
    assert_exact(deployment, report)
    report.append(f"broker back to all caught up: {', '.join(f'{one:.1f} s' for one in took)}")
    ended = [dict(role.reasons()) for role in (deployment.workers, deployment.projectors)]
    report.append(f"exits of workers and projector: {ended}")


def reached(positions: dict[int, int], to: dict[int, int]) -> bool:
    """Whether every partition is there."""
    return all(positions[p] >= end for p, end in to.items())
