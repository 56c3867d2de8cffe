"""Input files to records: JSON Lines, CSV and Avro containers, each line a record or a refusal with its reason.

No line is lost: what cannot be a record comes out as `Refused`, as it stood in the file. Nothing here knows Kafka.
"""

from __future__ import annotations

import gzip
import io
import re
import sys
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import date, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

from schemas.catalogue import current
from schemas.validate import problem
from service import yaml_text
from service.feeds.formats import DAMAGE, FormatError, Item, Source, avro, cause, csv_rows, json_lines, shown

RECORD_TYPES: Final[Mapping[str, str]] = {
    "interactions": "Interaction",
    "purchases": "Purchase",
    "profiles": "ProfileSnapshot",
    "enrolments": "Enrolment",
}
"""What `publish` calls its input → the record type."""

AHEAD_MS: Final = 24 * 3_600_000
"""How far ahead of now a record may be: the worker refuses what is further, so it is not sent."""

INVALID: Final = "invalid"
"""What a refusal is called that has no other name, as among the dead letters."""
IN_THE_FUTURE: Final = "in_the_future"

_IN_THE_FUTURE: Final = "`occurred_at` is more than a day in the future: check the clock, or the unit (milliseconds)"
_CONSTANTS: Final = "constants"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017
_WHOLE: Final = re.compile(r"-?[0-9]{1,19}")
_DIGITS: Final = re.compile(r"-?[0-9]+")
_GZIP: Final = b"\x1f\x8b"
_AVRO: Final = b"Obj\x01"


class InputError(Exception):
    """A file that cannot be read at all, or not to its end. Its message is one line."""


class Line(NamedTuple):
    """A record that may be sent. `number` is its line (in an Avro container its place), from 1; None if made up."""

    number: int | None
    record_type: str
    value: dict[str, Any]
    """Every field of the schema; absent optionals are None, times epoch milliseconds."""


class Refused(NamedTuple):
    """What is not sent, as it stood in the file, and one sentence why."""

    number: int | None
    raw: bytes | str
    reason: str
    code: str = INVALID
    field: str = ""
    """Of the record type, where one is to blame."""


class _Plan(NamedTuple):
    """How the fields of a source become those of the record type."""

    record_type: str
    names: tuple[str, ...]
    columns: Mapping[str, str]
    constants: Mapping[str, Any]
    whole: frozenset[str]
    times: frozenset[str]
    mapped: bool
    limit_ms: int


def read(
    source: str | Path, record_type: str, mapping: Mapping[str, Any] | None = None, *, now_ms: int
) -> Iterator[Line | Refused]:
    """The records of a file, in its order, and what was refused; `-` is standard input.

    The format is told by the name (`.csv`, `.avro`, anything else is JSON Lines), gzip and Avro by their first bytes
    too. `mapping` is `{field: source column}` and `constants: {field: value}`, which win over the source. With a
    mapping, source columns that are neither mapped nor fields are left out; without one they are refused.
    A time more than 24 h after `now_ms` is refused. Raises InputError when the file cannot be read, which for a
    damaged one may be after its good lines.
    """
    plan = _plan(record_type, mapping or {}, mapping is not None, now_ms)
    name, stream, opened = _open(source)
    try:
        found = _format(stream, name)
        _columns_present(plan, found)
    except (FormatError, *DAMAGE) as error:
        opened.close()
        raise InputError(f"{_called(name)}: {cause(error)}") from error
    return _records(_guarded(found.items, name), plan, found.text, opened)


def judged(items: Iterable[Item], record_type: str, *, now_ms: int) -> Iterator[Line | Refused]:
    """Items whose fields are named as in the schema, by the same rules as the lines of a file."""
    return _records(iter(items), _plan(record_type, {}, False, now_ms), False, ExitStack())


def rows(path: str | Path, columns: Collection[str]) -> Iterator[Item]:
    """The lines of a CSV file that has at least these columns, for an importer. Raises InputError, as `read` does."""
    name, stream, opened = _open(path)
    try:
        found = csv_rows(stream)
        missing = [column for column in columns if column not in (found.columns or ())]
        if missing:
            raise FormatError(f"no column `{missing[0]}` in the first line: is it the file that this import reads?")
    except (FormatError, *DAMAGE) as error:
        opened.close()
        raise InputError(f"{_called(name)}: {cause(error)}") from error
    return _closing(_guarded(found.items, name), opened)


def load_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping of a YAML file, for `read`. Raises InputError when it is not one."""
    try:
        found = yaml_text.documents(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from error
    except ValueError as error:
        raise InputError(f"{path}: not YAML: {error}") from error
    content = found[0] if len(found) == 1 else None
    if not isinstance(content, dict):
        raise InputError(f"{path}: a mapping is `field: source column` lines and `constants: {{field: value}}`")
    return content


def instant(text: str) -> int:
    """Epoch milliseconds of an ISO 8601 time with zone, or of such milliseconds in digits. Raises ValueError."""
    if _DIGITS.fullmatch(text):
        return _integer(text)
    try:
        return _since_epoch(datetime.fromisoformat(text))
    except ValueError as error:
        if "zone" in str(error):
            raise
        raise ValueError(
            f"`{shown(text)}` is not a time: write it as 2026-03-01T12:00:00Z or as epoch milliseconds"
        ) from None


def _plan(record_type: str, mapping: Mapping[str, Any], mapped: bool, now_ms: int) -> _Plan:
    """Check the mapping against the schema. Raises InputError naming the key that is wrong."""
    whole, times = _numbers(record_type)
    names = tuple(field["name"] for field in current()[record_type]["fields"])
    constants = mapping.get(_CONSTANTS) or {}
    columns = {field: column for field, column in mapping.items() if field != _CONSTANTS}
    if not isinstance(constants, Mapping):
        raise InputError("mapping: `constants` must be `field: value` pairs")
    for field in (*columns, *constants):
        if field not in names:
            raise InputError(f"mapping: `{field}` is no field of {record_type}: one of {', '.join(names)}")
    for field, column in columns.items():
        if not isinstance(column, str) or not column:
            raise InputError(f"mapping: `{field}` must name a column of the source, as text")
        if field in constants:
            raise InputError(f"mapping: `{field}` is both a column and a constant: keep one of them")
    return _Plan(record_type, names, columns, constants, whole, times, mapped, now_ms + AHEAD_MS)


@cache
def _numbers(record_type: str) -> tuple[frozenset[str], frozenset[str]]:
    """The fields of a record type that are integers, and those of them that are times."""
    whole, times = set(), set()
    for field in current()[record_type]["fields"]:
        avro = field["type"][1] if isinstance(field["type"], list) else field["type"]
        kind = avro.get("type") if isinstance(avro, dict) else avro
        if kind in ("int", "long"):
            whole.add(field["name"])
        if isinstance(avro, dict) and avro.get("logicalType") == "timestamp-millis":
            times.add(field["name"])
    return frozenset(whole), frozenset(times)


def _open(source: str | Path) -> tuple[str, BinaryIO, ExitStack]:
    """A file, gzip unpacked by its first bytes, and what closes all of it. Raises InputError."""
    name = str(source)
    with ExitStack() as opened:
        try:
            plain = sys.stdin.buffer if name == "-" else opened.enter_context(Path(name).open("rb"))
            stream = io.BufferedReader(cast(io.RawIOBase, plain))
            opened.callback(stream.detach if name == "-" else stream.close)
            if stream.peek(2)[:2] == _GZIP:
                unpacked = opened.enter_context(gzip.GzipFile(fileobj=stream))
                stream = io.BufferedReader(cast(io.RawIOBase, unpacked))
        except OSError as error:
            raise InputError(f"{_called(name)}: {error.strerror or error}") from error
        return name, stream, opened.pop_all()


def _format(stream: BinaryIO, name: str) -> Source:
    suffix = Path(name.removesuffix(".gz")).suffix.lower()
    if suffix == ".avro" or cast(io.BufferedReader, stream).peek(4)[:4] == _AVRO:
        return avro(stream)
    return csv_rows(stream) if suffix == ".csv" else json_lines(stream)


def _columns_present(plan: _Plan, source: Source) -> None:
    for field, column in plan.columns.items():
        if source.columns is not None and column not in source.columns:
            there = ", ".join(source.columns)
            raise FormatError(f"the mapping takes `{field}` from column `{column}`, which is not there: {there}")


def _guarded(items: Iterator[Item], name: str) -> Iterator[Item]:
    """The items; what breaks the stream itself, such as cut gzip data, ends it with an InputError."""
    number = 0
    try:
        for item in items:
            yield item
            number = item.number
    except (FormatError, OSError, EOFError, zlib.error) as error:
        read_so_far = f"it was read up to {number}, what follows was not" if number else "nothing of it was read"
        raise InputError(f"{_called(name)}: {cause(error)}; {read_so_far}") from error


def _records(items: Iterator[Item], plan: _Plan, text: bool, opened: ExitStack) -> Iterator[Line | Refused]:
    with opened:
        for number, raw, fields, reason in items:
            if fields is None:
                yield Refused(number, raw, reason)
                continue
            try:
                value = _value(fields, plan, text)
            except _NotATime as error:
                yield Refused(number, raw, str(error), field=error.field)
                continue
            except ValueError as error:
                yield Refused(number, raw, str(error))
                continue
            wrong = problem(plan.record_type, value)
            if wrong is not None:
                says = _from_source(wrong.field, wrong.message, fields, plan)
                yield Refused(number, raw, says, field=wrong.field)
            elif value["occurred_at"] > plan.limit_ms:
                yield Refused(number, raw, _IN_THE_FUTURE, IN_THE_FUTURE, "occurred_at")
            else:
                yield Line(number, plan.record_type, value)


def _closing(items: Iterator[Item], opened: ExitStack) -> Iterator[Item]:
    with opened:
        yield from items


def _value(fields: Mapping[str, Any], plan: _Plan, text: bool) -> dict[str, Any]:
    """The record's fields from the source's. Raises ValueError with the sentence of a refusal."""
    value: dict[str, Any] = dict.fromkeys(plan.names)
    for name, item in fields.items():
        if name not in plan.constants and name not in plan.columns and (not plan.mapped or name in value):
            value[name] = item
    for name, column in plan.columns.items():
        value[name] = fields.get(column)
    if text:
        for name, item in value.items():
            if item == "":
                value[name] = None
            elif name in plan.whole and name not in plan.times and isinstance(item, str):
                value[name] = _whole_number(name, item)
    value.update(plan.constants)
    for name in plan.times:
        value[name] = _time(name, value[name])
    return value


def _whole_number(name: str, text: str) -> int:
    if _WHOLE.fullmatch(text):
        return int(text)
    raise ValueError(f"`{name}` is `{shown(text)}`, not a whole number: write it in digits alone, such as 1250")


def _integer(text: str) -> int:
    if _WHOLE.fullmatch(text):
        return int(text)
    raise ValueError(f"`{shown(text)}` is out of range: give milliseconds since 1970-01-01T00:00:00Z")


class _NotATime(ValueError):
    """A text that is no time, and the field that it is in."""

    def __init__(self, field: str, says: str) -> None:
        super().__init__(says)
        self.field = field


def _time(name: str, item: Any) -> Any:
    """Epoch milliseconds; what is no time at all is left to the validation of the record."""
    try:
        if isinstance(item, str):
            return instant(item)
        if isinstance(item, datetime):
            return _since_epoch(item)
        if isinstance(item, date):
            raise ValueError(f"`{item}` is a day, not a time: write it as {item}T12:00:00Z")
    except ValueError as error:
        raise _NotATime(name, f"`{name}`: {error}") from None
    return item


def _since_epoch(moment: datetime) -> int:
    if moment.tzinfo is None:
        shown = moment.isoformat()
        raise ValueError(f"`{shown}` has no zone: write it with one, such as {shown}Z or {shown}+01:00")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _from_source(field: str, message: str, fields: Mapping[str, Any], plan: _Plan) -> str:
    """The sentence, with the source's own column where the mapping took the field from one."""
    column = plan.columns.get(field)
    if column is None or column == field:
        return message
    return f"{message} (from `{column}`{'' if column in fields else ', which this line does not have'})"


def _called(name: str) -> str:
    return "standard input" if name == "-" else name
