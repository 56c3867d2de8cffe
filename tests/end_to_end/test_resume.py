"""SIGKILL of a whole stack: what was accepted is there after `up --resume`, and nothing is paid twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

from running import COMMAND, ENVIRONMENT, SIMULATION, Running, command, free_port, stack, until

from aggregates.ledger import Source
from schemas.topics import ACTIVITY
from service.broker import kafka
from service.embedded import resume
from streams.connection import Brokers

ROUNDS = 3
PROGRAM = """
campaign: {0}
brand: acme
starts_at: 2026-01-01T00:00:00Z
ends_at: 2026-12-31T00:00:00Z
earn: [{{rule: r, on: purchase, points: 50}}, {{rule: bring, on: referral, points: 7}}]
"""
BRAND = "brand: acme\ntimezone: UTC\ncurrency: EUR\nplan: pro\n---" + PROGRAM.format("one")


def archived(directory: Path) -> dict[tuple[int, int], int]:
    """What the next `--resume` goes on from: partition and offset → CRC-32 of the value."""
    archive = resume.settled(directory)
    sources = [Source(ACTIVITY, archive.epoch, p) for p in range(archive.partitions)]
    return {
        (s.partition, r.offset): zlib.crc32(r.value or b"") for s in sources for block in archive.read(s) for r in block
    }


def accepted_until_killed(up: Running, pause: float, *, alone: bool) -> dict[tuple[int, int], int]:
    """Publish the community, kill the stack (or `up` alone, and the rest ends by itself); what had been accepted."""
    with (up.directory / "accepted").open("w+") as file:
        command = [sys.executable, str(Path(__file__).parent / "accepting.py"), str(up.directory)]
        publisher = subprocess.Popen(command, stdout=file, env={**ENVIRONMENT, "PYTHONPATH": os.getcwd()})
        until(lambda: os.fstat(file.fileno()).st_size > 0 or publisher.poll() is not None, 60)
        time.sleep(pause)  # the instant is what is random here
        if alone:
            up.process.kill()
            up.process.wait()
        else:
            up.kill()
        publisher.kill()
        publisher.wait()
        file.seek(0)
        whole, _, _ = file.read().rpartition("\n")  # the last line can be cut anywhere
        lines = [line.split() for line in whole.splitlines()]
    return {(int(partition), int(offset)): int(crc) for partition, offset, crc in lines}


def test_a_stack_killed_at_random_instants_loses_nothing_accepted_and_pays_nothing_twice(tmp_path, undisturbed):
    seed = random.randrange(1 << 32)
    rnd = random.Random(seed)
    said: dict[tuple[int, int], int] = {}
    for number in range(ROUNDS):
        with stack(tmp_path, "--resume") as up:
            said |= accepted_until_killed(up, rnd.uniform(0, 2.5), alone=number == 1)
        assert said.items() <= archived(tmp_path).items(), f"seed {seed}"
    assert said
    with stack(tmp_path, "--resume") as up:
        up.run(*SIMULATION)
        up.run("wait", "--timeout", "120")
        assert up.digests() == undisturbed, f"seed {seed}"
        up.run("replay", "verify")
        ends = up.json("archive", "create")["ends"]  # the stack's own archive has it all by itself
        checked = up.json("archive", "verify")
        assert (checked["problems"], checked["records"] + checked["journaled"]) == ([], sum(ends.values()))


def buy(directory: Path, number: int) -> str:
    file = directory / f"buy-{number}.jsonl"
    row = {"event_id": f"b{number}", "occurred_at": "2026-02-01T00:00:00Z", "brand_id": "acme", "member_id": "ann"}
    row |= {"order_id": f"o{number}", "kind": "completed", "currency": "EUR", "referrer_id": "bob"}
    file.write_text(json.dumps({**row, "amount_minor": 1}) + "\n")
    return str(file)


def log_ends(up: Running) -> dict[int, int]:
    address = json.loads((up.directory / "stack.json").read_text())["kafka"]
    return asyncio.run(kafka.log_ends(Brokers(address), ACTIVITY))


def test_what_the_broker_has_and_the_archive_has_not_is_neither_accepted_nor_read_nor_forgotten(tmp_path):
    """The archiver is suspended: records are in the broker only. Then everything is killed."""
    with stack(tmp_path) as up:
        (tmp_path / "one.yaml").write_text(BRAND)
        (tmp_path / "two.yaml").write_text(PROGRAM.format("two"))
        up.run("apply", str(tmp_path / "one.yaml"))
        up.run("publish", "purchases", buy(tmp_path, 1))
        up.run("wait")
        before, ledger = log_ends(up), up.json("status")
        os.kill(up.part("archiver"), signal.SIGSTOP)
        asked = [
            subprocess.Popen([*COMMAND, *args, "--data-dir", str(tmp_path)], env=ENVIRONMENT, stdout=subprocess.PIPE)
            for args in (("publish", "purchases", buy(tmp_path, 2)), ("apply", str(tmp_path / "two.yaml")))
        ]
        until(lambda: sum(log_ends(up).values()) >= sum(before.values()) + 5)  # a purchase, a definition on each
        time.sleep(1)  # for whoever would take it
        after = up.json("status")
        assert after["activity"]["positions"] == ledger["activity"]["positions"]  # the worker has read nothing of it
        assert after["ledger"]["outbox"] < after["ledger"]["position"]  # the definition is not taken for sent
        assert [process.poll() for process in asked] == [None, None]  # and nothing was accepted
        up.kill()
        for process in asked:
            process.kill()
            assert process.communicate()[0] == b""
    refused = command("up", "--data-dir", str(tmp_path), "--port", str(free_port()))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "--resume" in refused.stderr
    assert "--fresh" in refused.stderr
    with stack(tmp_path, "--resume") as up:
        up.run("wait")
        assert (up.json("balance", "acme", "ann")["active"], up.json("balance", "acme", "bob")["active"]) == (50, 7)
        assert sum(log_ends(up).values()) == sum(before.values()) + 4  # the definition was sent again, on each
        up.run("publish", "purchases", buy(tmp_path, 1))
        up.run("publish", "purchases", buy(tmp_path, 2))
        up.run("wait")
        assert (
            up.json("balance", "acme", "ann")["active"] == 50 + 2 * 50
        )  # the first once, the second in both campaigns
        up.run("replay", "verify")
