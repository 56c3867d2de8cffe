"""Registers our schemas with a Confluent-compatible schema registry, for tools that look them up there.

The records need none: each names its schema by its fingerprint, in Avro single-object encoding. The API is that of
https://docs.confluent.io/platform/current/schema-registry/develop/api.html; a topic here holds records of several
types, so a subject is named by topic and record (its `TopicRecordNameStrategy`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx

from schemas.catalogue import Schema, catalogue, crc64, released
from service.problems import Unusable
from service.settings import without_user

MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
COMPATIBILITY: Final = "FULL_TRANSITIVE"
"""As `schemas check` has it: every version reads what every other one wrote."""
SECONDS: Final = 10.0
"""How long an answer may take."""


class Registered(NamedTuple):
    """What became of one version of one subject."""

    subject: str
    version: int
    """Ours: they are registered in this order."""
    id: int | None
    """The registry's id of the schema; None where it was refused."""
    problem: str
    """Why it was refused; else empty."""


def register(address: str) -> Iterator[Registered]:
    """Register every version of every record type under each of its topics, one after the other.

    Again, it changes nothing. A subject that refuses a version gets none after it. Raises `Unusable` when nothing at
    the address answers as a registry does, or it does not let us in.
    """
    try:
        client = httpx.Client(base_url=address, timeout=SECONDS, headers={"Accept": MEDIA_TYPE})
        if client.base_url.query:
            raise ValueError
    except (httpx.InvalidURL, ValueError):  # whose words may have a part of a password
        raise Unusable(
            f"GROUNDSWELL_SCHEMA_REGISTRY: {without_user(address)} is not like http://USER:PASSWORD@HOST:8081/PATH, "
            "with percent-encoding for what means something in an address"
        ) from None
    with client:
        for subject, versions in _subjects():
            yield from _registered(_Registry(client, address), subject, versions)


def _subjects() -> Iterator[tuple[str, dict[int, Schema]]]:
    for entry in catalogue():
        versions = dict(released()[entry.record_type])
        if crc64(entry.schema) not in map(crc64, versions.values()):
            versions[entry.version + 1] = entry.schema
        name = f"{entry.schema['namespace']}.{entry.record_type}"
        yield from ((f"{topic}-{name}", versions) for topic in entry.topics)


def _registered(registry: _Registry, subject: str, versions: dict[int, Schema]) -> Iterator[Registered]:
    at = quote(subject, safe="")
    _, problem = registry.ask("PUT", f"/config/{at}", {"compatibility": COMPATIBILITY})
    for version, schema in versions.items():
        found: dict[str, Any] = {}
        if not problem:
            asked = {"schemaType": "AVRO", "schema": json.dumps(schema, ensure_ascii=False)}
            found, problem = registry.ask("POST", f"/subjects/{at}/versions", asked)
        yield Registered(subject, version, found.get("id"), problem)
        if problem:
            return


class _Registry:
    """What answers at an address."""

    def __init__(self, client: httpx.Client, address: str) -> None:
        self._client = client
        self._where = f"the schema registry at {without_user(address)}"

    def ask(self, method: str, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Its answer and nothing, or nothing and why it refuses. Raises `Unusable`."""
        try:
            answer = self._client.request(method, path, content=json.dumps(body), headers={"Content-Type": MEDIA_TYPE})
        except (httpx.RequestError, httpx.InvalidURL, UnicodeError) as error:
            raise Unusable(f"{self._where} does not answer: {str(error) or type(error).__name__}") from None
        status = answer.status_code
        if status in (401, 403):
            raise Unusable(f"{self._where} does not let us in ({status}): name a user in the address")
        try:
            said = answer.json()
        except ValueError:
            said = None
        if isinstance(said, dict) and answer.is_success and (method == "PUT" or isinstance(said.get("id"), int)):
            return said, ""
        if isinstance(said, dict) and status in (409, 422):
            return {}, f"{status}: {said.get('message') or 'no reason is given'}"
        raise Unusable(f"{self._where} answers {method} {path} with {status}, and not as a registry that takes schemas")
