"""The Faust app of the stream worker: one agent on one input topic that arrives in chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faust import SASLCredentials, SSLCredentials
from faust.serializers.codecs import Codec
from sqlalchemy import Engine

from streams.connection import Brokers
from streams.ownership import FoldMaker, StageConfig
from streams.stage import Stage
from streams.transport import SCHEME, ChunkedApp

GROUP = "groundswell"
FETCH_RECORDS = 5_000
"""Records in one poll over all partitions; a chunk is what one partition has of them."""
REQUEST_SECONDS = 90.0
"""How long the client waits for an answer; Faust wants it no shorter than a session."""
LONGEST_PAUSE_SECONDS = 7 * 86_400.0
"""How long all partitions may be paused (the database away) before the client leaves its group."""


class _AsIs(Codec):  # type: ignore[misc]
    def _dumps(self, obj: Any) -> Any:
        return obj

    def _loads(self, s: Any) -> Any:
        return s


def make_app(
    engine: Engine,
    make_fold: FoldMaker,
    config: StageConfig,
    partitions: int,
    datadir: Path,
    *,
    session_seconds: float = 6.0,
    fetch_records: int = FETCH_RECORDS,
) -> tuple[ChunkedApp, Stage]:
    """The app, ready for `faust.Worker`. `session_seconds`: how long a silent worker keeps its partitions."""
    app = ChunkedApp(
        config.group,
        broker=f"{SCHEME}://{config.brokers.servers.replace(',', f';{SCHEME}://')}",
        broker_credentials=_credentials(config.brokers),
        store="memory://",
        datadir=str(datadir),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        topic_partitions=partitions,
        stream_wait_empty=False,
        stream_buffer_maxsize=1 << 20,  # the transport itself bounds what waits, by fetches
        broker_session_timeout=session_seconds,
        broker_request_timeout=max(REQUEST_SECONDS, session_seconds),
        broker_rebalance_timeout=session_seconds,
        broker_heartbeat_interval=session_seconds / 3,
        broker_max_poll_interval=LONGEST_PAUSE_SECONDS,
        broker_max_poll_records=fetch_records,
        consumer_max_fetch_size=4 << 20,
    )
    stage = Stage(app, engine, make_fold, config)
    topic = app.topic(config.topic, value_serializer=_AsIs(), key_serializer="raw", partitions=partitions, acks=False)

    @app.agent(topic)  # type: ignore[untyped-decorator]
    async def activity(stream: Any) -> None:
        async for event in stream.events():
            await stage.take(event.message.partition, event.value)

    return app, stage


def _credentials(brokers: Brokers) -> Any:
    """How Faust's own clients are let in; None in the clear."""
    if brokers.sasl is None:
        return brokers.tls and SSLCredentials(brokers.tls)
    sasl = brokers.sasl
    return SASLCredentials(
        username=sasl.username, password=sasl.password, mechanism=sasl.mechanism, ssl_context=brokers.tls
    )
