"""Which log a topic holds: its own, named by its id, or one that it continues because it was restored from an archive.

An epoch names the content of a log, so a topic that holds the same records at the same offsets has the same epoch.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

METADATA = sa.MetaData()
CONTINUED = sa.Table(
    "log_epochs",
    METADATA,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("found", sa.Text, primary_key=True, comment="start of the id of the topic that was filled"),
    sa.Column("epoch", sa.Text, nullable=False, comment="of the log that it was filled with"),
)


def epoch_of(engine: sa.Engine, topic: str, found: str) -> str:
    """The epoch of the log in a topic whose id begins with `found`."""
    where = (CONTINUED.c.topic == topic) & (CONTINUED.c.found == found)
    with engine.connect() as connection:
        return connection.execute(sa.select(CONTINUED.c.epoch).where(where)).scalar_one_or_none() or found


def continue_log(engine: sa.Engine, topic: str, found: str, epoch: str) -> None:
    """Note that a new topic was filled with the records of the log `epoch`, at the offsets where they stood."""
    with engine.begin() as connection:
        insert: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        row = {"topic": topic, "found": found, "epoch": epoch}
        connection.execute(insert(CONTINUED).values(row).on_conflict_do_nothing())
