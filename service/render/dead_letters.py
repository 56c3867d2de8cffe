"""What the dead-letter commands print for people. Keys, headers and texts are the publishers': escaped before shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.text import Text

from service.render.tables import NOTHING, number, row, table, titled

if TYPE_CHECKING:
    from service.dead_letters.answers import Count, DeadLetter, DeadLetterInFull
    from service.dead_letters.redrive import Plan

DUMPED: Final = 256
"""Bytes shown of a record that cannot be decoded."""
EXAMPLES: Final = 3
"""Refused letters named for each cause."""


def letters(found: Sequence[DeadLetter], total: int) -> RenderableType:
    """What was refused, in log order."""
    if not found:
        return Text("no dead letters")
    made = table(("source", "at", "key", "reason", "detail", "state"))
    for one in found:
        source = f"{one.source_partition}:{one.source_offset}"
        row(made, (source, one.source_timestamp, _clean(one.key), one.reason, _clean(one.detail), _state(one)))
    more = [Text(f"and {number(total - len(found))} more: --limit, or --summary")] if total > len(found) else []
    return titled("Dead letters", made, *more)


def counts(found: Sequence[Count]) -> RenderableType:
    """How many there are, by reason and brand."""
    if not found:
        return Text("no dead letters")
    made = table(("reason", "brand"), ("open", "redriven"))
    for one in found:
        row(made, (one.reason, _clean(one.brand), one.open, one.redriven))
    row(made, ("all", "", sum(one.open for one in found), sum(one.redriven for one in found)))
    return titled("Dead letters by reason and brand", made)


def letter(found: DeadLetterInFull) -> RenderableType:
    """One of them in full."""
    facts = {
        "record": f"{found.source_partition}:{found.source_offset} of the activity log, at {found.source_timestamp}",
        "dead letter": f"{found.partition}:{found.offset} of its own topic",
        "key": _clean(found.key) or NOTHING,
        "reason": f"{found.reason}: {found.meaning}",
        "detail": _clean(found.detail),
        "state": _state(found),
        "redriven before": f"{found.redrives} times, first at {found.origin}" if found.redrives else "never",
        "what to do": found.remedy,
        "a redrive now": f"would be refused: {_clean(found.now)}" if found.now else "would be taken",
    }
    made = table(("", " "))
    made.show_header = False
    for name, value in facts.items():
        row(made, (name, value))
    headers = table(("header", "value"))
    for header in found.headers:
        row(headers, (_clean(header.name), _clean(header.value)))
    parts: list[RenderableType] = [titled("Headers", headers)] if found.headers else [Text("No headers", style="bold")]
    return titled("Dead letter", made, *parts, _content(found))


def plan(made: Plan, dry_run: bool) -> RenderableType:
    """What would be or was sent again, by reason, and what is refused, by cause."""
    if not (made.sending or made.refused or made.before):
        return Text("no dead letters")
    sent = table(("reason",), ("would send" if dry_run else "sent", "refused", "redriven already"))
    for one in made.by_reason():
        row(sent, one)
    title = "This would be sent again" if dry_run else "Sent again"
    parts = [titled(title, sent)]
    if made.refused:
        why = table(("refused as", "why", "records"), ("count",))
        for code, sentence, places, count in _causes(made):
            row(why, (code, sentence, places, count))
        parts.append(titled("Not sent", why))
    return Group(*parts)


def _causes(made: Plan) -> Iterable[tuple[str, str, str, int]]:
    """Each cause with the sentence of its first letter and where the first letters stand."""
    causes = dict.fromkeys(no.code for no in made.refused)
    for code in causes:
        these = [no for no in made.refused if no.code == code]
        places = ", ".join(str(no.letter.source) for no in these[:EXAMPLES])
        yield code, _clean(these[0].why), places + (", …" if len(these) > EXAMPLES else ""), len(these)


def _state(found: DeadLetter) -> str:
    at = f" {found.redriven_at}" if found.redriven_at else ""
    again = f", refused again at {found.refused_again}" if found.refused_again else ""
    return f"{found.state}{at}{again}"


def _content(found: DeadLetterInFull) -> RenderableType:
    if found.event is not None:
        lines = json.dumps(found.event, ensure_ascii=False, indent=2).splitlines()
        return titled("Decoded", Text("\n".join(map(_clean, lines))))
    data = bytes.fromhex(found.hex)
    lines = [_dumped(data, start) for start in range(0, min(len(data), DUMPED), 16)]
    if len(data) > DUMPED:
        lines.append(f"and {number(len(data) - DUMPED)} more bytes (--json has all)")
    return titled(f"{number(len(data))} bytes that cannot be decoded", Text("\n".join(lines)))


def _dumped(data: bytes, start: int) -> str:
    line = data[start : start + 16]
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
    return f"{start:08x}  {line.hex(' '):<47}  {text}"


def _clean(text: str) -> str:
    """Without characters that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
