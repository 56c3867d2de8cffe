"""What the peers need, made on first use: a Python environment of their own and the Kafka Streams program."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

from tests.real.kafka import CannotStart

HERE: Final = Path(__file__).parent
KEPT: Final = HERE.parents[1] / ".kafka"
"""Beside the broker's jars, for the next time."""
JAVA_HEAP: Final = ("-Xms1g", "-Xmx2g")


def python() -> list[str]:
    """The command that runs Python where the peers' requirements are installed."""
    requirements, home = HERE / "requirements.txt", KEPT / "peers"
    program, installed = home / "bin" / "python", home / "installed.txt"
    wanted = requirements.read_text(encoding="utf-8")
    if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
        venv.create(home, clear=True, with_pip=True)
        pip = [str(program), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _must([*pip, "--requirement", str(requirements)], "the peers' Python packages could not be installed")
        installed.write_text(wanted, encoding="utf-8")
    return [str(program)]


def kafka_streams() -> list[str]:
    """The command that runs the Kafka Streams peer, compiled when its source is newer."""
    project, built = HERE / "kafka_streams", KEPT / "streams-peer"
    mvn = ["mvn", "-q", "-B", "-f", str(project / "pom.xml"), "compile", "dependency:copy-dependencies"]
    _must([*mvn, "-DincludeScope=runtime"], "Maven could not build the Kafka Streams peer")
    path = f"{built / 'classes'}:{built / 'dependency'}/*"
    return ["java", *JAVA_HEAP, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", path, "groundswell.PaneCounts"]


def ours() -> list[str]:
    """The command that runs Python as this process does."""
    return [sys.executable]


def _must(command: list[str], failed: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotStart(f"{failed}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
