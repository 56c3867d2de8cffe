"""What the commands that build read models again print for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from service.render.tables import NOTHING, number, row, table, titled

if TYPE_CHECKING:
    from projections.upkeep.verify import Behind, Difference, Report, Verified
    from service.outbound import Republished
    from service.replay.rebuilding import RebuildReport, Rebuilt


def verification(found: Report) -> RenderableType:
    """What differs from a rebuild, down to the row."""
    made = table(("read model", "digest", "result"), ("rows", "differing"))
    for one in found.projections:
        row(made, (one.name, one.digest, "same" if one.same else "DIFFERS", one.rows, one.differing))
    said = "Every read model is what the log says." if found.same else "Some rows are not what the log says:"
    differences = [line for one in found.projections for line in _differing(one)]
    title = f"Rebuilt at ledger position {number(found.position)}"
    return titled(title, made, Text(said, style="bold"), *differences)


def _difference(first: Difference) -> RenderableType:
    key = ", ".join(f"{name}={value}" for name, value in first.key.items())
    lines = [f"{first.table}: the row {key} is {first.what}"]
    if first.column:
        lines.append(f"  {first.column} is {first.stored!r} and must be {first.rebuilt!r}")
    lines += [_from(event) for event in first.events]
    if first.events_total > len(first.events):
        lines.append(f"  and {number(first.events_total - len(first.events))} more")
    return Text("\n".join(lines))


def _from(event: Behind) -> str:
    if event.notification is None:
        return f"  from what came up to {event.source}"
    return f"  from event {event.event_id} {event.source} (ledger {event.notification})"


def _differing(found: Verified) -> Iterator[RenderableType]:
    if found.first is not None:
        yield _difference(found.first)
    if found.kept not in (None, found.digest):
        yield Text(f"{found.name}: the digest kept is {found.kept}, its rows have {found.digest}")


def republished(found: Republished) -> RenderableType:
    """What the projector sends again."""
    count = found.to_position - found.from_position + 1
    if count < 1:
        return Text(f"Nothing: the topics have been sent up to position {found.to_position} only.")
    return Text(f"The projector sends {count:,} ledger events again, from position {found.from_position} on.")


def rebuilt(found: RebuildReport) -> RenderableType:
    """What was built, whether it serves now, and what differed."""
    made = table(("read model", "digest", "before"), ("version", "rows", "position", "differing"))
    for one in found.projections:
        differing = NOTHING if one.compared is None else number(one.compared.differing)
        row(made, (one.name, one.digest, _before(found, one), one.version, one.rows, one.position, differing))
    lines = [line for one in found.projections if one.compared for line in _differing(one.compared)]
    if not found.swapped:
        return titled("Built beside what serves, and left there", made)
    said = "These serve now." if found.same else "These serve now. What served before was not what the ledger says:"
    return titled("Rebuilt", made, Text(said, style="bold"), *lines)


def _before(found: RebuildReport, one: Rebuilt) -> str:
    if not found.swapped or one.replaced is None:
        return NOTHING
    if one.compared is None:
        return f"version {one.replaced}"
    return "same" if one.compared.same else "DIFFERED"
