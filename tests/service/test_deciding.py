"""Who waits for decisions is told by one look for all, and a look ends before its connections are given back."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from aggregates.database import open_database
from projections.queries import decisions
from service.deciding import Deciding
from service.settings import Settings

KEY = decisions.Key("acme", "ann", "key-1")


def test_it_is_closed_only_when_the_look_under_way_has_ended(
    filled_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    since = decisions.since

    def slow(connection: Any, after: int) -> Any:
        looking.set()
        assert go_on.wait(10)
        found = since(connection, after)
        ended.set()
        return found

    monkeypatch.setattr(decisions, "since", slow)
    engine = open_database(filled_settings.database, read_only=True)

    async def play() -> None:
        deciding = Deciding(engine)
        async with deciding.expecting(KEY):
            assert await asyncio.to_thread(looking.wait, 10)
            closing = asyncio.create_task(deciding.close())
            await asyncio.sleep(0.1)
            assert not closing.done()
            go_on.set()
            await closing
            assert ended.is_set()

    try:
        asyncio.run(play())
    finally:
        go_on.set()
        engine.dispose()
