"""API keys: one file that has each key's hash, brand and scope, and tells whose key a token is.

A token is 256 random bits, so one SHA-256 of it is as good as a slow hash: there is no dictionary to try.
"""

from __future__ import annotations

import fcntl
import hmac
import ipaddress
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from service.problems import Refusal, Unusable

if TYPE_CHECKING:
    from service.settings import Settings

EVERY_BRAND: Final = "*"
"""The brand of an operator's key."""
MARK: Final = "gsk"
"""What a token begins with, so that one that was left somewhere is recognised. Then come `_ID_` and its secret."""
_NO_DIGEST: Final = "0" * 64


class Scope(StrEnum):
    """What a key may do; each has what stands before it too."""

    READ = "read"
    REDEEM = "redeem"
    ADMIN = "admin"

    def has(self, other: Scope) -> bool:
        """Whether whoever has this scope may do what asks for the other one."""
        order = list(Scope)
        return order.index(self) >= order.index(other)


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    """An API key as it is kept: without its secret."""

    id: Annotated[str, Meta(pattern="^[0-9a-z]+$")]
    """The part of the token by which it is looked up; it may be shown and logged."""
    brand: str
    scope: Scope
    created_at: str
    """ISO 8601, like `revoked_at`."""
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the whole token."""
    revoked_at: str | None = None

    def sees(self, brand: str) -> bool:
        """Whether a brand is this key's own; every brand is an operator's."""
        return self.brand in (EVERY_BRAND, brand)

    @property
    def is_operators(self) -> bool:
        """Whether it is good for all there is: every brand, and mending what is broken."""
        return self.brand == EVERY_BRAND and self.scope is Scope.ADMIN

    def check(self, brand: str) -> None:
        """Raises `Refusal` for a brand that is not the key's own, whether there is such a brand or not."""
        if not self.sees(brand):
            raise Refusal("other_brand", f"The API key {self.id} is for the brand {self.brand} alone.")

    def shown(self) -> dict[str, Any]:
        """What anybody may see of it."""
        return {name: value for name, value in msgspec.to_builtins(self).items() if name != "digest"}

    @property
    def asker(self) -> str:
        """What the ledger notes as who asked."""
        return "api" if self is NOBODYS else f"api/{self.id}"


NOBODYS: Final = Key(id="none", brand=EVERY_BRAND, scope=Scope.ADMIN, created_at="", digest=_NO_DIGEST)
"""Whoever asks where no keys are configured, which is on loopback only."""


class _File(Struct, forbid_unknown_fields=True):
    keys: list[Key]


class Keys:
    """The keys of a file, read again whenever it changes, so that a revocation holds from the next request on."""

    def __init__(self, path: Path) -> None:
        """The file need not be there yet: until it is, no key is good."""
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._by_id: dict[str, Key] = {}

    def authenticate(self, token: str) -> Key | None:
        """The key that a token is, None for one that is none or was revoked. Raises `Unusable` as `all` does."""
        mark, _, rest = token.partition("_")
        key = self.all().get(rest.partition("_")[0]) if mark == MARK else None
        is_it = hmac.compare_digest(_digest(token), _NO_DIGEST if key is None else key.digest)
        return key if is_it and key is not None and key.revoked_at is None else None

    def holds(self, key: Key) -> bool:
        """Whether a key is still as it was when it came; not while its file cannot be read."""
        try:
            return self.all().get(key.id) == key
        except Unusable:
            return False

    def all(self) -> Mapping[str, Key]:
        """Every key by id, those that were revoked too. Raises `Unusable` for a file that cannot be read."""
        try:
            stat = os.stat(self.path)
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen != self._seen:
                self._by_id = {key.id: key for key in msgspec.json.decode(self.path.read_bytes(), type=_File).keys}
                self._seen = seen
        except FileNotFoundError:
            self._by_id, self._seen = {}, None
        except OSError as error:
            raise Unusable(f"{self.path}: the API keys cannot be read: {error.strerror}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unusable(f"{self.path} is no file of API keys: {error}") from None
        return self._by_id

    def create(self, brand: str, scope: Scope, at: str) -> tuple[Key, str]:
        """A new key and its token, which is kept nowhere. `at`: now, ISO 8601. Raises `Unusable`, OSError."""
        with self._writing() as keys:
            key_id = secrets.token_hex(6)
            token = f"{MARK}_{key_id}_{secrets.token_urlsafe(32)}"
            key = Key(id=key_id, brand=brand, scope=scope, created_at=at, digest=_digest(token))
            keys[key_id] = key
        return key, token

    def revoke(self, key_id: str, at: str) -> Key:
        """The key, which is no good from now on; again changes nothing. Raises `Unusable` for an unknown id."""
        with self._writing() as keys:
            if key_id not in keys:
                raise Unusable(f"{self.path} has no key `{key_id}`: `groundswell keys list` shows the ids")
            if keys[key_id].revoked_at is None:
                keys[key_id] = msgspec.structs.replace(keys[key_id], revoked_at=at)
        return keys[key_id]

    @contextmanager
    def _writing(self) -> Iterator[dict[str, Key]]:
        """The keys to be changed, by one process at a time; then the file is there as a whole, or as it was."""
        path = self.path.resolve()
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            keys = dict(self.all())
            yield keys
            part = path.with_name(f"{path.name}.part")
            part.unlink(missing_ok=True)
            content = msgspec.json.encode(_File(list(keys.values())))
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(msgspec.json.format(content, indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            os.fsync(folder)
        finally:
            os.close(folder)


def _digest(token: str) -> str:
    return sha256(token.encode("utf-8", "replace")).hexdigest()


def known_keys(settings: Settings) -> str:
    """What there is of API keys, for a person. Raises `Unusable` for an open address without any, or a bad file."""
    if settings.api_keys_file is None:
        if not is_loopback(settings.host):
            raise Unusable(
                f"GROUNDSWELL_HOST is {settings.host}, and without API keys the API listens on loopback only: name "
                "their file in GROUNDSWELL_API_KEYS_FILE (`groundswell keys create` makes one), or leave it out"
            )
        return "none are configured, so on loopback only"
    good = sum(key.revoked_at is None for key in Keys(settings.api_keys_file).all().values())
    if not good:
        return f"none in {settings.api_keys_file} yet, so every request is refused: `groundswell keys create` makes one"
    return f"{good} in {settings.api_keys_file}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name other than localhost may be anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
