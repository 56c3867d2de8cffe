"""SIGKILL of real workers at random instants: the end is that of an undisturbed run."""

from __future__ import annotations

import random
import subprocess
import time

from running import SIMULATION, Running, stack, until

KILLS = 4


def wait_for_progress(up: Running, worker: subprocess.Popen[bytes], rnd: random.Random) -> None:
    """Until the worker has its partitions, and a random moment more."""
    until(lambda: up.json("status")["roles"].get("worker") == 4 or worker.poll() is not None, 60)
    time.sleep(rnd.uniform(0, 1.5))  # the instant is what is random here


def test_workers_killed_at_random_instants_end_as_an_undisturbed_run(tmp_path, undisturbed):
    seed = random.randrange(1 << 32)
    rnd = random.Random(seed)
    with stack(tmp_path / "killed", "--no-worker") as up:
        worker = up.start_worker()
        publisher = subprocess.Popen(
            [*__import__("running").COMMAND, *SIMULATION, "--rate", "1500/s", "--data-dir", str(up.directory)],
            stdout=subprocess.DEVNULL,
        )
        for _ in range(KILLS):
            wait_for_progress(up, worker, rnd)
            worker.kill()
            worker.wait()
            worker = up.start_worker()
        assert publisher.wait(120) == 0
        up.run("wait", "--timeout", "120")
        assert up.digests() == undisturbed, f"seed {seed}"
        up.run("replay", "verify")


def test_a_redemption_without_a_worker_is_neither_lost_nor_run_twice(tmp_path):
    with stack(tmp_path, "--no-worker") as up:
        programs = tmp_path / "p.yaml"
        programs.write_text("brand: acme\ntimezone: UTC\ncurrency: EUR\nplan: pro\n---\ncampaign: c\nbrand: acme\n"
                            "starts_at: 2026-01-01T00:00:00Z\nends_at: 2026-12-31T00:00:00Z\n"
                            "earn: [{rule: r, on: purchase, points: 50}]\n")  # fmt: skip
        up.run("apply", str(programs))
        buy = tmp_path / "buy.jsonl"
        buy.write_text('{"event_id":"1","occurred_at":"2026-02-01T00:00:00Z","brand_id":"acme","member_id":"ann",'
                       '"order_id":"o","kind":"completed","amount_minor":1,"currency":"EUR"}\n')  # fmt: skip
        up.run("publish", "purchases", str(buy))
        for _ in range(2):
            up.run("redeem", "acme", "ann", "20", "--key", "k", "--timeout", "0.5", code=2)
        up.start_worker()
        up.run("redeem", "acme", "ann", "20", "--key", "k", "--timeout", "60")
        up.run("wait", "--timeout", "60")
        balance = up.json("balance", "acme", "ann")
        assert (balance["spent"], balance["active"]) == (20, 30)
