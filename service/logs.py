"""How the roles log: one plain line an event, to standard error. Commands for people stay quiet instead."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import MutableMapping
from typing import Any, Final

QUIET_SECONDS: Final = 10.0
"""So long after a line is said it is only counted when it comes again."""
KINDS: Final = 1_000
"""With so many lines in mind, those that may be said again are forgotten."""


class Sparing(logging.Filter):
    """Lets a line through, and the same line again only some seconds later, with how often it came in between.

    While a broker is away its clients say so a hundred times a second. A line is the same only when every word of it
    is. Safe to share between threads; a filter of the standard library's logging, and a processor of structlog.
    """

    def __init__(self) -> None:
        """Nothing was said yet."""
        super().__init__()
        self._lock = threading.Lock()
        self._said: dict[str, tuple[float, int]] = {}
        """Line → when it was said, and how often it came since then."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be said; then it says how many were not."""
        text = record.getMessage()
        unsaid = self.unsaid(f"{record.levelname} {record.name} {text}")
        if unsaid:
            record.msg, record.args = f"{text} ({unsaid:,} more of it since it was said)", ()
        return unsaid is not None

    def __call__(self, _logger: object, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """The event of structlog, with `unsaid` where some were not said. Raises its `DropEvent` for one of those.

        What is information says that something has changed, and is always said.
        """
        import structlog

        if level == "info":
            return event
        unsaid = self.unsaid(repr(sorted(event.items(), key=lambda item: item[0])))
        if unsaid is None:
            raise structlog.DropEvent
        if unsaid:
            event["unsaid"] = unsaid
        return event

    def unsaid(self, line: str) -> int | None:
        """How often this line came since it was said; None where it is not to be said again yet."""
        now = time.monotonic()
        with self._lock:
            at, unsaid = self._said.get(line, (-QUIET_SECONDS, 0))
            if now - at < QUIET_SECONDS:
                self._said[line] = at, unsaid + 1
                return None
            if len(self._said) >= KINDS:
                self._said = {kind: said for kind, said in self._said.items() if now - said[0] < QUIET_SECONDS}
            self._said[line] = now, 0
            return unsaid


def for_a_role() -> None:
    """Events and the libraries' warnings as plain lines on standard error, none of them over and over."""
    import structlog  # here, so that a command which says `--help` does not wait for it

    structlog.configure(
        processors=[
            Sparing(),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # whatever that is when something is said
    )
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(Sparing())
    logging.getLogger("aiokafka").setLevel(logging.WARNING)


def for_a_command() -> None:
    """Nothing of the libraries: what went wrong is said once, by us."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
