"""Playing a simulated community on after the demo's tables: its next days, so many simulated seconds each second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import chain, takewhile

from service import definitions
from service.broker import publisher
from service.feeds.broken import Broken
from service.feeds.reading import Line
from service.feeds.simulation import DAY, START, Simulation, next_definitions
from service.settings import Settings

SPEED = 3_600.0
"""Simulated seconds per second, unless another speed is asked for: a day in 24 seconds."""
TICK_SECONDS = 0.5
"""How often what is due is published."""


def play_on(
    settings: Settings,
    community: Simulation,
    speed: float,
    stopped: Callable[[], bool],
    check: Callable[[], None],
) -> bool:
    """Publish the days that follow until there are no more or `stopped`; whether they were all played.

    `speed`: simulated seconds per second. `check` raises when a part of the stack has died. Raises `Unusable`
    without a broker.
    """
    text = next_definitions(community.days, community.members)
    asyncio.run(definitions.apply_documents(settings, definitions.documents(text, community.brand)))
    began, first = time.monotonic(), START + community.days * DAY
    coming = community.going_on()
    while True:
        until = first + int((time.monotonic() - began) * speed * 1_000)
        due, coming = split(coming, until)
        if due:
            asyncio.run(publisher.publish(settings, due))
        ahead = next(coming, None)
        if ahead is None:
            return True
        coming = chain([ahead], coming)
        deadline = time.monotonic() + TICK_SECONDS
        while time.monotonic() < deadline:
            if stopped():
                return False
            check()
            time.sleep(0.05)


def split(
    coming: Iterator[tuple[int, Line | Broken]], until: int
) -> tuple[list[Line | Broken], Iterator[tuple[int, Line | Broken]]]:
    """What is delivered before `until` (epoch ms), and the rest."""
    rest: list[tuple[int, Line | Broken]] = []

    def is_due(item: tuple[int, Line | Broken]) -> bool:
        if item[0] >= until:
            rest.append(item)
        return item[0] < until

    due = [record for _, record in takewhile(is_due, coming)]
    return due, chain(rest, coming)
