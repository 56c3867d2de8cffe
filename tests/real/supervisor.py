"""Processes of a role that are started again when they end, as systemd would, and what became of each of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_STOPPED = re.compile(r"^(?:worker|projector) stopped: (\w+): (.*)$", re.MULTILINE)
EVERY_SECONDS = 0.05


@dataclass
class Exit:
    """One process that ended."""

    slot: int
    code: int
    reason: str
    """`killed` or `stopped` (we did it), else the type of what ended it."""
    message: str
    at: float


@dataclass
class Worker:
    """One process of a slot."""

    slot: int
    directory: Path
    process: subprocess.Popen[bytes]
    ours: str = ""
    """What we did to end it."""

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self.directory / "log").read_text(errors="replace")

    @property
    def name(self) -> str:
        """The start of the name under which it owns partitions; empty before it has one."""
        found = list((self.directory / "data" / "faust").glob("*"))
        return found[0].name if found else ""

    @property
    def memory_mb(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


@dataclass
class Supervisor:
    """Keeps as many processes of its role as it was told to; they are called workers here."""

    role: str
    directory: Path
    environment: Mapping[str, str]
    restarts: bool = True
    """Whether a worker that ended by itself is started again."""
    exits: list[Exit] = field(default_factory=list)
    workers: dict[int, Worker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._count = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def scale(self, count: int) -> None:
        """Have `count` workers: start what is missing, end the last ones in good order."""
        with self._lock:
            for slot in range(count):
                if slot not in self.workers:
                    self._start(slot)
            surplus = [self.workers.pop(slot) for slot in sorted(self.workers) if slot >= count]
        for worker in surplus:
            self._end(worker, signal.SIGTERM, "stopped")

    def kill(self, slot: int) -> Worker:
        """SIGKILL a slot's process; the watch starts another one. Returns the one that is no more."""
        while True:
            with self._lock:
                worker = self.workers.get(slot)
                if worker is not None and worker.process.poll() is None:
                    worker.ours = "killed"
                    worker.process.send_signal(signal.SIGKILL)
                    break
            time.sleep(EVERY_SECONDS)  # it has just ended by itself, and is started again
        worker.process.wait()
        return worker

    def freeze(self, slot: int) -> Worker:
        """SIGSTOP: the process is there, and does nothing."""
        self.workers[slot].process.send_signal(signal.SIGSTOP)
        return self.workers[slot]

    def thaw(self, worker: Worker) -> None:
        """SIGCONT."""
        worker.process.send_signal(signal.SIGCONT)

    def reasons(self) -> Counter[str]:
        """How often workers ended, by reason."""
        return Counter(one.reason for one in self.exits)

    def unasked(self) -> list[Exit]:
        """Those that ended by themselves."""
        return [one for one in self.exits if one.reason not in ("killed", "stopped")]

    def close(self) -> None:
        """End all workers in good order."""
        self._over.set()
        self._thread.join()
        for worker in self.workers.values():
            worker.process.send_signal(signal.SIGCONT)
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        for worker in self.workers.values():
            self._end(worker, signal.SIGTERM, "stopped")
        self.workers = {}

    def _start(self, slot: int) -> None:
        self._count += 1
        directory = self.directory / f"{self.role}-{self._count:03}-slot-{slot}"
        directory.mkdir(parents=True)
        environment = {**self.environment, "GROUNDSWELL_DATA_DIR": str(directory / "data")}
        with (directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "service", self.role], stdout=log, stderr=log, env=environment
            )
        self.workers[slot] = Worker(slot, directory, process)

    def _end(self, worker: Worker, number: signal.Signals, ours: str) -> None:
        worker.ours = worker.ours or ours
        if worker.process.poll() is None:
            os.kill(worker.process.pid, number)
        try:
            worker.process.wait(20)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        self._note(worker)

    def _note(self, worker: Worker) -> None:
        said = _STOPPED.findall(worker.log)
        reason, message = said[-1] if said else (worker.ours or f"exit {worker.process.returncode}", "")
        code = worker.process.returncode
        self.exits.append(Exit(worker.slot, code, reason, message or worker.log[-2_000:], time.monotonic()))

    def _watch(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            with self._lock:
                for slot, worker in list(self.workers.items()):
                    if worker.process.poll() is None:
                        continue
                    self._note(worker)
                    del self.workers[slot]
                    if self.restarts or worker.ours == "killed":
                        self._start(slot)
