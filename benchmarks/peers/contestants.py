"""Who takes part, and one run of one of them: its measured line, and its counts beside the recount."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from benchmarks.peers import prepare

ROOT: Final = Path(__file__).parents[2]
MOST_SECONDS: Final = 600
"""After which a run is given up."""
FAUST_RECORDS: Final = 40_000
QUIX_RECORDS: Final = 150_000
"""The slow ones get only the first records of the workload."""


STAGE: Final = "Groundswell's stage"
WHOLE: Final = "Groundswell's stage, every field decoded"
SHARED: Final = "Groundswell's stage, two workers"
WORKER: Final = "Groundswell's whole worker"
WORKERS_TOGETHER: Final = "Groundswell's whole worker, two processes"
RECOVERY: Final = "Groundswell's stage, recovery of its panes"


class Failed(Exception):
    """A subject that died, or counted wrong."""


class Subject(NamedTuple):
    """One program of the contest."""

    name: str
    command: list[str]
    most_records: int | None = None
    counts: bool = True
    """Whether it has counts to check."""


class Measured(NamedTuple):
    """What a subject said of itself."""

    subject: str
    records: int
    seconds: float
    cpu_seconds: float
    rss_mb: float


class Log(NamedTuple):
    """A topic and what must be counted on it."""

    topic: str
    records: int
    expected: Counter[str]


def subjects() -> list[Subject]:
    """All of them, what they need made ready."""
    python, streams = prepare.python(), prepare.kafka_streams()

    def module(name: str) -> list[str]:
        return [*python, "-m", f"benchmarks.peers.{name}"]

    def our(name: str) -> list[str]:
        return [*prepare.ours(), "-m", f"benchmarks.peers.{name}"]

    return [
        Subject("aiokafka, decode only", module("aiokafka_read"), counts=False),
        Subject(STAGE, our("stage_counts")),
        Subject(WHOLE, ["env", "DECODE=all", *our("stage_counts")]),
        Subject(SHARED, our("stage_shared"), counts=False),
        Subject(WORKER, our("whole_worker"), counts=False),
        Subject(WORKERS_TOGETHER, ["env", "WORKERS=2", *our("whole_worker")], counts=False),
        Subject(RECOVERY, our("stage_recovery"), counts=False),
        Subject("Kafka Streams, in memory", [*streams, "--store", "memory"]),
        Subject("Kafka Streams, RocksDB", [*streams, "--store", "rocksdb"]),
        Subject("Quix Streams, state in RocksDB", module("quix_state"), QUIX_RECORDS),
        Subject("Faust, two tables", module("faust_tables"), FAUST_RECORDS),
        Subject("Faust, recovery of its tables", module("faust_recovery"), FAUST_RECORDS),
    ]


def measure(subject: Subject, bootstrap: str, log: Log) -> Measured:
    """One run in a fresh directory. Raises `Failed` when it dies or any of its counts is not the expected one."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        dump = directory / "counts.txt"
        command = [*subject.command, "--bootstrap", bootstrap, "--topic", log.topic, "--records", str(log.records)]
        if subject.counts:
            command += ["--dump", str(dump)]
        measured = Measured(**_answer(subject.name, command, directory))
        if subject.counts:
            _check(subject.name, _counts(dump), log.expected)
    return measured


def _answer(name: str, command: list[str], directory: Path) -> dict[str, Any]:
    """The JSON of its last line."""
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failed(f"{name} did not end within {MOST_SECONDS} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
        process.wait()
    if process.returncode or not out.strip():
        raise Failed(f"{name} ended with exit code {process.returncode}:\n{err[-3000:]}")
    answer: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return answer


def _counts(dump: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    with dump.open(encoding="utf-8") as lines:
        for line in lines:
            key, _, count = line.partition("\t")
            counts[key] += int(count)
    return counts


def _check(name: str, counts: Counter[str], expected: Counter[str]) -> None:
    if counts == expected:
        return
    wrong = [key for key in counts.keys() | expected.keys() if counts[key] != expected[key]]
    first = ", ".join(f"{key} {counts[key]} for {expected[key]}" for key in sorted(wrong)[:3])
    raise Failed(f"{name} counted {len(wrong):,} of {len(expected):,} panes wrong: {first}")
