"""What a database has against us, in one line that says what to do: no tables, no rights, no way in."""

from __future__ import annotations

import re
from typing import Final

_NO_WAY_IN: Final = re.compile(
    r"FATAL: +(.*authentication failed.*|no pg_hba\.conf entry.*|(?:role|database) .* does not exist"
    r"|.*not permitted to log in|permission denied for database.*)|.*(no password supplied)"
)
"""What PostgreSQL says to whom it does not let in: such a connection has no code of an error."""


def line(error: BaseException) -> str:
    """What a database error means to who runs the command or role."""
    cause = str(getattr(error, "orig", None) or error).splitlines()[0]
    why = reason(error)
    if why is not None:
        return f"the database does not let us in ({why}): check GROUNDSWELL_DATABASE"
    if "permission denied" in cause or "must be owner" in cause:
        return f"the database's user may not do that ({cause}): see PostgreSQL in docs/deployment.md"
    if "no such table" in cause or "does not exist" in cause:
        return f"the database has no tables of this release ({cause}): run `groundswell migrate` first"
    return f"the database does not answer ({cause}): check GROUNDSWELL_DATABASE"


def reason(error: BaseException) -> str | None:
    """Why the server does not let us in, which no waiting mends; None when it does, or is away."""
    for said in str(getattr(error, "orig", None) or error).splitlines():  # one for each address of the server
        found = _NO_WAY_IN.search(said)
        if found is not None:
            return (found[1] or found[2]).strip()
    return None
