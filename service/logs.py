"""How the roles log: one plain line an event, to standard error. Commands for people stay quiet instead."""

from __future__ import annotations

import logging
import sys


def for_a_role() -> None:
    """Events and the libraries' warnings as plain lines on standard error."""
    import structlog  # here, so that a command which says `--help` does not wait for it

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # whatever that is when something is said
    )
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("aiokafka").setLevel(logging.WARNING)


def for_a_command() -> None:
    """Nothing of the libraries: what went wrong is said once, by us."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
