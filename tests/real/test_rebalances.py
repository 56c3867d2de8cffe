"""Workers come and go, are killed meanwhile, or freeze past their session: the end is that of a clean run."""

from __future__ import annotations

import os
import threading
import time

import pytest
from comparison import assert_exact
from deployment import SESSION_SECONDS, drawn

EVENTS = int(os.environ.get("SIDE_EVENTS") or 18_000)
EXPECTED = {"killed", "stopped", "Fenced"}


@pytest.mark.parametrize("kills", [False, True], ids=["in good order", "with kills"])
def test_workers_that_come_and_go_end_as_an_undisturbed_run(deployment, report, kills):
    seed, rnd = drawn()
    report.append(f"seed {seed}")
    events = deployment.workload(seed, EVENTS)
    for count in (1, 2, 3, 1):
        start = deployment.positions("ledger")
        deployment.workers.scale(count)
        deployment.publish(events, EVENTS // 4)
        if kills:
            time.sleep(rnd.uniform(0, SESSION_SECONDS))  # while partitions change hands, or after that
            deployment.workers.kill(rnd.choice(sorted(deployment.workers.workers)))
        deployment.until(lambda at=start: deployment.positions("ledger") != at, 90, f"work goes on, seed {seed}")
    deployment.publish(events)
    assert_exact(deployment, report)
    report.append(f"worker exits: {dict(deployment.workers.reasons())}")
    assert set(deployment.workers.reasons()) <= EXPECTED, deployment.workers.unasked()


def test_a_worker_that_was_frozen_past_its_session_writes_nothing_when_it_goes_on(deployment, report):
    seed, rnd = drawn()
    report.append(f"seed {seed}")
    events = deployment.workload(seed, EVENTS)
    deployment.publish(events, EVENTS // 4)
    deployment.until_shared(2)
    start = deployment.positions("ledger")
    feeding = threading.Thread(target=deployment.publish, args=(events,))
    feeding.start()
    deployment.until(lambda: deployment.positions("ledger") != start, 60, "work goes on")
    time.sleep(rnd.uniform(0, 0.5))  # the instant is what is random here
    zombie = deployment.workers.freeze(0)
    lost, since = deployment.owned_by(0), time.monotonic()
    feeding.join()
    deployment.until(lambda: all(deployment.watch.resumed(p, since) for p in lost), 90, "the other takes over")
    took = max(deployment.watch.resumed(p, since) or 0 for p in lost)
    deployment.workers.thaw(zombie)
    assert_exact(deployment, report)
    report.append(f"SIGSTOP to work resumed elsewhere {took:.1f} s, exits: {dict(deployment.workers.reasons())}")
    assert set(deployment.workers.reasons()) <= EXPECTED, deployment.workers.unasked()
