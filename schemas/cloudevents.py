"""CloudEvents 1.0 headers of a record (Kafka binding, binary mode): written on all that we publish, never required."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

SOURCE: Final = "/groundswell"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def headers(record_type: str, value: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """The headers `ce_specversion`, `ce_id`, `ce_type`, `ce_source` and `ce_time` of a record with an event id.

    The source is a URI reference, so whatever the brand's id may hold is percent-encoded in it.
    """
    occurred = _EPOCH + timedelta(milliseconds=value["occurred_at"])
    named = {
        "ce_specversion": "1.0",
        "ce_id": value["event_id"],
        "ce_type": f"groundswell.{record_type}",
        "ce_source": f"{SOURCE}/{quote(value['brand_id'], safe='')}",
        "ce_time": f"{occurred:%Y-%m-%dT%H:%M:%S}.{occurred.microsecond // 1000:03}Z",
    }
    return [(name, text.encode()) for name, text in named.items()]
