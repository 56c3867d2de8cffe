"""One number for the content of a read model: two builds of one ledger, at one position, must agree on it.

A digest is the sum, modulo 2^128, of a 16-byte BLAKE2b of every canonical row, so the order of rows, the database and
the sizes of pages do not matter. Those of the ledger's read models are kept with the rows (`upkeep/rows.py`) and
only read here; those of other topics are added up from their rows, each a JSON object with sorted column names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, Engine, select

from projections.projection import Projection, ReadTable, Value
from projections.upkeep.rows import MODULUS, NOTHING, Digest, Stored
from projections.upkeep.runner import Kept, kept

_FETCH: Final = 5_000
_json: Final = msgspec.json.Encoder(order="sorted").encode

CanonicalRow = Mapping[str, Value]


class DigestSource(NamedTuple):
    """A read model as `digest` sees it, whichever topic or ledger its rows come from."""

    name: str
    version: int
    position: Callable[[Connection], int | str]
    """What its rows include: the ledger's notification id, or `partition:offset,…` of a topic."""
    content: Callable[[Connection], Digest]
    """The digest of its rows."""


class ProjectionDigest(BaseModel):
    """The digest of one read model."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="The read model's name", examples=["balances"])
    version: int = Field(description="The version of its fold and tables", examples=[1])
    position: int | str = Field(
        description="What its rows include: a ledger position, or `partition:offset,…` of a topic", examples=[48213]
    )
    rows: int = Field(description="Number of rows", examples=[1200])
    digest: str = Field(description="128 bits, hexadecimal", examples=["0f343b0931126a20f133d67c2b018a3b"])


class DigestReport(BaseModel):
    """The digests of every read model, read at one instant."""

    model_config = ConfigDict(frozen=True)

    position: int = Field(description="The ledger position that every ledger read model includes", examples=[48213])
    projections: tuple[ProjectionDigest, ...] = Field(description="Balances, statements and standings first")


def of_canonical(rows: Iterable[CanonicalRow]) -> Digest:
    """The digest of canonical rows, in any order: a JSON object each, without what is None."""
    count, total = 0, 0
    for row in rows:
        present = {name: value for name, value in row.items() if value is not None}
        total += int.from_bytes(blake2b(_json(present), digest_size=16).digest(), "big")
        count += 1
    return Digest(count, total % MODULUS)


def table_rows(conn: Connection, target: ReadTable) -> Iterator[Stored]:
    """The rows of a table as tuples of its columns, ordered by primary key (text by its bytes)."""
    table = target.table
    query = select(table).order_by(*[table.c[name] for name in target.key])
    for row in conn.execution_options(yield_per=_FETCH).execute(query):
        yield tuple(row)


def of_projection(projection: Projection) -> DigestSource:
    """A ledger projection as a digest source: its kept digest."""

    def now(conn: Connection) -> Kept:
        there = kept(conn).get(projection.name)
        return there if there is not None and there.version == projection.version else Kept(0, 0, NOTHING)

    return DigestSource(
        projection.name, projection.version, lambda conn: now(conn).position, lambda conn: now(conn).digest
    )


def digest_of(conn: Connection, source: DigestSource) -> ProjectionDigest:
    """The digest of one read model."""
    content = source.content(conn)
    return ProjectionDigest(
        name=source.name,
        version=source.version,
        position=source.position(conn),
        rows=content.rows,
        digest=content.hexadecimal(),
    )


def digest(conn: Connection, sources: Sequence[DigestSource]) -> DigestReport:
    """The digests of `sources`, in their order. Give it a connection of `snapshot`, so that they belong together."""
    digests = tuple(digest_of(conn, source) for source in sources)
    ledger = [one.position for one in digests if isinstance(one.position, int)]
    return DigestReport(position=min(ledger, default=0), projections=digests)


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection on which every read sees the database at one instant.

    On SQLite give a read-only engine: a writing one holds the write lock for as long.
    """
    with engine.connect() as conn:
        if conn.dialect.name == "postgresql":
            conn = conn.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with conn.begin():
            yield conn
