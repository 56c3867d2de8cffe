"""One number for the content of a read model: two builds of one ledger, at one position, must agree on it.

The digest is the sum, modulo 2^128, of a 16-byte BLAKE2b of every canonical row: a JSON object with sorted column
names, integers and strings only, absent values left out, volatile columns left out. So the order of rows, the
database and the sizes of pages do not matter.
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
from projections.runner import positions

_MODULUS: Final = 1 << 128
_FETCH: Final = 5_000
_json: Final = msgspec.json.Encoder(order="sorted").encode

CanonicalRow = Mapping[str, Value]


class DigestSource(NamedTuple):
    """A read model as `digest` sees it, whichever topic or ledger its rows come from."""

    name: str
    version: int
    position: Callable[[Connection], int | str]
    """What its rows include: the ledger's notification id, or `partition:offset,…` of a topic."""
    rows: Callable[[Connection], Iterable[CanonicalRow]]
    """Its canonical rows, in any order."""


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


class Digester:
    """Adds rows up to a digest."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    def add(self, row: CanonicalRow) -> None:
        """Count one canonical row."""
        present = {name: value for name, value in row.items() if value is not None}
        self._sum += int.from_bytes(blake2b(_json(present), digest_size=16).digest(), "big")
        self.rows += 1

    def hexadecimal(self) -> str:
        """The digest of the rows so far: 32 hexadecimal digits."""
        return f"{self._sum % _MODULUS:032x}"


def table_rows(conn: Connection, target: ReadTable) -> Iterator[tuple[Value, ...]]:
    """The rows of a table as tuples of its columns, ordered by primary key (text by its bytes)."""
    table = target.table
    query = select(table).order_by(*[table.c[name] for name in target.key])
    for row in conn.execution_options(yield_per=_FETCH).execute(query):
        yield tuple(row)


def stable_columns(target: ReadTable) -> tuple[tuple[int, str], ...]:
    """Index and name of the columns that are in the digest."""
    names = [column.name for column in target.table.columns]
    return tuple((index, name) for index, name in enumerate(names) if name not in target.volatile)


def of_projection(projection: Projection) -> DigestSource:
    """A ledger projection as a digest source. A row of its second, third… table also has that table's name."""

    def rows(conn: Connection) -> Iterator[CanonicalRow]:
        for number, target in enumerate(projection.tables):
            columns = stable_columns(target)
            extra: dict[str, Value] = {"#table": target.name} if number else {}
            for row in table_rows(conn, target):
                yield {name: row[index] for index, name in columns} | extra

    return DigestSource(
        projection.name, projection.version, lambda conn: positions(conn, (projection,))[projection.name], rows
    )


def digest_of(conn: Connection, source: DigestSource) -> ProjectionDigest:
    """The digest of one read model, from its rows as they are."""
    digester = Digester()
    for row in source.rows(conn):
        digester.add(row)
    position = source.position(conn)
    return ProjectionDigest(
        name=source.name,
        version=source.version,
        position=position,
        rows=digester.rows,
        digest=digester.hexadecimal(),
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
