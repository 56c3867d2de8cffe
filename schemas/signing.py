"""Signatures of internal records, so that whoever may publish a like may not mint points.

A trusted record (see `topics.TRUSTED`) carries `SIGNATURE_HEADER` with the HMAC-SHA256 of its key and value.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

SIGNATURE_HEADER: Final = "groundswell-signature"
"""Name of the Kafka header with the signature, 32 raw bytes."""


def sign(secret: bytes, key: bytes, value: bytes) -> bytes:
    """The 32-byte signature of a record.

    The key's length is signed too, so that no byte can move between key and value. Raises ValueError without a secret.
    """
    if not secret:
        raise ValueError("the signing secret is empty: set one before internal records are sent or read")
    return hmac.digest(secret, len(key).to_bytes(4, "big") + key + value, hashlib.sha256)


def verify(secret: bytes, key: bytes, value: bytes, signature: bytes | None) -> bool:
    """Whether the signature is that of this key and value, compared in constant time; None is never good."""
    return signature is not None and hmac.compare_digest(sign(secret, key, value), signature)
