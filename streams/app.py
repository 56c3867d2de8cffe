"""The Faust app of the stream worker: one agent on the one activity log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faust.serializers.codecs import Codec
from sqlalchemy import Engine

from aggregates.ledger import Ledger
from schemas.topics import ACTIVITY
from streams.stage import Stage, StageConfig
from streams.transport import SCHEME, ChunkedApp

GROUP = "groundswell"
FETCH_RECORDS = 5_000
"""Records in one poll over all partitions; a chunk is what one partition has of them."""


class _AsIs(Codec):  # type: ignore[misc]
    def _dumps(self, obj: Any) -> Any:
        return obj

    def _loads(self, s: Any) -> Any:
        return s


def make_app(
    engine: Engine, ledger: Ledger, config: StageConfig, datadir: Path, *, session_seconds: float = 6.0
) -> tuple[ChunkedApp, Stage]:
    """The app, ready for `faust.Worker`. `session_seconds`: how long a silent worker keeps its partitions."""
    app = ChunkedApp(
        GROUP,
        broker=f"{SCHEME}://{config.bootstrap.replace(',', f';{SCHEME}://')}",
        store="memory://",
        datadir=str(datadir),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        topic_partitions=config.partitions,
        stream_wait_empty=False,
        stream_buffer_maxsize=8,
        broker_session_timeout=session_seconds,
        broker_rebalance_timeout=session_seconds,
        broker_heartbeat_interval=session_seconds / 3,
        broker_max_poll_records=FETCH_RECORDS,
        consumer_max_fetch_size=4 << 20,
    )
    stage = Stage(app, engine, ledger, config)
    topic = app.topic(
        ACTIVITY, value_serializer=_AsIs(), key_serializer="raw", partitions=config.partitions, acks=False
    )

    @app.agent(topic)  # type: ignore[untyped-decorator]
    async def activity(stream: Any) -> None:
        async for event in stream.events():
            await stage.take(event.message.partition, event.value)

    return app, stage
