"""The three formats of input files, taken apart: each line its fields, or why it has none.

Every line of a file comes out once, with the bytes it had, so that a refusal can give them back.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, NamedTuple

DAMAGE: Final = (ValueError, KeyError, TypeError, IndexError, EOFError, OverflowError, MemoryError, OSError, zlib.error)
"""What reading a damaged file raises, beside FormatError."""

_BOM: Final = b"\xef\xbb\xbf"


class FormatError(Exception):
    """The file as a whole cannot be read, or not on. Its message says why, without the file's name."""


class Item(NamedTuple):
    """One line as it was read: its fields, or the reason why there are none."""

    number: int
    raw: bytes | str
    fields: dict[str, Any] | None
    reason: str


class Source(NamedTuple):
    """A file being read."""

    items: Iterator[Item]
    columns: tuple[str, ...] | None
    """The columns that every line has; None where each line names its own."""
    text: bool
    """Every value is a text (CSV): an empty one stands for none, and numbers are written as digits."""


def json_lines(stream: BinaryIO) -> Source:
    """The objects of JSON Lines; empty lines hold nothing and are passed over."""
    return Source(_objects(stream), None, text=False)


def _objects(stream: BinaryIO) -> Iterator[Item]:
    for number, raw in enumerate(stream, 1):
        line = raw.rstrip(b"\r\n")
        if number == 1:
            line = line.removeprefix(_BOM)
        if line.strip():
            fields, reason = _json_object(line)
            yield Item(number, raw.rstrip(b"\r\n"), fields, reason)


def json_value(text: str) -> Any:
    """What a JSON text holds. Raises FormatError for what is none, or has a name twice in one object."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise FormatError(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise FormatError(f"not JSON that can be read: {why}") from None


def json_body(body: bytes) -> Any:
    """What a body of JSON in UTF-8 holds. Raises FormatError for what is none, as `json_value` does."""
    try:
        return json_value(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise FormatError(f"byte {error.start + 1} is not UTF-8") from None


def _json_object(line: bytes) -> tuple[dict[str, Any] | None, str]:
    """The object of a line, or None and why there is none."""
    try:
        found = json_value(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return None, f"byte {error.start + 1} of the line is not UTF-8: write the file in UTF-8"
    except FormatError as error:
        return None, f"{error}; write one object on each line"
    if not isinstance(found, dict):
        return None, f"the line holds {kind(found)}, not a JSON object: write one object on each line"
    return found, ""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"`{shown(twice)}` stands twice in one object")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def kind(found: Any) -> str:
    """What a JSON value is that is no object, in words."""
    kinds = ((list, "a list"), (str, "a text"), (bool, "true or false"), (type(None), "null"))
    return next((says for one, says in kinds if isinstance(found, one)), "a number")


def csv_rows(stream: BinaryIO) -> Source:
    """The rows of a CSV file, counted by the line they begin on. Raises FormatError for a bad header, at once."""
    lines = _Lines(stream)
    rows = csv.reader(lines, strict=True)
    try:
        header = next(rows, None)
    except csv.Error as error:
        raise FormatError(f"line 1 is no CSV header: {error}") from error
    if not header:
        raise FormatError("the file is empty: the first line of a CSV file names the columns")
    if not lines.is_utf8:
        raise FormatError("the first line is not UTF-8: write the file in UTF-8")
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise FormatError(f"column `{twice[0]}` stands twice in the first line")
    return Source(_rows(lines, rows, header), tuple(header), text=True)


def _rows(lines: _Lines, rows: Any, header: list[str]) -> Iterator[Item]:
    while True:
        lines.taken.clear()
        lines.is_utf8 = True
        number = lines.number + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Item(number, lines.raw(), None, f"not CSV: {error}; check the quotation marks")
            continue
        if not cells:
            continue
        reason = ""
        if len(cells) != len(header):
            reason = (
                f"{len(cells)} cells under {len(header)} columns: give every column a cell, quoted if it has a comma"
            )
        elif not lines.is_utf8:
            reason = "the line is not UTF-8: write the file in UTF-8"
        yield Item(number, lines.raw(), None if reason else dict(zip(header, cells, strict=True)), reason)


class _Lines:
    """The lines of a stream as text, remembering the bytes of those taken since they were last cleared."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.number = 0
        self.taken: list[bytes] = []
        self.is_utf8 = True
        """Whether all of those lines are; what is not becomes a replacement character."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._stream)
        self.number += 1
        self.taken.append(line)
        text = line.removeprefix(_BOM) if self.number == 1 else line
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            self.is_utf8 = False
            return text.decode("utf-8", "replace")

    def raw(self) -> bytes:
        return b"".join(self.taken).rstrip(b"\r\n")


def avro(stream: BinaryIO) -> Source:
    """The records of an Avro container. Raises FormatError for what is none, at once."""
    from fastavro import reader

    try:
        records = reader(stream)
    except DAMAGE as error:
        raise FormatError(f"not an Avro container: {cause(error)}") from error
    writer = records.writer_schema
    columns = None
    if isinstance(writer, dict) and writer.get("type") == "record":
        columns = tuple(field["name"] for field in writer["fields"])
    return Source(_avro_items(records), columns, text=False)


def _avro_items(records: Iterator[Any]) -> Iterator[Item]:
    number = 0
    while True:
        number += 1
        try:
            found = next(records)
        except StopIteration:
            return
        except DAMAGE as error:
            raise FormatError(f"the Avro container is damaged: {cause(error)}") from error
        if isinstance(found, dict):
            yield Item(number, json.dumps(found, default=str), found, "")
        else:
            reason = f"the item is {kind(found)}, not a record"
            yield Item(number, json.dumps(found, default=str), None, reason)


def cause(error: BaseException) -> str:
    """Why a file cannot be read, on one line."""
    if isinstance(error, EOFError):
        return "the data ends too early"
    if isinstance(error, (gzip.BadGzipFile, zlib.error)):
        return f"the gzip data is damaged: {error}"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def shown(text: str) -> str:
    """A text in a sentence: its beginning, if it is long."""
    return text if len(text) <= 60 else f"{text[:57]}…"
