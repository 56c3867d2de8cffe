"""Records that cannot be accepted: a few are dead letters, exactly those; too many stop the workers before the end."""

from __future__ import annotations

import asyncio
import os

from comparison import assert_exact
from deployment import drawn
from model import written

EVENTS = int(os.environ.get("SIDE_EVENTS") or 18_000)
RUN = 1_000
"""So many rejected records in a row stop a worker, by default."""


def test_one_percent_of_poison_is_in_the_dead_letters_and_nothing_else(deployment, report):
    seed, rnd = drawn()
    report.append(f"seed {seed}")
    events = deployment.workload(seed, EVENTS, poison=1)
    deployment.workers.scale(2)
    deployment.publish(events, EVENTS // 2)
    deployment.until_behind_by(EVENTS // 4)
    deployment.workers.kill(rnd.choice([0, 1]))
    deployment.publish(events)
    assert_exact(deployment, report)


def test_a_log_of_poison_stops_the_workers_before_it_is_drained(deployment, report):
    seed, _ = drawn()
    good = deployment.workload(seed, 4_000)
    deployment.publish(good)
    deployment.workers.scale(2)
    deployment.run("wait", "--timeout", "120")
    before = deployment.positions("readstate")
    deployment.workers.restarts = False
    ends = deployment.publish(deployment.workload(seed, EVENTS, poison=100))
    for count in (2, 3):  # starting it again passes no more of them
        deployment.until(lambda: not deployment.workers.workers, 90, "all workers stop")
        exits = deployment.workers.unasked()
        assert [(one.code, one.reason) for one in exits] == [(1, "TooManyRejected")] * count, exits
        if count < 3:
            deployment.workers.scale(1)
    assert all("GROUNDSWELL_DEAD_LETTER_RUN" in one.message for one in exits)
    for log in deployment.directory.glob("worker-*/log"):
        said = log.read_text()
        assert said.splitlines()[-1].startswith("worker stopped: TooManyRejected")
        assert "Traceback" not in said
        assert "Unclosed" not in said
    after = deployment.positions("readstate")
    moved = {p: after[p] - before[p] for p in after}
    assert all(0 <= records < RUN for records in moved.values()), f"moved past what stopped the worker: {moved}"
    assert all(after[p] < ends[p] for p in ends), "the log was drained"
    letters = asyncio.run(written(deployment.kafka.bootstrap)).letters
    assert all(offset < before[p] + RUN for p, offset in letters)
    report.append(f"stopped {moved} records into {EVENTS} of poison, {len(letters)} dead letters")
