"""What a person reads about an entry: which way points went, and what became of them."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from projections.answers import Entry, EntrySource, Explained, Explanation
from service.render import explain
from service.render.terminal import Terminal


def told(kind: str, points: int, campaign: str | None = None, rule: str | None = None, **why: Any) -> list[str]:
    entry = Entry(
        entry_id="e1", kind=kind, points=points, occurred_at="2026-03-10T12:00:00.000Z", recorded_at="",
        campaign=campaign, campaign_version=1 if campaign else None, rule=rule,
        source=EntrySource(topic="t", partition=0, offset=7, event_id="k1"), active_at=None, expires_at=None,
    )  # fmt: skip
    known = {"happened": {"kind": "x"}, "tier": "", "entitled": 0, "limited_by": None, "reverses": None, "debt": 0}
    explained = Explained(entry=entry, **{**known, "shortfall": 0, "takes": {}, **why})
    console = Console(width=200)
    with console.capture() as said:
        console.print(
            explain.explanation(Explanation(brand="b", member_id="m", entries=(explained,), unpaid=(), position=1))
        )
    return [line.strip(" │├└─") for line in said.get().splitlines()]


def test_nothing_that_somebody_wrote_is_a_command_to_the_terminal() -> None:
    stream = io.StringIO()
    terminal = Terminal(file=stream, force_terminal=True, width=80)
    made = Table("reason\x1b[31m", title="a\x9b1mb")
    made.add_row("x\x1b]0;title\x07\ry\tz")
    terminal.print(made, Text("bold\x1b[0m", style="bold"), "plain\x1b[2J")
    said = stream.getvalue()
    written = ("\x9b", "\x07", "\r", "\x1b[31m", "\x1b[2J", "\x1b]0")
    assert [one for one in written if one in said] == []
    assert "\x1b[1m" in said, "Rich's own styles are"


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (("redeemed", -5, {"takes": {"a": 5}}), "took 5 from lot a"),
        (("cancelled", 5, {"takes": {"a": -5}}), "gave 5 back to lot a"),
        (("cancelled", 5, {"reverses": "e0"}), "cancels entry e0"),
        (("reversed", -5, {"reverses": "e0"}), "takes back entry e0"),
        (("reversed", -5, {"debt": 5}), "5 of it became a debt"),
        (("earned", 9, {"debt": -5, "takes": {"e1": 5}}), "5 of it paid off debt"),
        (("reversed", 0, {"shortfall": 5}), "5 more could not be taken back"),
        (("reversed", -5, {"shortfall": -5}), "5 of it had been given up before"),
        (("prize", 9, {"campaign": "spring"}), "of spring version 1"),
        (("earned", 9, {"campaign": "spring", "rule": "r", "tier": "nano"}), "rule r of spring version 1, tier nano"),
        (
            ("earned", 9, {"campaign": "spring", "rule": "r", "tier": "nano", "tier_followers": 1_812}),
            "rule r of spring version 1, tier nano by 1,812 followers",
        ),
        (
            ("earned", 9, {"campaign": "s", "rule": "r", "entitled": 30, "limited_by": "per_day"}),
            "of which per_day kept back 21",
        ),
    ],
)
def test_an_entry_says_which_way_its_points_went(entry: tuple[str, int, dict[str, Any]], line: str) -> None:
    kind, points, why = entry
    assert line in told(kind, points, **why)


def test_what_paid_off_debt_is_not_told_as_taken_from_its_own_lot() -> None:
    assert not any("from lot" in line for line in told("earned", 9, debt=-5, takes={"e1": 5}))
