"""What every stored event is made of: an immutable value, and the record of the activity log that it comes from."""

from __future__ import annotations

import msgspec


class Stored(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A stored value: immutable, JSON by field name, so a field with a default can be added later."""


class Origin(Stored, frozen=True):
    """Which record of the activity log an event comes from, when that happened and when it was recorded."""

    topic: str
    partition: int
    offset: int
    event_id: str
    occurred_at: int
    recorded_at: int
