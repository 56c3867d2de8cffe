"""Schemathesis, with every check, against the running API: what it documents it takes, and refuses the rest in kind.

`SCHEMATHESIS_EXAMPLES=500` makes it look longer (`make fuzz`). Live events never end, and have tests of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from serving import running

from service.api import campaigns
from service.reads import access
from service.settings import Settings

HERE = Path(__file__).parent
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "4")
PHASES = "examples,coverage,fuzzing"


def test_the_api_does_what_its_description_says(
    filled_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(access, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(campaigns, "SETTLEMENT_SECONDS", 0.1)
    # A description cannot say how many partitions there are: here each that it allows may be one.
    with running(filled_settings.model_copy(update={"partitions": 10**9})) as (_, port):
        done = subprocess.run(
            [
                *(str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(HERE / "schemathesis.toml")),
                *("run", f"http://127.0.0.1:{port}/openapi.json", "--no-color"),
                *("--checks", "all", "--mode", "all", "--phases", PHASES, "--exclude-path", "/v1/events"),
                *("--max-examples", EXAMPLES, "--seed", "1", "--generation-deterministic"),
                *("--continue-on-failure", "--suppress-health-check", "all"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,  # it keeps what it found there
        )
    assert done.returncode == 0, f"{done.stdout[-12_000:]}\n{done.stderr[-2_000:]}"
