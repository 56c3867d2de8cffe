"""`groundswell schemas register` against a registry that answers as Confluent's documentation says."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

import pytest
from fastavro import parse_schema

from schemas.catalogue import RECORD_TYPES, released
from schemas.topics import TOPICS
from service import schema_registry
from service.problems import Unusable

PASSWORD = "p4ss"


class Registry(ThreadingHTTPServer):
    """Subjects with their versions and compatibility, in memory."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.ids: dict[str, int] = {}
        self.subjects: dict[str, list[str]] = {}
        self.compatibility: dict[str, str] = {}
        self.refused: set[str] = set()
        self.users: set[str] = set()
        self.asked = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def put(self, subject: str, body: dict[str, Any]) -> tuple[int, Any]:
        """A compatibility."""
        if body["compatibility"] != "FULL_TRANSITIVE":
            return 422, {"error_code": 42203, "message": "Invalid compatibility level"}
        self.compatibility[subject] = body["compatibility"]
        return 200, body

    def post(self, subject: str, body: dict[str, Any]) -> tuple[int, Any]:
        """A version."""
        if subject in self.refused:
            return 409, {"error_code": 409, "message": "Schema being registered is incompatible"}
        assert body["schemaType"] == "AVRO"
        text = json.dumps(json.loads(body["schema"]), sort_keys=True)
        parse_schema(json.loads(text))
        known = self.subjects.setdefault(subject, [])
        if text not in known:
            known.append(text)
        return 200, {"id": self.ids.setdefault(text, len(self.ids) + 1)}


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: Registry
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.answer(self.server.put if self.path.startswith("/config/") else None, self.path.split("/")[-1])

    def do_POST(self) -> None:
        is_it = self.path.startswith("/subjects/") and self.path.endswith("/versions")
        self.answer(self.server.post if is_it else None, self.path.split("/")[2])

    def answer(self, act: Any, subject: str) -> None:
        self.server.asked += 1
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        given = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        if self.server.users and given not in self.server.users:
            status, said = 401, {"error_code": 401, "message": "Unauthorized"}
        elif act is None:
            status, said = 404, {"error_code": 404, "message": "HTTP 404 Not Found"}
        else:
            assert self.headers["Content-Type"] == "application/vnd.schemaregistry.v1+json"
            status, said = act(unquote(subject), body)
        content = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as made:
        thread = Thread(target=made.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def run(address: str, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GROUNDSWELL_")}
    environment |= {"GROUNDSWELL_SCHEMA_REGISTRY": address} if address else {}
    command = [sys.executable, "-m", "service", "schemas", "register", *more]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_every_version_of_every_type_is_registered_under_each_of_its_topics(registry: Registry) -> None:
    done = run(registry.address, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    expected = {
        f"{topic.name}-groundswell.{name}": [json.dumps(one, sort_keys=True) for one in released()[name].values()]
        for topic in TOPICS
        for name in topic.record_types
    }
    assert registry.subjects == expected
    assert set(registry.compatibility) == set(expected)
    told = json.loads(done.stdout)["registered"]
    assert sorted((one["subject"], one["version"]) for one in told) == sorted(
        (subject, number) for subject, versions in expected.items() for number in range(1, len(versions) + 1)
    )
    assert all(one["problem"] == "" and one["id"] >= 1 for one in told)
    assert len(told) > len(RECORD_TYPES)


def test_again_it_changes_nothing(registry: Registry) -> None:
    first = list(schema_registry.register(registry.address))
    there = {subject: list(versions) for subject, versions in registry.subjects.items()}
    assert list(schema_registry.register(f"{registry.address}/")) == first
    assert registry.subjects == there


def test_what_a_subject_refuses_is_told_and_the_others_are_registered(registry: Registry) -> None:
    registry.refused = {"members.activity.v1-groundswell.ReferralDue"}
    done = run(registry.address)
    assert done.returncode == 1
    assert "409: Schema being registered is incompatible" in " ".join(done.stdout.split())
    told = {one.subject: one for one in schema_registry.register(registry.address)}
    (refused,) = (one for one in told.values() if one.problem)
    assert (refused.subject, refused.version, refused.id) == (*registry.refused, 1, None)
    assert len(registry.subjects) == len(told) - 1


def test_one_gets_in_by_the_address_and_no_password_is_said(registry: Registry) -> None:
    registry.users = {f"me:{PASSWORD}"}
    with_user = registry.address.replace("//", f"//me:{PASSWORD}@")
    assert run(with_user).returncode == 0
    for address in (registry.address, with_user.replace(PASSWORD, f"{PASSWORD}x")):
        done = run(address)
        assert done.returncode == 2
        assert "does not let us in (401)" in done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("", "GROUNDSWELL_SCHEMA_REGISTRY is not set"),
        ("nowhere", "does not answer"),
        ("ftp://127.0.0.1", "does not answer"),
        ("http://[::1", "GROUNDSWELL_SCHEMA_REGISTRY: "),
        ("http://127.0.0.1:{closed}", "does not answer"),
    ],
)
def test_an_address_where_no_registry_is_ends_with_one_line(address: str, why: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        done = run(address.format(closed=closed.getsockname()[1]))
    assert done.returncode == 2, done.stderr
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_is_no_registry_is_told_apart(registry: Registry) -> None:
    with pytest.raises(Unusable, match=r"answers PUT /config/.* with 404, and not as a registry"):
        list(schema_registry.register(f"{registry.address}/elsewhere"))
    assert registry.asked == 1


@pytest.mark.parametrize("status", [200, 301, 429, 500, 503])
def test_no_answer_counts_as_registered_or_refused_that_is_neither(registry: Registry, status: int) -> None:
    registry.post = lambda _subject, _body: (status, {"message": "something"})  # type: ignore[method-assign]
    with pytest.raises(Unusable, match=f"answers POST /subjects/.* with {status}"):
        list(schema_registry.register(registry.address))


@pytest.mark.parametrize(
    "address",
    [
        "http://me:{}@x@127.0.0.1:1", "me:{}@127.0.0.1:1", "http://me:a/{}@127.0.0.1:1", "HTTP://me:{}@127.0.0.1:1",
        "http://me:{}@127.0.0.1:1/base?x=1",
    ],
)  # fmt: skip
def test_no_part_of_a_password_is_said(address: str) -> None:
    done = run(address.format(PASSWORD))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert PASSWORD not in done.stdout + done.stderr
