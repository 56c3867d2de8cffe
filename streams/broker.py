"""What the stage asks of the broker that the client library has no call for: a topic's id, and what it can do."""

from __future__ import annotations

import asyncio
import base64
import io
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from streams.connection import Brokers

DESCRIBE_TRANSACTIONS = 65
"""An API of brokers that have transactions; others may know the names of the older ones and refuse them."""
EPOCH_CHARACTERS = 8


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: io.BytesIO) -> bytes:
        return data.read(16)


_NAME = CompactString("utf-8")
_PARTITION = (
    ("error_code", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", CompactArray(Int32)),
    ("isr", CompactArray(Int32)),
    ("offline_replicas", CompactArray(Int32)),
    ("tags", TaggedFields),
)


class _MetadataResponse(Response):  # type: ignore[misc]
    """Metadata version 12, the first that describes topics with their ids and without cluster permissions."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("id", Int32), ("host", _NAME), ("port", Int32), ("rack", _NAME), ("t", TaggedFields)),
        ),
        ("cluster_id", _NAME),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _NAME),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                ("partitions", CompactArray(*_PARTITION)),
                ("operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _NAME), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Metadata(Request[_MetadataStruct]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_MetadataStruct]) -> _MetadataStruct:
        return request_struct_class([(bytes(16), self._topic, {})], False, False, {})


@dataclass(frozen=True, slots=True)
class Broker:
    """What the stage needs to know of a broker."""

    epoch: str
    """Names this creation of the topic: the start of its id, which Kafka draws at random. Empty: no such topic."""
    has_transactions: bool


async def describe(brokers: Brokers, topic: str) -> Broker:
    """Ask the broker about itself and about `topic`. Raises aiokafka's `KafkaError` when it does not answer."""
    asker = Asker(brokers, topic)
    try:
        return await asker.describe()
    finally:
        await asker.close()


class Asker:
    """Asks about a topic over one connection, which is made anew after an error."""

    def __init__(self, brokers: Brokers, topic: str) -> None:
        self._brokers = brokers
        self._topic = topic
        self._client: Any = None
        self._turn = asyncio.Lock()

    async def describe(self, partition: int | None = None) -> Broker:
        """What the broker says now; the leader of `partition`, if one is given: it knows first."""
        async with self._turn:
            try:
                return await self._describe(partition)
            except BaseException:
                await self._close()
                raise

    async def _describe(self, partition: int | None) -> Broker:
        if self._client is None:
            self._client = AIOKafkaClient(**self._brokers.options)
            await self._client.bootstrap()
            self._client.set_topics([self._topic])
        leader = None
        if partition is not None:
            leader = self._client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
        node = self._client.get_random_node() if leader in (None, -1) else leader
        answer = await self._client.send(node, _Metadata(self._topic))
        versions = (await self._client._get_conn(node))._versions
        (_error, _name, topic_id, *_rest) = answer.topics[0]
        epoch = base64.urlsafe_b64encode(topic_id).decode()[:EPOCH_CHARACTERS] if any(topic_id) else ""
        return Broker(epoch, DESCRIBE_TRANSACTIONS in versions)

    async def close(self) -> None:
        """Give back the connection."""
        async with self._turn:
            await self._close()

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()
