"""A real embedded stack for tests, started and used through the command line as a person would."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("GROUNDSWELL_")}
COMMAND = [sys.executable, "-m", "service"]
SEED, MEMBERS, DAYS = 11, 250, 14
SIMULATION = ("simulate", "--seed", str(SEED), "--members", str(MEMBERS), "--days", str(DAYS))
"""A community of 3,000 records."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `groundswell ARGUMENTS`."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=180, env=ENVIRONMENT, check=False, **options
    )


@dataclass
class Running:
    """A stack and how to talk to it."""

    directory: Path
    port: int
    process: subprocess.Popen[str]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, *arguments: str, code: int = 0, **options: Any) -> str:
        """Run a command on this stack; its standard output. The exit code must be `code`."""
        done = command(*arguments, "--data-dir", str(self.directory), **options)
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The JSON that a command prints."""
        return json.loads(self.run(*arguments, "--json", code=code))

    def digests(self) -> dict[str, tuple[int, str]]:
        """Rows and digest of every read model."""
        return {p["name"]: (p["rows"], p["digest"]) for p in self.json("digest")["projections"]}

    def start_worker(self) -> subprocess.Popen[bytes]:
        """A worker of our own, for a stack without one."""
        log = (self.directory / "own-worker.log").open("ab")
        worker = subprocess.Popen(
            [*COMMAND, "worker", "--data-dir", str(self.directory)], stdout=log, stderr=log, env=ENVIRONMENT
        )
        log.close()
        self.workers.append(worker)
        return worker

    def kill(self) -> None:
        """SIGKILL every process of the stack, at once."""
        parts = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        self.process.send_signal(signal.SIGSTOP)  # or it would see a part end, and stop the others in order
        for pid in [*parts.stdout.split(), str(self.process.pid)]:
            os.kill(int(pid), signal.SIGKILL)
        self.process.wait()

    def part(self, name: str) -> int:
        """The process id of a part of the stack."""
        pattern = f"service {name} --data-dir {self.directory}"
        found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=True)
        return int(found.stdout.split()[0])


@contextmanager
def stack(directory: Path, *options: str) -> Iterator[Running]:
    """`groundswell up` on `directory`, ready, and stopped at the end."""
    port = free_port()
    process = subprocess.Popen(
        [*COMMAND, "up", "--data-dir", str(directory), "--port", str(port), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert "Groundswell is up" in first, first + process.stdout.read()
    running = Running(directory, port, process)
    try:
        yield running
    finally:
        for worker in running.workers:
            worker.kill()
            worker.wait()
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        finally:
            process.kill()
            process.stdout.close()


def until(condition: Any, seconds: float = 60) -> None:
    """Wait for a condition with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)
