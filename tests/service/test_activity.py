"""Publishing over HTTP to a real broker: each outcome, what is on the log, other brands, a broker that dies."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import own_broker
import pytest
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from serving import serving

from schemas.codec import decode
from schemas.topics import ACTIVITY
from service.api import activity, publishing
from service.api.activity_bodies import EVENTS
from service.api.errors import MAX_ACTIVITY
from service.api_keys import Keys, Scope
from service.broker import kafka, publisher, topic_admin
from service.problems import MEDIA_TYPE
from service.settings import Settings
from streams.archive import live

LIKES = "/v1/activity/interactions"
ORDER: dict[str, Any] = {
    "event_id": "order-1",
    "occurred_at": "2026-03-02T10:00:00Z",
    "brand_id": "acme",
    "member_id": "ann",
    "order_id": "1",
    "kind": "completed",
    "amount_minor": 5_990,
    "currency": "EUR",
}


def like(event_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "occurred_at": "2026-03-02T10:00:00Z",
        "brand_id": "acme",
        "member_id": "ann",
        "surface": "member_post",
        "kind": "like",
        "quantity": 1,
        "platform": "x",
        **changes,
    }


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with own_broker.running() as found:
        asyncio.run(topic_admin.create(Settings(kafka=found, partitions=2)))
        yield found


def on(address: str, settings: Settings) -> Settings:
    """The same settings with a Kafka."""
    return Settings(**{**settings.model_dump(), "kafka": address, "partitions": 2})


@pytest.fixture(scope="module")
def with_kafka(shared_settings: Settings, address: str) -> Settings:
    return on(address, shared_settings)


@pytest.fixture(scope="module")
def client(with_kafka: Settings) -> Iterator[httpx.Client]:
    with serving(with_kafka) as client:
        yield client


def stored(address: str, position: str) -> tuple[str, dict[str, Any], dict[str, bytes], bytes]:
    """Record type, value, headers and key of what stands at `partition:offset` of the log."""

    async def fetch() -> Any:
        partition, offset = map(int, position.split(":"))
        consumer = AIOKafkaConsumer(bootstrap_servers=address, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign([TopicPartition(ACTIVITY, partition)])
            consumer.seek(TopicPartition(ACTIVITY, partition), offset)
            return await asyncio.wait_for(consumer.getone(), 20)
        finally:
            await consumer.stop()

    found = asyncio.run(fetch())
    assert found.offset == int(position.split(":")[1])
    return *decode(found.value), dict(found.headers), found.key


def test_a_record_is_on_the_log_when_it_is_accepted(client: httpx.Client, address: str):
    answer = client.post("/v1/activity/purchases", json=ORDER)
    assert answer.status_code == 200
    body = answer.json()
    (one,) = body["records"]
    assert body == {"accepted": 1, "refused": 0, "position": one["position"], "records": [one]}
    assert (one["index"], one["event_id"]) == (0, "order-1")
    record_type, value, headers, key = stored(address, one["position"])
    assert (record_type, value["order_id"], value["amount_minor"]) == ("Purchase", "1", 5_990)
    assert value["occurred_at"] == 1_772_445_600_000
    assert (key, headers["ce_id"]) == (b"acme/ann", b"order-1")


@pytest.mark.parametrize(
    ("what", "record", "record_type"),
    [("interactions", like("a"), "Interaction"), ("purchases", ORDER, "Purchase"),
     ("profiles", {"event_id": "p", "occurred_at": 1_772_445_600_000, "brand_id": "acme", "member_id": "ann",
                   "platform": "x", "followers": 700}, "ProfileSnapshot"),
     ("enrolments", {"event_id": "j", "occurred_at": 1_772_445_600_000, "brand_id": "acme", "member_id": "ann",
                     "campaign_id": "spring", "kind": "joined"}, "Enrolment")],
)  # fmt: skip
def test_each_route_takes_its_record_type(
    client: httpx.Client, address: str, what: str, record: dict[str, Any], record_type: str
):
    answer = client.post(f"/v1/activity/{what}", json=record)
    assert answer.status_code == 200, answer.text
    assert stored(address, answer.json()["position"])[0] == record_type
    other = "purchases" if what != "purchases" else "profiles"
    assert client.post(f"/v1/activity/{other}", json=record).status_code == 422


def test_a_members_records_keep_their_order_and_the_position_is_the_last_of_each_partition(client: httpx.Client):
    batch = [like(f"o{n}", member_id=("ann", "bob", "cas", "dan")[n % 4]) for n in range(400)]
    body = client.post(LIKES, json=batch).json()
    assert (body["accepted"], body["refused"]) == (400, 0)
    places = [tuple(map(int, one["position"].split(":"))) for one in body["records"]]
    assert [one["event_id"] for one in body["records"]] == [one["event_id"] for one in batch]
    for member in range(4):
        mine = places[member::4]
        assert len({partition for partition, _ in mine}) == 1
        assert mine == sorted(mine)
    last = {partition: max(offset for p, offset in places if p == partition) for partition, _ in places}
    assert body["position"] == ",".join(f"{partition}:{offset}" for partition, offset in sorted(last.items()))


def test_a_batch_with_bad_records_says_of_each_what_became_of_it(client: httpx.Client, address: str):
    batch = [like("g1"), like("b1", kind="lik"), 5, like("b2", brand_id="nope"), like("g2")]
    answer = client.post(LIKES, json=batch)
    assert answer.status_code == 207
    body = answer.json()
    assert (body["accepted"], body["refused"]) == (2, 3)
    first, second, third, fourth, fifth = body["records"]
    assert [one["index"] for one in body["records"]] == [0, 1, 2, 3, 4]
    assert [stored(address, one["position"])[1]["event_id"] for one in (first, fifth)] == ["g1", "g2"]
    assert (second["code"], second["field"]) == ("invalid", "kind")
    assert "give one of like" in second["detail"]
    assert (third["code"], third.get("field")) == ("invalid", None)
    assert (fourth["code"], fourth["field"]) == ("unknown_brand", "brand_id")


def test_when_all_records_are_bad_it_is_a_problem_that_says_so_of_each(client: httpx.Client):
    answer = client.post(LIKES, json=[like("x", quantity="1"), like("y", followers=-1)])
    assert answer.status_code == 422
    assert answer.headers["content-type"] == MEDIA_TYPE
    body = answer.json()
    assert (body["code"], body["accepted"], body["refused"]) == ("no_record_accepted", 0, 2)
    assert [one["field"] for one in body["records"]] == ["quantity", "followers"]


def test_cloud_events_are_taken_one_or_many(client: httpx.Client, address: str):
    data = {name: value for name, value in ORDER.items() if name not in ("event_id", "occurred_at")}
    event = {"specversion": "1.0", "id": "ce-1", "source": "https://shop.example", "type": "groundswell.Purchase",
             "time": "2026-03-02T11:00:00+01:00", "data": data}  # fmt: skip
    headers = {"Content-Type": EVENTS}
    many = client.post("/v1/activity/purchases", content=json.dumps([event, event | {"id": ""}]), headers=headers)
    assert many.status_code == 207
    _, value, kept, _ = stored(address, many.json()["records"][0]["position"])
    assert (value["event_id"], value["occurred_at"], kept["ce_type"]) == (
        "ce-1",
        1_772_445_600_000,
        b"groundswell.Purchase",
    )
    binary = {"Ce-Specversion": "1.0", "Ce-Id": "ce-2", "Ce-Source": "/shop", "Ce-Type": "groundswell.Purchase",
              "Ce-Time": "2026-03-02T10:00:00Z"}  # fmt: skip
    one = client.post("/v1/activity/purchases", json=data, headers=binary)
    assert one.status_code == 200, one.text
    assert stored(address, one.json()["position"])[1]["event_id"] == "ce-2"


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [(b"{}", "text/plain", (415, "unsupported_media_type")), (b"{", "application/json", (422, "invalid_request")),
     (b"[]", "application/json", (422, "invalid_request")), (b"[{}]", "application/json", (422, "no_record_accepted")),
     (b"[" * 100_000, "application/json", (422, "invalid_request")),
     (b'{"\\ud800": 1}', "application/json", (422, "no_record_accepted")),
     (b"[" + b"{}," * 1_000 + b"{}]", "application/json", (413, "too_large")),
     (b" " * (MAX_ACTIVITY + 1), "application/json", (413, "too_large"))],
)  # fmt: skip
def test_a_body_that_is_no_good_is_a_problem(
    client: httpx.Client, body: bytes, content_type: str, expected: tuple[int, str]
):
    answer = client.post(LIKES, content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == expected
    assert answer.headers["content-type"] == MEDIA_TYPE


def test_a_large_body_is_read(client: httpx.Client):
    padding = b" " * (MAX_ACTIVITY - 1_000)
    answer = client.post(LIKES, content=json.dumps(like("large")).encode() + padding,
                         headers={"Content-Type": "application/json"})  # fmt: skip
    assert answer.status_code == 200


def test_a_key_publishes_for_its_brand_alone(with_kafka: Settings, tmp_path: Path):
    keys = Keys(tmp_path / "keys.json")
    at = "2026-03-01T00:00:00.000Z"
    bearers = {
        name: {"Authorization": f"Bearer {keys.create(brand, scope, at)[1]}"}
        for name, brand, scope in (
            ("reader", "acme", Scope.READ),
            ("acme", "acme", Scope.REDEEM),
            ("other", "other", Scope.ADMIN),
            ("operator", "*", Scope.REDEEM),
        )
    }
    batch = [like("k1"), like("k2", brand_id="other"), like("k3", brand_id="nope")]
    with serving(with_kafka.model_copy(update={"api_keys_file": keys.path})) as client:
        assert client.post(LIKES, json=batch).status_code == 401
        assert client.post(LIKES, json=batch, headers=bearers["reader"]).json()["code"] == "insufficient_scope"
        said = {
            name: [one.get("code") for one in client.post(LIKES, json=batch, headers=bearers[name]).json()["records"]]
            for name in ("acme", "other", "operator")
        }
        with structlog.testing.capture_logs() as lines:
            client.post(LIKES, json=batch, headers=bearers["acme"])
    assert said == {
        "acme": [None, "other_brand", "other_brand"],
        "other": ["other_brand", "unknown_brand", "other_brand"],
        "operator": [None, "unknown_brand", "unknown_brand"],
    }
    (line,) = [line for line in lines if line["event"] == "audit"]
    assert (line["command"], line["status"]) == ("publish_interactions", 207)
    assert (line["accepted"], line["refused"]) == (1, 2)


def test_nothing_is_accepted_before_the_archive_of_the_embedded_stack_has_it(with_kafka: Settings, tmp_path: Path):
    says = tmp_path / "archived.json"
    live.say(says, {})
    with serving(with_kafka.model_copy(update={"archived": says})) as client, ThreadPoolExecutor(1) as pool:
        before = asyncio.run(kafka.log_ends(with_kafka.brokers, ACTIVITY))
        answer = pool.submit(client.post, LIKES, json=like("to-disk"))
        deadline = time.monotonic() + 10
        while asyncio.run(kafka.log_ends(with_kafka.brokers, ACTIVITY)) == before:
            assert time.monotonic() < deadline
        assert not answer.done(), "the broker has it, and the archive does not"
        live.say(says, asyncio.run(kafka.log_ends(with_kafka.brokers, ACTIVITY)))
        assert answer.result().status_code == 200


def test_when_the_database_is_away_activity_goes_on(with_kafka: Settings):
    elsewhere = "postgresql://nobody@127.0.0.1:1/nothing"
    with serving(with_kafka.model_copy(update={"database": elsewhere})) as client:
        assert client.post(LIKES, json=[like("no-database"), like("nobodys", brand_id="nope")]).json()["accepted"] == 2


def test_without_a_broker_nothing_is_sent_and_each_record_says_so(shared_settings: Settings):
    with serving(shared_settings) as client:
        answer = client.post(LIKES, json=[like("n1"), like("n2", kind="lik")])
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    body = answer.json()
    assert (body["accepted"], body["refused"]) == (0, 1)
    assert [one["code"] for one in body["records"]] == ["not_sent", "invalid"]


def test_when_the_broker_dies_each_record_says_that_nobody_knows(
    shared_settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(activity, "PUBLISH_SECONDS", 2.0)
    monkeypatch.setattr(publisher, "GIVE_UP_MS", 3_000)
    with ExitStack() as broker:
        address = broker.enter_context(own_broker.running())
        asyncio.run(topic_admin.create(Settings(kafka=address, partitions=2)))
        with serving(on(address, shared_settings)) as client:
            assert client.post(LIKES, json=like("alive")).status_code == 200
            broker.close()  # it is killed
            answer = client.post(LIKES, json=[like("dead"), like("bad", kind="lik")])
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert [one["code"] for one in answer.json()["records"]] == ["unknown", "invalid"]
            assert "Send the whole request again" in answer.json()["detail"]


def test_more_than_may_be_under_way_waits_its_turn(with_kafka: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(publishing, "IN_FLIGHT", 50)
    most = [0, 0]
    lock = threading.Lock()
    sending = publishing.Sender.send_all

    async def counted(self: Any, lines: Any, timeout: float) -> Any:
        with lock:
            most[0] += len(lines)
            most[1] = max(most)
        try:
            return await sending(self, lines, timeout)
        finally:
            with lock:
                most[0] -= len(lines)

    monkeypatch.setattr(publishing.Sender, "send_all", counted)
    with serving(with_kafka) as client, ThreadPoolExecutor(16) as pool:
        batches = [[like(f"w{b}-{n}") for n in range(20)] for b in range(16)]
        answers = list(pool.map(lambda batch: client.post(LIKES, json=batch), batches))
        assert [answer.json()["accepted"] for answer in answers] == [20] * 16
        assert most[1] in (20, 40)
        large = client.post(LIKES, json=[like(f"l{n}") for n in range(80)])
        assert large.json()["accepted"] == 80, "one request alone may be larger"
