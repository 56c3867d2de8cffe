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
QUIET_SECONDS = 60.0
"""How long what is made in a quiet process may wait for a collection. By number alone it took a worker without input
two hours and some hundred megabytes: closed connections are cycles."""


def set_up(collect_after: int) -> None:
    """`collect_after`: objects made since the last collection, less those that are gone, that bring the next one."""
    gc.freeze()
    gc.set_threshold(collect_after, 20, 100)
    sys.setswitchinterval(SWITCH_SECONDS)
    threading.Thread(target=_collect_what_is_new, name="collect", daemon=True).start()


def _collect_what_is_new() -> None:
    while True:
        time.sleep(QUIET_SECONDS)
        gc.collect(0)
