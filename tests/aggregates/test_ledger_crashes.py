"""Real processes that die by SIGKILL at each stage of a commit, or are suspended and lose their partition meanwhile:
afterwards the ledger is that of a clean run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from ledger_batches import SOURCE
from ledger_crashes import BATCH, ENDS_IN, FENCED, RECORDS, STAGES, work

from aggregates.ledger import Ledger

HERE = Path(__file__).parent


def test_kills_at_every_stage_of_a_commit_and_an_owner_that_was_fenced_leave_what_a_clean_run_leaves(
    opened, address, tmp_path
):
    program = [sys.executable, str(HERE / "ledger_crashes.py"), address]
    paths = os.pathsep.join((str(HERE), str(HERE.parents[1])))
    ran = subprocess.run(
        program, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    killed_at = dict.fromkeys(STAGES, -signal.SIGKILL)
    others = {"stopped": signal.SIGSTOP, "heir": 0, "suspended": FENCED}
    assert json.loads(ran.stdout) == {**killed_at, **others}

    clean = Ledger(f"sqlite:///{tmp_path / 'clean.db'}")
    clean.migrate()
    work(clean._database, "clean")
    killed = opened()
    expected = clean.notifications(0, 2 * RECORDS)
    assert len(expected) == RECORDS
    assert killed.notifications(0, 2 * RECORDS) == expected, "the same events with the same ids"
    assert killed.position(SOURCE) == clean.position(SOURCE) == RECORDS
    assert killed.store.spent([("acme", "spring")]) == clean.store.spent([("acme", "spring")])
    assert (len(STAGES) + 1) * ENDS_IN < RECORDS // BATCH, "no child found the work done"
    clean.close()
