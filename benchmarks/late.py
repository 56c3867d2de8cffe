"""`python -m benchmarks.late`: memory of one partition while two years come in, in order of time or by member.

Sorted by member nearly every record is late. Its panes are segments named by their block of 65,536 offsets, and leave
memory when the block has passed; beside them stand the ids of the last 500,000 offsets and the accounts in use.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from aggregates.database import open_database
from aggregates.ledger import Ledger, Source
from aggregates.parsing import parse
from aggregates.programs import content_of
from benchmarks.feed import PUBLISHED, LogRecord, intake
from schemas.codec import encode
from schemas.topics import ACTIVITY, activity_key
from streams import readstate
from streams.fold import ActivityFold
from streams.partition import Applied, Flush, Partition
from streams.rewards import Rewards
from streams.transport import Chunk

MEMBERS: Final = 4_000
DAYS: Final = 730
END: Final = PUBLISHED - 86_400_000
CHUNK: Final = 5_000
SOURCE: Final = Source(ACTIVITY, "late", 0)
BRAND: Final = {"brand": "acme", "plan": "pro", "timezone": "UTC", "currency": "EUR"}

app = typer.Typer(add_completion=False)


def records(count: int, by_member: bool) -> Iterator[LogRecord]:
    """The same interactions in one order or the other."""
    random = Random(7)
    each = count // MEMBERS
    stamps = [[END - random.randrange(DAYS * 86_400_000) for _ in range(each)] for _ in range(MEMBERS)]
    events = [(at, member) for member, times in enumerate(stamps) for at in sorted(times)]
    if not by_member:
        events.sort()
    for offset, (at, member) in enumerate(events):
        name = f"m{member:05d}"
        value: dict[str, Any] = {
            "event_id": f"e{member}-{at}-{offset}", "occurred_at": at, "brand_id": "acme", "member_id": name,
            "surface": "member_post", "kind": "like", "quantity": 1, "platform": "instagram",
            "post_id": f"p{member}-{at % 40}", "campaign_id": None, "actor_id": None, "followers": 900,
        }  # fmt: skip
        yield LogRecord(offset, PUBLISHED, activity_key("acme", name), encode("Interaction", value))


def resident_mb() -> int:
    """Of this process, now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20


async def curve(count: int, by_member: bool) -> list[tuple[int, int, int]]:
    """Records, open panes and megabytes above those at the start, every 50,000 records."""
    with TemporaryDirectory() as directory:
        database = f"sqlite:///{Path(directory) / 'late.db'}"
        engine, ledger = open_database(database), Ledger(database)
        readstate.create_tables(engine)
        ledger.migrate()
        state = readstate.take(engine, SOURCE, "w")
        state.programs.add(content_of(parse(BRAND, "benchmark")))
        rewards = Rewards(ledger, SOURCE, ledger.take(SOURCE, "w", 0), "w", lambda: PUBLISHED)
        fold = ActivityFold(SOURCE, intake(state), rewards, 86_400_000)
        part, points = Partition(SOURCE, 0, fold), []

        async def write(_flush: Flush) -> None:
            """The records end here."""

        async def save(flush: Flush) -> None:
            readstate.save(engine, SOURCE, flush.delta, "w", {})

        gc.collect()
        log, before, chunk = records(count, by_member), resident_mb(), list[LogRecord]()
        for record in log:
            chunk.append(record)
            if len(chunk) == CHUNK or record.offset == count - 1:
                outcome = part.apply(Chunk(part.next, 1, chunk), 1)
                if outcome is not Applied.DONE:
                    raise AssertionError(outcome)
                await part.finish_flush(part.begin_flush(), write, save)
                chunk = []
            if part.next % 50_000 == 0 and not chunk:
                points.append((part.next, len(fold.panes), resident_mb() - before))
        engine.dispose()
        ledger.close()
        return points


@app.command()
def late(
    count: Annotated[int, typer.Option("--records", help="Records, of 4,000 members.")] = 600_000,
    by_time: Annotated[bool, typer.Option("--by-time", help="In order of time instead.")] = False,
) -> None:
    """Print the memory curve of one partition."""
    table = Table("records", "open panes", "MB", title="in order of time" if by_time else "sorted by member")
    for at, panes, megabytes in asyncio.run(curve(count, not by_time)):
        table.add_row(f"{at:,}", f"{panes:,}", f"{megabytes:,}")
    Console().print(table)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.late")
