"""The stream worker's metrics, each with a sentence on what it means."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class _Metrics:
    """All of them; one instance a process."""

    def __init__(self) -> None:
        self.records = Counter(
            "groundswell_records_total", "Records of the activity log folded by this worker.", ["partition"]
        )
        self.chunks = Counter(
            "groundswell_chunks_total",
            "Fetched chunks by outcome: done, stale (dropped after a seek) or gap (the partition was sought again).",
            ["outcome"],
        )
        self.intake = Counter(
            "groundswell_intake_total",
            "Records by what the intake made of them: accepted, duplicate, late, not_live, definition, closing, or "
            "rejected_<reason> for a dead letter. Records folded again after a crash count again here.",
            ["outcome"],
        )
        self.partitions = Gauge("groundswell_partitions", "Partitions that this worker owns.")
        self.lag = Gauge(
            "groundswell_lag_records", "Records of the activity log behind the last one folded.", ["partition"]
        )
        self.panes = Gauge("groundswell_open_panes", "Panes in memory.", ["partition"])
        self.paused = Gauge(
            "groundswell_paused", "1 while a partition is paused because the ledger does not take its chunks.",
            ["partition"],
        )  # fmt: skip
        self.database_away = Gauge(
            "groundswell_database_away", "1 while the ledger's database does not answer for a partition.", ["partition"]
        )
        self.sought = Counter(
            "groundswell_lost_chunks_total", "Times a partition stood still behind what was fetched, and was sought."
        )
        self.written = Counter(
            "groundswell_output_records_total", "Records written to the output and dead-letter topics.", ["topic"]
        )
        self.fold_seconds = Histogram(
            "groundswell_fold_seconds", "Time to fold one chunk: intake and panes.", buckets=_SECONDS
        )
        self.ledger_seconds = Histogram(
            "groundswell_ledger_seconds", "Time to decide and store one chunk in the ledger, waiting for the database "
            "included.", buckets=_SECONDS,
        )  # fmt: skip
        self.flush_seconds = Histogram(
            "groundswell_flush_seconds", "Time to make all owned partitions durable.", buckets=_SECONDS
        )
        self.recovery_seconds = Histogram(
            "groundswell_recovery_seconds", "Time from an assignment to the first chunk that can be applied.",
            buckets=_SECONDS,
        )  # fmt: skip


METRICS = _Metrics()
