"""A real Apache Kafka 4.1 broker (KRaft, one process) for tests and benchmarks; its jars come from Maven Central."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

HERE = Path(__file__).parent
JARS = HERE.parents[1] / ".kafka" / "jars"
CLUSTER = "Z3JvdW5kc3dlbGwtdGVzdA"
START_SECONDS = 60


class CannotStart(Exception):
    """Something that Apache Kafka needs is not there."""


def jars() -> Path:
    """The directory of Kafka's jars, fetched on first use. Raises `CannotStart` without Java or Maven."""
    if (JARS / "complete").exists():
        return JARS
    for program, package in (("java", "a Java 17 runtime (Debian: default-jre-headless)"), ("mvn", "Maven")):
        if shutil.which(program) is None:
            raise CannotStart(f"Apache Kafka needs {package}: `make test-real` installs it where it may")
    command = ["mvn", "-q", "-B", "-f", str(HERE / "kafka-pom.xml"), "dependency:copy-dependencies"]
    done = subprocess.run([*command, f"-DoutputDirectory={JARS}"], capture_output=True, text=True)
    if done.returncode:
        raise CannotStart(f"Maven could not fetch Kafka's jars:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    (JARS / "complete").touch()
    return JARS


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Kafka:
    """One broker with its data in `directory`; it can be killed and started again on the same data and port."""

    directory: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    @classmethod
    def start(cls, directory: Path, *, heap_mb: int = 700) -> Self:
        """Format `directory`, start a broker on it and wait until it answers."""
        broker = cls(directory)
        directory.mkdir(parents=True, exist_ok=True)
        settings = broker.properties(free_port())
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        (directory / "server.properties").write_text(text)
        java = broker._java(heap_mb)
        file = str(directory / "server.properties")
        formatting = [*java, "kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER, "-c", file]
        formatting += broker.format_options()
        done = subprocess.run(formatting, capture_output=True, text=True)
        if done.returncode:
            raise CannotStart(f"Kafka could not format {directory}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        broker.restart(heap_mb=heap_mb)
        return broker

    def format_options(self) -> list[str]:
        """More arguments for the program that formats the data directory."""
        return []

    def properties(self, controller: int) -> dict[str, object]:
        """The broker's settings; `controller` is the port of its controller."""
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.directory / "data",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "auto.create.topics.enable": "false",
            "broker.heartbeat.interval.ms": 500,
            "broker.session.timeout.ms": 3_000,  # a broker that was killed is let back in after this
            "log.cleaner.dedupe.buffer.size": 33_554_432,
        }

    def _java(self, heap_mb: int) -> list[str]:
        log4j = self.directory / "log4j2.properties"
        log4j.write_text(
            "rootLogger.level=warn\nrootLogger.appenderRef.a.ref=A\nappender.a.type=Console\nappender.a.name=A\n"
            "appender.a.layout.type=PatternLayout\nappender.a.layout.pattern=%d %p %m (%c)%n\n"
        )
        return [
            "java",
            f"-Xmx{heap_mb}m",
            "-XX:+UseG1GC",
            f"-Dlog4j2.configurationFile={log4j}",
            "-cp",
            f"{jars()}/*",
        ]

    def restart(self, *, heap_mb: int = 700) -> None:
        """Start the broker on its data and wait until it answers."""
        log = (self.directory / "kafka.log").open("ab")
        self.process = subprocess.Popen(
            [*self._java(heap_mb), "kafka.Kafka", str(self.directory / "server.properties")],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = (self.directory / "kafka.log").read_text(errors="replace")[-3000:]
                raise CannotStart(f"Kafka did not start within {START_SECONDS} s:\n{said}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL, as a machine that loses its process would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """An orderly stop; killed when that takes long."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, number)
            self.process.wait(20)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
        self.process = None


def _answers(port: int) -> bool:
    """Whether the broker serves requests: ApiVersions (version 0) gets an answer."""
    request = b"\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(len(request).to_bytes(4, "big") + request)
            return len(connection.recv(4)) == 4
    except OSError:
        return False
