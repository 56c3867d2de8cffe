"""Panes on the wire: compaction key and `EngagementPane` value, written and read field by field.

Panes are most of what the stage writes and reads back. Written for this one schema they cost a quarter of the general
codec, which is the oracle in the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from aggregates.engagement import Counters, Span, Subject
from schemas.codec import decode, encode, fingerprint_header

SEPARATOR: Final = "\x1f"
"""Between the parts of a compaction key; no id has a control character in it."""
Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Key, value and headers."""
_HEADER: Final = fingerprint_header("EngagementPane")
_CACHED: Final = 200_000


class Stamped(NamedTuple):
    """A pane as it was written: counters that include the source offset `stamp` and all before it."""

    subject: Subject
    span: Span
    epoch: str
    stamp: int
    counters: Counters


class PaneCodec:
    """Writes and reads the panes of one source partition.

    The key has the source partition in it, since a campaign's pane has a partial in each, and the epoch, since a log
    made anew counts its offsets anew.
    """

    def __init__(self, epoch: str, partition: int) -> None:
        self._epoch = epoch
        self._key = f"{SEPARATOR}{epoch}{SEPARATOR}{partition}{SEPARATOR}"
        self._source = _long(partition) + _text(epoch)
        self._subjects: dict[Subject, tuple[bytes, bytes]] = {}
        """How the key and the value of a subject's panes begin."""
        self._middles: dict[tuple[str, str, str], tuple[Span, bytes]] = {}
        """Scope, start and segment as a key has them → the span, and how the value goes on to its stamp."""

    def write(self, span: Span, panes: Iterable[tuple[Subject, Counters]], stamp: int) -> Iterator[Record]:
        """The absolute values as of `stamp` of panes of one span, under their compaction keys, in their order."""
        starts_at, length_ms, segment = span
        key_end = f"{starts_at}{SEPARATOR}{segment}".encode()
        middle = _long(starts_at) + _long(length_ms) + _long(segment) + self._source + _long(stamp)
        if len(self._subjects) > _CACHED:
            self._subjects.clear()
        known, headers, names = self._subjects.get, _NO_HEADERS, _NAMES
        for subject, counters in panes:
            key, value = known(subject) or self._begin(subject)
            if len(counters) == 1:  # most panes of a quiet minute
                [(name, number)] = counters.items()
                if name in names and 0 <= number < 4096:
                    yield key + key_end, value + middle + b"\2" + names[name] + _LONGS[number] + b"\0", headers
                    continue
            yield key + key_end, value + middle + _map(counters), headers

    def read(self, key: bytes, value: bytes) -> Stamped:
        """What `read_pane` reads, by comparing the value's first part with what the key says it is."""
        scope, epoch, _, *ids, starts_at, segment = key.decode().split(SEPARATOR)
        subject: Any = (scope, *ids)
        _, begin = self._subjects.get(subject) or self._begin(subject)
        at = len(begin)
        found = self._middles.get((scope, starts_at, segment))
        if found is None or epoch != self._epoch or not value.startswith(found[1], at) or not value.startswith(begin):
            stamped = read_pane(value)
            middle = b"".join([_long(number) for number in stamped.span]) + self._source
            self._middles[scope, starts_at, segment] = (stamped.span, middle)
            return stamped
        span, middle = found
        stamp, at = _varint(value, at + len(middle))
        return Stamped(subject, span, epoch, stamp >> 1, _read_map(value, at))

    def _begin(self, subject: Subject) -> tuple[bytes, bytes]:
        key = subject[0] + self._key + SEPARATOR.join(subject[1:]) + SEPARATOR
        made = (key.encode(), _HEADER + b"".join([_text(text) if text else b"\0" for text in subject]))
        return self._subjects.setdefault(subject, made)


def _map(counters: Counters) -> bytes:
    if not counters:
        return b"\0"
    out = _LONGS[len(counters)]
    for name, number in counters.items():
        text = _NAMES.get(name) or _NAMES.setdefault(name, _text(name))
        out += text + (_LONGS[number] if 0 <= number < 4096 else _long(number))
    return out + b"\0"


def _text(text: str) -> bytes:
    body = text.encode()
    size = len(body)
    return (_LONGS[size] if size < 4096 else _long(size)) + body


def _long(number: int) -> bytes:
    rest = (number << 1) ^ (number >> 63)
    if rest < 0x80:
        return bytes((rest,))
    if rest < 0x4000:
        return bytes((rest & 127 | 128, rest >> 7))
    if rest < 0x20_0000:
        return bytes((rest & 127 | 128, rest >> 7 & 127 | 128, rest >> 14))
    out = bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_NO_HEADERS: Final[list[tuple[str, bytes]]] = []
_NAMES: dict[str, bytes] = {}
"""Counter names, of which there are a few dozen."""
_LONGS: Final = tuple(_long(number) for number in range(4096))


def member_record(
    epoch: str, partition: int, stamp: int, brand: str, member: str, tier: str, platforms: dict[str, int]
) -> Record:
    """A member's tier with the followers behind it, as of the change."""
    value = {
        "brand_id": brand,
        "member_id": member,
        "tier": tier,
        "followers": max(platforms.values()),
        "platforms": platforms,
        "partition": partition,
        "epoch": epoch,
        "stamp": stamp,
    }
    key = SEPARATOR.join(("member_tier", epoch, str(partition), brand, member))
    return key.encode(), encode("MemberTier", value), []


def stamp_of(value: bytes) -> tuple[str, int]:
    """The epoch and the stamp of any output record."""
    if not value.startswith(_HEADER):
        _, fields = decode(value)
        return fields["epoch"], fields["stamp"]
    at = len(_HEADER)
    for _ in range(7):
        size, at = _varint(value, at)
        at += size >> 1
    for _ in range(4):
        while value[at] > 127:
            at += 1
        at += 1
    size, at = _varint(value, at)
    end = at + (size >> 1)
    return _shared(value[at:end]), _varint(value, end)[0] >> 1


def is_pane(key: bytes) -> bool:
    """Whether an output record is a pane (else it is a member's tier)."""
    return not key.startswith(b"member_tier" + SEPARATOR.encode())


def place_of(key: bytes) -> tuple[str, int, int]:
    """Scope, start and segment of a pane, from its key alone."""
    scope, _, rest = key.partition(b"\x1f")
    _, starts_at, segment = rest.rsplit(b"\x1f", 2)
    return scope.decode(), int(starts_at), int(segment)


def read_pane(value: bytes) -> Stamped:
    """A pane from its value, of whatever release. Raises `DecodeError`."""
    if not value.startswith(_HEADER):
        _, fields = decode(value)
        return _from_fields(fields)
    at = len(_HEADER)
    parts: list[Any] = []
    for _ in range(7):
        size = value[at]
        at += 1
        if size:
            if size > 127:
                size, at = _varint(value, at - 1)
            end = at + (size >> 1)
            parts.append(_shared(value[at:end]))
            at = end
        else:
            parts.append("")
    starts_at, at = _varint(value, at)
    length, at = _varint(value, at)
    segment, at = _varint(value, at)
    _partition, at = _varint(value, at)
    size, at = _varint(value, at)
    end = at + (size >> 1)
    epoch = _shared(value[at:end])
    stamp, at = _varint(value, end)
    span = ((starts_at >> 1) ^ -(starts_at & 1), length >> 1, (segment >> 1) ^ -(segment & 1))
    return Stamped(tuple(parts), span, epoch, stamp >> 1, _read_map(value, at))


def _read_map(value: bytes, at: int) -> Counters:
    counters: Counters = {}
    count, at = _varint(value, at)
    while count:
        for _ in range(count >> 1):
            size = value[at]
            at += 1
            if size > 127:
                size, at = _varint(value, at - 1)
            end = at + (size >> 1)
            name = _shared(value[at:end])
            number, at = _varint(value, end)
            counters[name] = (number >> 1) ^ -(number & 1)
        count, at = _varint(value, at)
    return counters


def _from_fields(fields: dict[str, Any]) -> Stamped:
    names = ("scope", "brand_id", "campaign_id", "tier", "member_id", "platform", "post_id")
    span = (fields["starts_at"], fields["length_ms"], fields["segment"])
    subject: Any = tuple(fields[name] for name in names)
    return Stamped(subject, span, fields["epoch"], fields["stamp"], fields["counters"])


def _varint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    at += 1
    if byte < 128:
        return byte, at
    value = byte & 127
    shift = 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


_STRINGS: dict[bytes, str] = {}


def _shared(body: bytes) -> str:
    """One string object for equal bytes: a million panes have few names among them."""
    text = _STRINGS.get(body)
    if text is None:
        if len(_STRINGS) > _CACHED:
            _STRINGS.clear()
        text = _STRINGS[body] = body.decode()
    return text
