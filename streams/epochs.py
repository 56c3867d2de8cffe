"""Which log a topic holds: its own, named by its id, or one that it continues because it was restored from an archive.

An epoch names the content of a log, so a topic that holds the same records at the same offsets has the same epoch.
Of the topics that workers write their state to, the id is kept alone: a topic made anew does not hold what was written.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from aggregates.database import insert_into

METADATA = sa.MetaData()
CONTINUED = sa.Table(
    "log_epochs",
    METADATA,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("found", sa.Text, primary_key=True, comment="start of the id of the topic that was filled"),
    sa.Column("epoch", sa.Text, nullable=False, comment="of the log that it was filled with"),
)
OUTPUTS = sa.Table(
    "output_topics",
    METADATA,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("found", sa.Text, nullable=False, comment="start of the id of the topic that is written to"),
)


def epoch_of(engine: sa.Engine, topic: str, found: str) -> str:
    """The epoch of the log in a topic whose id begins with `found`."""
    where = (CONTINUED.c.topic == topic) & (CONTINUED.c.found == found)
    with engine.connect() as connection:
        return connection.execute(sa.select(CONTINUED.c.epoch).where(where)).scalar_one_or_none() or found


def continue_log(engine: sa.Engine, topic: str, found: str, epoch: str) -> None:
    """Note that a new topic was filled with the records of the log `epoch`, at the offsets where they stood."""
    with engine.begin() as connection:
        row = {"topic": topic, "found": found, "epoch": epoch}
        connection.execute(insert_into(connection.dialect.name, CONTINUED).values(row).on_conflict_do_nothing())


def other_outputs(engine: sa.Engine, found: Mapping[str, str]) -> list[str]:
    """The output topics whose ids are not those that were written to; of one never written to, the id is noted."""
    if not found:
        return []
    with engine.begin() as connection:
        rows = [{"topic": topic, "found": name} for topic, name in sorted(found.items())]
        connection.execute(insert_into(connection.dialect.name, OUTPUTS).on_conflict_do_nothing(), rows)
        written = {row.topic: row.found for row in connection.execute(sa.select(OUTPUTS))}
    return [topic for topic, name in found.items() if written[topic] != name]


def written_outputs(engine: sa.Engine) -> dict[str, str]:
    """The ids of the output topics that were written to, by topic."""
    with engine.connect() as connection:
        return {row.topic: row.found for row in connection.execute(sa.select(OUTPUTS))}


def accept_outputs(connection: sa.Connection, found: Mapping[str, str]) -> None:
    """From now on the output topics are those with these ids: a worker that knows others of before is refused."""
    for topic, name in sorted(found.items()):  # in this order workers note them, too
        row = insert_into(connection.dialect.name, OUTPUTS).values(topic=topic, found=name)
        connection.execute(row.on_conflict_do_update(index_elements=["topic"], set_={"found": name}))
