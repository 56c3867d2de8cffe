"""What the side-by-side figures are compared for: subject, peer, and the ratio that is aimed at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from benchmarks.contest import Row as Result
from benchmarks.peers.contestants import RECOVERY, SHARED, STAGE, WHOLE, WORKER, WORKERS_TOGETHER

if TYPE_CHECKING:
    from benchmarks.peers.run import Row

FAUST: Final = "Faust, two tables"
FAUST_RECOVERY: Final = "Faust, recovery of its tables"
MEMORY: Final = "Kafka Streams, in memory"
ROCKSDB: Final = "Kafka Streams, RocksDB"
QUIX: Final = "Quix Streams, state in RocksDB"
CEILING: Final = "aiokafka, decode only"

BY_SPEED: Final = (
    (STAGE, FAUST, 45.0),
    (STAGE, QUIX, 5.0),
    (STAGE, ROCKSDB, 2.5),
    (STAGE, MEMORY, 1.8),
    (SHARED, ROCKSDB, 2.5),
    (SHARED, MEMORY, 1.8),
    (STAGE, CEILING, 0.5),
    (WHOLE, CEILING, 0.5),
    (WORKER, FAUST, 8.0),
    (WORKERS_TOGETHER, FAUST, None),
    (WORKERS_TOGETHER, WORKER, None),
    (RECOVERY, FAUST_RECOVERY, 20.0),
    (SHARED, STAGE, None),
)
BY_CPU: Final = ((STAGE, ROCKSDB, 3.0), (STAGE, MEMORY, 3.0))


def ratios(rows: Sequence[Row]) -> list[Result]:
    """The rows of `results.json`, of every workload whose subject and peer were both exact."""
    found = {(row.workload, row.subject): row for row in rows if row.exact}
    made: list[Result] = []
    for workload in dict.fromkeys(row.workload for row in rows):
        for subjects, unit, value in ((BY_SPEED, "records/s", _speed), (BY_CPU, "records per CPU second", _frugality)):
            for subject, peer, target in subjects:
                ours, theirs = found.get((workload, subject)), found.get((workload, peer))
                if ours is not None and theirs is not None:
                    made.append(_result(workload, ours, theirs, target, unit, value(ours), value(theirs)))
    return made


def _speed(row: Row) -> float:
    return row.per_second


def _frugality(row: Row) -> float:
    return 1e6 / row.cpu_seconds_per_million


def _result(
    workload: str, ours: Row, theirs: Row, target: float | None, unit: str, value: float, other: float
) -> Result:
    return {
        "name": f"side by side on Apache Kafka, {workload}",
        "subject": ours.subject,
        "peer": theirs.subject,
        "ratio": round(value / other, 2),
        "target": target if workload == "sparse" else None,
        "median": round(value, 1),
        "peer_median": round(other, 1),
        "unit": unit,
        "runs": ours.runs,
    }
