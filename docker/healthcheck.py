"""Asks a role in its own container how it is; ends with 0 when it answers 200, else with 1 and a line that says why.

    python healthcheck.py [ROLE] [PATH]

ROLE is `api`, `worker`, `projector`, or `up` or `demo`, which are all of them; by default that of the container's first
process. PATH is `/healthz` (it lives) by default, or `/readyz`. Only the standard library: this runs every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys
from itertools import pairwise
from pathlib import Path

SECONDS = 4
PORTS = {
    "api": ("GROUNDSWELL_PORT", "8080"),
    "up": ("GROUNDSWELL_PORT", "8080"),
    "demo": ("GROUNDSWELL_PORT", "8080"),
    "worker": ("GROUNDSWELL_METRICS_PORT", "9464"),
    "projector": ("GROUNDSWELL_METRICS_PORT", "9464"),
}
"""Role → the variable with its port, and the port when that is not set."""


def role_of(words: list[str]) -> str:
    """The role that a process was started as, wherever in its arguments that stands. Raises ValueError for none."""
    for word in words:
        if word in PORTS:
            return word
    raise ValueError(f"no role in {' '.join(words).strip()!r}: name one of {', '.join(PORTS)}")


def port_of(role: str, words: list[str]) -> int:
    """The port that a process's arguments name with `--port`, else the one of the environment. Raises ValueError for
    what is no number."""
    for word, after in pairwise([*words, ""]):
        option, _, value = word.partition("=")
        if option == "--port":
            return int(value or after)
    variable, default = PORTS[role]
    return int(os.environ.get(variable) or default)


def check(role: str, port: int, path: str) -> str:
    """What is wrong, in one line; empty when the role answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(500).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"{role} on port {connection.port}: {type(error).__name__}: {error}"
    finally:
        connection.close()
    return "" if answer.status == 200 else f"{role} answers {answer.status}: {body}"


def main(arguments: list[str]) -> int:
    """The exit code."""
    try:
        first = [] if arguments else Path("/proc/1/cmdline").read_text(errors="replace").split("\0")
        role = arguments[0] if arguments else role_of(first)
        if role not in PORTS:
            raise ValueError(f"{role!r} is no role: name one of {', '.join(PORTS)}")
        wrong = check(role, port_of(role, first), arguments[1] if len(arguments) > 1 else "/healthz")
    except (ValueError, OSError) as error:
        wrong = str(error)
    if wrong:
        print(wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
