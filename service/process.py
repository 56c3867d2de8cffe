"""How a process that serves a role is set up: its threads take turns quickly, and little is collected in vain."""

from __future__ import annotations

import gc
import sys
import threading
import time
from typing import Final

SWITCH_SECONDS: Final = 0.0005
"""How long a thread may keep the interpreter from one that wants it, which each answer of the database does: with
Python's 5 ms a page of the ledger took three times as long to fold beside a burst of panes, and the ledger stored a
sixth less."""
COLLECT_AFTER: Final = 10_000, 100, 20
"""Objects made since the last collection, less those that are gone, that bring the next one; how many of these bring
one of all that they left, and so on. Nothing else runs meanwhile: 100,000 objects took 100 to 200 ms, which was most of
what the slowest readers waited for. With Python's 700, 10, 10 each round over what stays took up to a third of the
time."""
QUIET_SECONDS = 60.0
"""How long what is made in a quiet process may wait for a collection. By number alone it took a worker without input
two hours and some hundred megabytes: closed connections are cycles."""


def set_up() -> None:
    """Called once all that the role needs is imported, which is never looked at again."""
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    sys.setswitchinterval(SWITCH_SECONDS)
    threading.Thread(target=_collect_what_is_new, name="collect", daemon=True).start()


def _collect_what_is_new() -> None:
    while True:
        time.sleep(QUIET_SECONDS)
        _, rounds, larger = gc.get_count()
        gc.collect(2 if larger > COLLECT_AFTER[2] else 1 if rounds > COLLECT_AFTER[1] else 0)
