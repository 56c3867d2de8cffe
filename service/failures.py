"""Errors that a person can act on: each with its one line and the exit code of a command that meets it."""

from __future__ import annotations

from typing import Final

from service import database_refusal
from service.problems import COULD_NOT_RUN, REFUSED, Refusal, Unusable

_SAYS: Final = {
    "service.feeds.reading.InputError": COULD_NOT_RUN,
    "streams.outputs.LogLost": COULD_NOT_RUN,
    "aggregates.database.Unavailable": COULD_NOT_RUN,
    "aggregates.events.UnknownEvent": COULD_NOT_RUN,
    "projections.upkeep.runner.NewerProjection": COULD_NOT_RUN,
    "projections.upkeep.runner.NotPrepared": COULD_NOT_RUN,
    "aggregates.definitions.DefinitionError": REFUSED,
}
"""Errors whose message is the line to print, by name (so that none is imported before it is needed) → exit code."""


_OF_DATABASES: Final = {
    f"{module}.{kind}"
    for module in ("eventsourcing.persistence", "sqlite3")
    for kind in ("InterfaceError", "OperationalError", "DatabaseError", "ProgrammingError")
}
"""Errors of a database that comes not through SQLAlchemy."""


def failure(error: BaseException) -> tuple[int, str] | None:
    """The exit code and the one line of an error a person can act on; None for one that is a defect of ours."""
    if isinstance(error, Unusable):
        return COULD_NOT_RUN, str(error)
    if isinstance(error, Refusal):
        return error.kind.exit_code, f"{error.detail} [{error.code}]"
    name = f"{type(error).__module__}.{type(error).__name__}"
    if name in _SAYS:
        return _SAYS[name], str(error)
    if name.startswith("sqlalchemy.exc.") or name in _OF_DATABASES:
        return COULD_NOT_RUN, database_refusal.line(error)
    if name.startswith("aiokafka.errors."):
        return COULD_NOT_RUN, f"Kafka does not do what was asked: {error}"
    if isinstance(error, OSError):
        about = f"{error.filename}: " if error.filename else ""
        return COULD_NOT_RUN, f"{about}{error.strerror or error}"
    return None
