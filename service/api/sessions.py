"""Who is signed in to the console: a cookie that names an API key, signed with the secret of the settings."""

from __future__ import annotations

import hmac
from typing import Final, NamedTuple

from service.api_keys import Key, Keys

COOKIE: Final = "groundswell_console"
SECONDS: Final = 12 * 3_600
"""How long one stays signed in."""


class Session(NamedTuple):
    """Who is signed in, and until when (epoch ms)."""

    key: Key
    until: int


def issue(secret: bytes, key: Key, now_ms: int) -> str:
    """What the cookie says from now on."""
    said = f"{key.id}.{now_ms + SECONDS * 1_000}"
    return f"{said}.{_signature(secret, said)}"


def session_of(secret: bytes, keys: Keys, cookie: str, now_ms: int) -> Session | None:
    """What a cookie says; None for one that is made up or too old, or when the key is no good any more."""
    said, _, signature = cookie.rpartition(".")
    if not secret or not hmac.compare_digest(signature.encode(), _signature(secret, said).encode()):
        return None
    key_id, _, until = said.partition(".")
    key = keys.all().get(key_id)
    return Session(key, int(until)) if key is not None and int(until) > now_ms and key.revoked_at is None else None


def _signature(secret: bytes, said: str) -> str:
    return hmac.digest(secret, f"{COOKIE} {said}".encode(), "sha256").hex()
