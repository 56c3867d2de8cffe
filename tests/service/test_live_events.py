"""Live events over HTTP: what is on the wire, coming back with an id, readers that stall, and the end of the server."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from live_world import World, parsed, rewarded
from serving import running

from aggregates.ledger import account_id
from service.api import events as api_events
from service.api import live_readers
from service.api import server as api_server
from service.problems import MEDIA_TYPE
from service.settings import Settings

ANN = account_id("acme", "ann")


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    made = World(settings.database)
    yield made
    made.close()


class Earning:
    """Members who earn, one share after another."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.number = 100

    def __call__(self, *members: str, points: int = 7) -> int:
        """Each of these earns; the position then."""
        events = []
        for member in members:
            self.number += 1
            event = rewarded(self.number, points)
            events.append((account_id("acme", member), event))
        self.world.append(events)
        return self.world.project()


@pytest.fixture
def earn(world: World) -> Earning:
    return Earning(world)


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.01)


class Stream:
    """One connection, read by a thread."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.text = ""
        self.ended = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for piece in self.answer.iter_text():
                self.text += piece
        except httpx.HTTPError:
            pass
        finally:
            self.ended.set()

    def events(self) -> list[dict[str, str]]:
        """What came, whole events only."""
        whole = self.text[: self.text.rfind("\n\n") + 2]
        return [event for event in parsed(whole) if "data" in event]

    def wait(self, count: int) -> list[dict[str, str]]:
        until(lambda: len(self.events()) >= count)
        return self.events()


@contextmanager
def following(port: int, query: str = "", headers: dict[str, str] | None = None) -> Iterator[Stream]:
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
        client.stream("GET", f"/v1/events{query}", headers=headers) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in answer.headers
        yield Stream(answer)


def test_a_change_is_sent_as_the_body_of_the_balance_route_and_as_a_score(settings: Settings, earn: Earning) -> None:
    with running(settings) as (_, port), following(port, "?brand=acme") as stream:
        until(lambda: "id: 6" in stream.text)
        position = earn("ann")
        balance, standing = stream.wait(2)
        assert (balance["event"], standing["event"], standing["id"]) == ("balance", "standing", str(position))
        asked = httpx.get(f"http://127.0.0.1:{port}/v1/brands/acme/members/ann/balance").json()
        assert json.loads(balance["data"]) == asked
        assert json.loads(standing["data"]) == {
            "brand": "acme", "campaign": "spring", "member_id": "ann", "metric": "points", "score": 57,
            "tier": "nano", "rank": None, "final": False, "position": position,
        }  # fmt: skip


def test_who_comes_back_gets_what_was_missed_by_header_or_parameter(settings: Settings, earn: Earning) -> None:
    with running(settings) as (_, port):
        with following(port) as stream:
            earn("ann")
            last = stream.wait(2)[-1]["id"]
        earn("bob")
        for query, headers in (("", {"Last-Event-ID": last}), (f"?last_event_id={last}", {})):
            with following(port, query, headers) as again:
                bodies = [json.loads(event["data"]) for event in again.wait(2)]
                assert {body["member_id"] for body in bodies} == {"bob"}
        with following(port, "?last_event_id=0&types=balances") as everything:
            assert {json.loads(event["data"])["member_id"] for event in everything.wait(2)} == {"ann", "bob"}


def test_only_what_was_asked_for_is_sent(settings: Settings, earn: Earning) -> None:
    with (
        running(settings) as (_, port),
        following(port, "?brand=acme&member=bob&types=balances") as bob,
        following(port, "?brand=acme&campaign=spring") as spring,
        following(port, "?types=balances,standings") as everything,
    ):
        for stream in (bob, spring, everything):
            until(lambda stream=stream: "id: 6" in stream.text)  # type: ignore[misc]
        earn("ann", "bob")
        everything.wait(4)
        earn("bob")
        everything.wait(6)
        assert [json.loads(event["data"])["active"] for event in bob.wait(2)] == [57, 64]
        assert {event["event"] for event in spring.wait(3)} == {"standing"}


def test_a_silent_stream_has_heartbeats_with_the_position(
    settings: Settings, earn: Earning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_events, "HEARTBEAT_SECONDS", 0.05)
    with running(settings) as (_, port), following(port, "?brand=acme&member=nobody") as stream:
        position = earn("ann")
        until(lambda: f": heartbeat\nid: {position}\n" in stream.text)
        assert stream.events() == []


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("?last_event_id=soon", 422, "invalid_position"),
        ("?last_event_id=-1", 422, "invalid_position"),
        ("?last_event_id=" + "9" * 30, 422, "invalid_position"),
        ("?last_event_id=7", 504, "position_not_reached"),
        ("?types=coupons", 422, "invalid_request"),
        ("?types=", 422, "invalid_request"),
        ("?member=ann", 422, "invalid_request"),
        ("?campaign=spring", 422, "invalid_request"),
        ("?brand=nope", 404, "unknown_brand"),
        ("?brand=acme&campaign=nope", 404, "unknown_campaign"),
        ("?brand=" + "b" * 201, 422, "invalid_request"),
    ],
)
def test_what_cannot_be_followed_is_a_problem(shared_settings: Settings, query: str, status: int, code: str) -> None:
    with running(shared_settings) as (_, port):
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/events{query}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == MEDIA_TYPE


def test_the_server_ends_at_once_though_readers_follow(settings: Settings) -> None:
    with running(settings) as (server, port), following(port) as first, following(port, "?brand=acme") as second:
        until(lambda: first.text.endswith("\n\n") and second.text.endswith("\n\n"))
        started = time.monotonic()
        server.should_exit = True
        assert first.ended.wait(20)
        assert second.ended.wait(20)
        assert time.monotonic() - started < api_server.STOP_SECONDS, "nobody had to be cut off"


@contextmanager
def stalling(port: int) -> Iterator[socket.socket]:
    """A reader that takes nothing."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", port))
        one.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        yield one


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system keeps little of what is sent and not taken."""
    bind = api_server.Server.bind

    def bound(self: Any) -> socket.socket:
        made = bind(self)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return made

    monkeypatch.setattr(api_server.Server, "bind", bound)
    monkeypatch.setattr(live_readers, "LIMIT", 200)


@pytest.mark.usefixtures("narrow")
def test_a_reader_that_stalls_is_told_where_to_come_back_and_the_others_miss_nothing(
    settings: Settings, earn: Earning
) -> None:
    members = [f"m{number}" for number in range(100)]
    with running(settings) as (_, port), following(port) as quick, stalling(port) as slow:
        until(lambda: "id: 6" in quick.text)
        heard = b""
        while b"id: 6" not in heard:
            heard += slow.recv(200)
        for count in range(1, 9):
            earn(*members)
            assert len(quick.wait(count * 200)) == count * 200
        slow.settimeout(10)
        while piece := slow.recv(65_536):
            heard += piece
            if b"event: dropped" in heard:
                break
        dropped = heard[heard.index(b"event: dropped") :].decode()
        said = json.loads(dropped[dropped.index("{") : dropped.index("}") + 1])
        assert 6 <= said["resume_from"] < 806
        with following(port, f"?last_event_id={said['resume_from']}") as again:
            wanted = {name: 56 for name in members}

            def is_whole() -> bool:
                bodies = [json.loads(event["data"]) for event in again.events() if event["event"] == "balance"]
                return {body["member_id"]: body["active"] for body in bodies} == wanted

            until(is_whole)


@pytest.mark.usefixtures("narrow")
def test_a_connection_that_takes_nothing_for_long_is_cut(
    settings: Settings, earn: Earning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_server, "STALLED_MS", 500)
    with running(settings) as (server, port), stalling(port):
        until(lambda: bool(server.server_state.tasks))
        for _ in range(8):
            earn(*[f"m{number}" for number in range(100)])
        until(lambda: not server.server_state.connections)
