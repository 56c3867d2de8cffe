"""Bodies of the publishing routes to records: one or many, as JSON, JSON Lines or CloudEvents 1.0.

A body that cannot be read is refused as a whole; in one that can, each record is judged by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, Final
from urllib.parse import unquote

from service.feeds.formats import FormatError, Item, json_body, json_lines, kind, shown
from service.feeds.reading import Line, Refused, instant, judged
from service.problems import Refusal

MAX_RECORDS: Final = 1_000
"""Records of one request."""
JSON: Final = "application/json"
LINES: Final = ("application/x-ndjson", "application/jsonl")
EVENT: Final = "application/cloudevents+json"
EVENTS: Final = "application/cloudevents-batch+json"
READ: Final = (JSON, *LINES, EVENT, EVENTS)
"""Content types."""
EVENT_HEADER: Final = "ce-"
"""How the headers of a CloudEvent in binary mode begin; its data is the body."""


def records(
    body: bytes, content_type: str, headers: Mapping[str, str], record_type: str, now_ms: int
) -> list[Line | Refused]:
    """The records of a body, each numbered from 0 in its order. Raises `Refusal` for what is none."""
    try:
        items = list(_items(body, content_type.partition(";")[0].strip().lower(), headers, record_type))
        found = list(judged(items, record_type, now_ms=now_ms))
    except FormatError as error:
        raise Refusal("invalid_request", plain(f"body: {error}")) from None
    except RecursionError:
        raise Refusal("invalid_request", "body: it is nested too deeply") from None
    if not found:
        raise Refusal("invalid_request", "body: there is no record in it")
    return found


def plain(text: str) -> str:
    """A sentence with somebody's words in it, that can be sent whatever is in them."""
    return (text if len(text) <= 500 else f"{text[:499]}…").encode("utf-8", "backslashreplace").decode()


def _items(body: bytes, content_type: str, headers: Mapping[str, str], record_type: str) -> Iterator[Item]:
    if content_type in LINES:
        for index, item in enumerate(_few(json_lines(BytesIO(body)).items)):
            yield item._replace(number=index)
        return
    if content_type not in READ:
        raise Refusal("unsupported_media_type", f"Content-Type: send one of {', '.join(READ)}.")
    found = json_body(body)
    if content_type == JSON and "ce-specversion" in headers:
        yield _item(0, {**_attributes(headers), "data": found}, record_type)
        return
    many = isinstance(found, list) and content_type != EVENT
    if not many and content_type == EVENTS:
        raise FormatError(f"it holds {_what(found)}, not a list of events")
    for index, one in enumerate(_few(iter(found if many else [found]))):
        if content_type != JSON:
            yield _item(index, one, record_type)
        elif isinstance(one, dict):
            yield Item(index, b"", one, "")
        else:
            yield Item(index, b"", None, f"the record is {kind(one)}, not a JSON object")


def _attributes(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of a CloudEvent in binary mode. Raises FormatError for one that is there twice, or is not UTF-8."""
    found: dict[str, str] = {}
    for header, value in headers.items():
        if header.startswith(EVENT_HEADER):
            name = header.removeprefix(EVENT_HEADER)
            if name in found:
                raise FormatError(f"the header `{shown(header)}` is there twice")
            try:
                found[name] = unquote(value, errors="strict")
            except UnicodeDecodeError:
                raise FormatError(f"the header `{shown(header)}` is not UTF-8 in percent-encoding") from None
    return found


def _few(found: Iterator[Any]) -> Iterator[Any]:
    for index, one in enumerate(found):
        if index == MAX_RECORDS:
            raise Refusal("too_large", f"The body has more than {MAX_RECORDS} records: send them in several requests.")
        yield one


def _item(index: int, event: Any, record_type: str) -> Item:
    try:
        return Item(index, b"", _fields(event, record_type), "")
    except ValueError as error:
        return Item(index, b"", None, str(error))


def _fields(event: Any, record_type: str) -> dict[str, Any]:
    """The fields of a record from a CloudEvent: id, time and data. Raises ValueError with what is wrong with it."""
    if not isinstance(event, dict):
        raise ValueError(f"the event is {_what(event)}, not a JSON object")
    wanted = {"specversion": "1.0", "type": f"groundswell.{record_type}"}
    for name in ("specversion", "id", "source", "type"):
        item = event.get(name)
        if not isinstance(item, str) or not item:
            raise ValueError(f"`{name}` is missing: a CloudEvent has one, a text")
        if item != wanted.get(name, item):
            raise ValueError(f"`{name}` is `{shown(item)}`: give `{wanted[name]}` here")
    media_type = event.get("datacontenttype") or JSON
    if str(media_type).partition(";")[0].strip().lower() != JSON:
        raise ValueError(f"`datacontenttype` is `{shown(str(media_type))}`: give `{JSON}`")
    if "data_base64" in event:
        raise ValueError("`data_base64` is there: give the fields of the record as `data`")
    data = event.get("data")
    if not isinstance(data, dict):
        raise ValueError(f"`data` is {_what(data)}, not a JSON object with the fields of the record")
    fields = {"event_id": event["id"], **data}
    if event.get("time") is not None:
        fields.setdefault("occurred_at", event["time"])
        if _instant(fields["occurred_at"]) != _instant(event["time"]):
            raise ValueError("`time` is not the `occurred_at` of `data`: leave one of them out")
    if fields["event_id"] != event["id"]:
        raise ValueError("`id` is not the `event_id` of `data`: leave one of them out")
    return fields


def _instant(item: Any) -> Any:
    """Epoch milliseconds of a time; what is none is left to the validation of the record."""
    try:
        return instant(item) if isinstance(item, str) else item
    except ValueError:
        return item


def _what(found: Any) -> str:
    return "an object" if isinstance(found, dict) else kind(found)
