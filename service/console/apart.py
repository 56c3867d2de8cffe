"""Long work in a process of its own, so that the API and every open page go on answering."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final, TypeVar

from projections.upkeep.verify import Progress
from service.problems import Unusable
from service.settings import Settings

T = TypeVar("T")
Work = Callable[[Settings, Sequence[str], Progress], T]
"""A function of a module, which the other process can import."""
LOOK_SECONDS: Final = 0.1
_TOLD: Final = "told"
_DONE: Final = "done"


async def run(work: Work[T], settings: Settings, names: Sequence[str], told: Progress) -> T:
    """What `work` returns. Raises what it raises, and `Unusable` when its process dies; it ends with ours."""
    ours, theirs = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_act, args=(theirs, work, settings, list(names)), daemon=True)
    process.start()
    theirs.close()
    try:
        while True:
            while not ours.poll():
                await asyncio.sleep(LOOK_SECONDS)
            kind, content = ours.recv()
            if kind == _TOLD:
                told(*content)
            elif kind == _DONE:
                found: T = content
                return found
            else:
                raise content
    except EOFError:
        process.join()
        raise Unusable(f"the process that did this ended with code {process.exitcode}") from None
    finally:
        ours.close()
        if process.is_alive():
            process.terminate()


def _act(say: Connection, work: Work[Any], settings: Settings, names: list[str]) -> None:
    """What the other process does."""
    try:
        found = work(settings, names, lambda at, to: say.send((_TOLD, (at, to))))
    except Exception as error:
        say.send(("failed", error))
    else:
        say.send((_DONE, found))


_SPAWN: Final = multiprocessing.get_context("spawn")  # a fork of a process with threads may stop for ever
