"""How far the projector is: each read model, each outbox and the engagement tables, and what they are behind."""

from __future__ import annotations

import json
from pathlib import Path

import sqlalchemy as sa
from prometheus_client import REGISTRY

from aggregates.database import open_database
from projections import registry
from projections.upkeep.runner import POSITIONS
from schemas.topics import WINDOWS
from service import outbound, outbox
from service.outbox import SentPosition
from service.roles.projector_metrics import METRICS
from streams.readstate_tables import POSITIONS as FOLDED


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"groundswell_projector_{name}", labels)


def test_what_is_behind_is_told_by_read_model_outbox_and_partition(settings):
    engine = open_database(settings.database)
    SentPosition(engine, outbox.NAME).move(0, 5)
    SentPosition(engine, outbound.NAME)
    with engine.begin() as connection:
        connection.execute(sa.update(POSITIONS).where(POSITIONS.c.name == "standings").values(position=2))
        connection.execute(sa.update(FOLDED).values(outputs=json.dumps({WINDOWS: 9})))
        last = connection.execute(sa.select(sa.func.max(POSITIONS.c.position))).scalar_one()
    METRICS.read(engine, leads=True)
    engine.dispose()
    assert (value("leads"), value("database_up"), value("ledger_position")) == (1, 1, last)
    for projection in registry.LEDGER:
        at = 2 if projection.name == "standings" else last
        assert value("position", projection=projection.name) == at
        assert value("behind_events", projection=projection.name) == last - at
    assert [value("sent_position", outbox=name) for name in (outbox.NAME, outbound.NAME)] == [5, 0]
    assert [value("unsent_events", outbox=name) for name in (outbox.NAME, outbound.NAME)] == [last - 5, last]
    assert value("behind_records", topic=WINDOWS, partition="0") == 7


def test_a_database_that_does_not_answer_is_told_and_breaks_nothing(tmp_path: Path):
    engine = open_database(f"sqlite:///{tmp_path / 'nothing.db'}")
    METRICS.read(engine, leads=False)
    engine.dispose()
    assert (value("leads"), value("database_up")) == (0, 0)
