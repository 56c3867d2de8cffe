"""What the ledger has decided about commands, read as soon as it is stored: the read model, and what is ahead of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from sqlalchemy import Connection, TextClause, bindparam, select, text

from aggregates.events import STORED_NAMES, from_stored
from aggregates.ledger import Recorded, account_id
from aggregates.ledger_store import EVENTS
from projections import queries
from projections.outcomes import DECIDED, OUTCOMES, PROJECTION, row_of
from projections.upkeep.runner import positions

_NAMES: Final = [name for name, kind in STORED_NAMES.items() if kind in DECIDED]


class Key(NamedTuple):
    """What names a command: a member's idempotency key."""

    brand: str
    member: str
    key: str


class Outcome(NamedTuple):
    """What became of a command; the same for ever."""

    kind: str
    points: int
    """As asked for."""
    reference: str
    """What it referred to; empty when nothing."""
    words: str
    """Why, as asked; empty when not said."""
    reason: str
    """The refusal; empty when it was done."""
    entry_id: str
    """Of its statement entry; empty when it was refused."""
    occurred_at: int
    """Epoch milliseconds."""
    position: int
    """The ledger position that includes it."""


def outcome(conn: Connection, key: Key) -> Outcome | None:
    """What became of a command; None while the ledger has not decided. `conn` sees one instant, or reads in order."""
    included = positions(conn, [PROJECTION])[PROJECTION.name]
    table = OUTCOMES.table
    row = conn.execute(
        select(table).where(
            table.c.brand == key.brand, table.c.member == key.member, table.c.idempotency_key == key.key
        )
    ).one_or_none()
    if row is not None:
        return _outcome(dict(row._mapping))
    ahead = _statement(conn, "AND originator_id = :account")
    found = conn.execute(ahead, {"after": included, "names": _NAMES, "account": account_id(key.brand, key.member)})
    return next((one for name, one in _decisions(found) if name == key), None)


def since(conn: Connection, after: int) -> tuple[int, list[tuple[Key, Outcome]]]:
    """The commands decided above a ledger position, oldest first, and the position up to which that is all."""
    last = queries.ledger_position(conn)
    if last <= after:
        return after, []
    found = conn.execute(_statement(conn, "AND {id} <= :last"), {"after": after, "names": _NAMES, "last": last})
    return last, list(_decisions(found))


def _statement(conn: Connection, more: str) -> TextClause:
    table, number = EVENTS[conn.dialect.name]
    query = (
        f"SELECT {number} AS id, originator_id, topic, state FROM {table} "
        f"WHERE {number} > :after AND topic IN :names {more.format(id=number)} ORDER BY {number}"
    )
    return text(query).bindparams(bindparam("names", expanding=True))


def _decisions(rows: object) -> Iterator[tuple[Key, Outcome]]:
    for row in rows:  # type: ignore[attr-defined]
        made = row_of(Recorded(row.id, row.originator_id, from_stored(row.topic, row.state)))
        if made is not None:
            yield Key(made["brand"], made["member"], made["idempotency_key"]), _outcome(made)


def _outcome(row: dict[str, object]) -> Outcome:
    fields = {name: row["seq" if name == "position" else name] for name in Outcome._fields}
    return Outcome(**fields)  # type: ignore[arg-type]
