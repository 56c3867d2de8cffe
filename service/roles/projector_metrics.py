"""The projector's metrics, each with a sentence on what it means; read from the database when they are asked for."""

from __future__ import annotations

import sqlalchemy as sa
from prometheus_client import Gauge

from projections import queries, registry
from projections.upkeep.runner import positions
from service import outbound, outbox
from service.positions import panes_behind


class _Metrics:
    """All of them; one instance a process. A projector that stands by tells the same of the one that is at work."""

    def __init__(self) -> None:
        self.leads = Gauge("groundswell_projector_leads", "1 while this projector is at work, 0 while it stands by.")
        self.database_up = Gauge(
            "groundswell_projector_database_up", "1 when the positions could be read for this scrape, else 0."
        )
        self.ledger = Gauge("groundswell_projector_ledger_position", "Last notification id of the ledger.")
        self.position = Gauge(
            "groundswell_projector_position", "Last notification id that a read model includes.", ["projection"]
        )
        self.behind = Gauge(
            "groundswell_projector_behind_events", "Ledger events that a read model does not include yet.",
            ["projection"],
        )  # fmt: skip
        self.sent = Gauge(
            "groundswell_projector_sent_position",
            "Last notification id whose records are sent: what follows from it to the activity log (activity), and "
            "entries, balances and standings to their topics (topics).",
            ["outbox"],
        )
        self.unsent = Gauge(
            "groundswell_projector_unsent_events", "Ledger events whose records are not all sent yet.", ["outbox"]
        )
        self.panes = Gauge(
            "groundswell_projector_behind_records",
            "Records of a pane topic that the engagement tables do not include yet.",
            ["topic", "partition"],
        )

    def read(self, engine: sa.Engine, *, leads: bool) -> None:
        """Bring them up to date; a database that does not answer leaves the positions as they were."""
        self.leads.set(leads)
        try:
            with engine.connect() as connection:  # one instant, so that nothing is behind by less than none
                last = queries.ledger_position(connection)
                at = positions(connection, registry.LEDGER)
                sent = {name: outbox.position(connection, name) for name in (outbox.NAME, outbound.NAME)}
                panes = panes_behind(connection)
        except sa.exc.SQLAlchemyError:
            self.database_up.set(0)
            return
        self.database_up.set(1)
        self.ledger.set(last)
        for name, position in at.items():
            self.position.labels(name).set(position)
            self.behind.labels(name).set(last - position)
        for name, position in sent.items():
            self.sent.labels(name).set(position)
            self.unsent.labels(name).set(last - position)
        for (topic, partition), records in panes.items():
            self.panes.labels(topic, str(partition)).set(records)


METRICS = _Metrics()
