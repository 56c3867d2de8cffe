"""How a role's process is set up, in processes of their own."""

from __future__ import annotations

import subprocess
import sys

QUIET = """
import gc, time, weakref
from service import process

class Node:
    pass

process.QUIET_SECONDS = 0.1
process.set_up()
node = Node()
node.itself = node
left = weakref.ref(node)
del node
deadline = time.monotonic() + 20
while left() is not None and time.monotonic() < deadline:
    time.sleep(0.05)
print(left() is None, gc.get_threshold())
"""


def test_what_a_quiet_process_leaves_is_collected_by_the_clock() -> None:
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "True (10000, 100, 20)"
