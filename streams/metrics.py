"""The stream worker's metrics, each with a sentence on what it means."""

from __future__ import annotations

from prometheus_client import Counter, Histogram


class _Metrics:
    """All of them; one instance a process."""

    def __init__(self) -> None:
        self.records = Counter("groundswell_records_total", "Records of the activity log folded by this worker.")
        self.chunks = Counter(
            "groundswell_chunks_total",
            "Fetched chunks by outcome: done, stale (dropped after a seek) or gap (the partition was sought again).",
            ["outcome"],
        )
        self.written = Counter(
            "groundswell_output_records_total", "Records written to the output and dead-letter topics.", ["topic"]
        )
        self.flush_seconds = Histogram("groundswell_flush_seconds", "Time to make all owned partitions durable.")
        self.recovery_seconds = Histogram(
            "groundswell_recovery_seconds", "Time from an assignment to the first chunk that can be applied."
        )


METRICS = _Metrics()
