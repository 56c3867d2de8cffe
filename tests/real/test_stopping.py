"""How a worker ends: in its time while the broker is away, and at once where the brokers do not take it."""

from __future__ import annotations

import signal
import time

import pytest
from deployment import finished

SECONDS = 30
"""How long docs/deployment.md and docker/compose.yaml give a worker to stop."""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_ends_in_its_time_while_the_broker_is_away(deployment, kafka, number):
    deployment.workers.restarts = False
    deployment.until_shared(1)
    events = deployment.workload(1, 4_000)
    deployment.publish(events, 2_000)
    deployment.until_behind_by(0)
    deployment.publish(events)  # so that there is something to flush, and much on its way
    worker = deployment.workers.workers[0]
    kafka.process.send_signal(number)
    try:
        deployment.until(lambda: number == signal.SIGSTOP or "Unable connect" in worker.log, 20, "it is missed")
        worker.ours = "stopped"
        worker.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert worker.process.wait(2 * SECONDS) == 0
        assert time.monotonic() - began < SECONDS
        assert "Traceback" not in worker.log
        assert "Unclosed" not in worker.log
    finally:
        kafka.process.send_signal(signal.SIGCONT)
        kafka.kill()  # its next use starts it again


def test_a_session_that_the_brokers_do_not_take_ends_a_worker_with_2(deploy):
    worker = deploy(GROUNDSWELL_SESSION_SECONDS="3").command("worker")
    lines = finished(worker, 2).splitlines()
    assert lines[-1].startswith("worker stopped: GroupRefused: the brokers do not take GROUNDSWELL_SESSION_SECONDS")
    assert "Traceback" not in "".join(lines)
    assert "Unclosed" not in "".join(lines)
