"""The one table of topics: what each holds, who writes it, its key and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

ACTIVITY: Final = "members.activity.v1"
DEAD_LETTERS: Final = "members.activity.v1.dlt"
DEFINITIONS: Final = "programs.definitions.v1"
WINDOWS: Final = "engagement.windows.v1"
TIERS: Final = "tiers.aggregates.v1"
LEDGER: Final = "loyalty.ledger.v1"
BALANCES: Final = "loyalty.balances.v1"
STANDINGS: Final = "campaigns.standings.v1"

TRUSTED: Final = frozenset({"Command", "ReferralDue", "Definition", "CampaignClosing"})
"""Internal record types of the activity log: without a good signature they are dead letters."""

_KEEP: Final = {"retention.ms": "-1", "retention.bytes": "-1"}
_COMPACT: Final = {"min.cleanable.dirty.ratio": "0.1"}


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. Every topic has as many partitions as the activity log, and that number never changes."""

    name: str
    cleanup: str
    """`delete` or `compact`, the `cleanup.policy`."""
    written_by: str
    key: str
    """The form of the record key."""
    record_types: tuple[str, ...]
    """Types of its values; empty: original bytes of another topic."""
    holds: str
    config: Mapping[str, str] = field(default_factory=dict)
    """Further topic settings, as Kafka names them."""

    @property
    def settings(self) -> dict[str, str]:
        """All topic settings, `cleanup.policy` included."""
        return {"cleanup.policy": self.cleanup, **self.config}


TOPICS: Final = (
    Topic(
        ACTIVITY,
        "delete",
        "upstream systems; internal record types by Groundswell itself, signed",
        "<brand_id>/<member_id>; <brand_id> for what is appended to every partition",
        (
            "Interaction",
            "Purchase",
            "ProfileSnapshot",
            "Enrolment",
            "Command",
            "ReferralDue",
            "Definition",
            "CampaignClosing",
        ),
        "everything that changes a member, in one order",
        {**_KEEP, "message.timestamp.type": "LogAppendTime"},
    ),
    Topic(
        DEAD_LETTERS,
        "delete",
        "the worker",
        "the key of the refused record",
        (),
        "refused records, byte for byte, with the reason in headers",
        {**_KEEP, "max.message.bytes": "2097152"},
    ),
    Topic(
        DEFINITIONS,
        "compact",
        "the ledger",
        "<brand_id>/<subject>/<subject_id>/<version>",
        ("ProgramDefinition",),
        "every accepted version of brands and campaigns",
        _COMPACT,
    ),
    Topic(
        WINDOWS,
        "compact",
        "the worker",
        "scope, epoch, source partition, ids, platform, post, pane and segment",
        ("EngagementPane",),
        "engagement of brands, campaigns, members and posts, by pane of event time",
        _COMPACT,
    ),
    Topic(
        TIERS,
        "compact",
        "the worker",
        "scope, epoch, source partition, ids, tier, platform, pane and segment",
        ("EngagementPane", "MemberTier"),
        "engagement by influence tier, and each member's tier",
        _COMPACT,
    ),
    Topic(
        LEDGER,
        "delete",
        "the ledger",
        "<brand_id>/<member_id>",
        ("LedgerEntry",),
        "every movement of points",
        _KEEP,
    ),
    Topic(
        BALANCES,
        "compact",
        "the ledger",
        "<brand_id>/<member_id>",
        ("MemberBalance",),
        "the points of each member",
        _COMPACT,
    ),
    Topic(
        STANDINGS,
        "compact",
        "the ledger",
        "<brand_id>/<campaign_id>/<member_id>",
        ("CampaignStanding",),
        "the score of each member in each campaign",
        _COMPACT,
    ),
)
"""Every topic there is."""

BY_NAME: Final[Mapping[str, Topic]] = {topic.name: topic for topic in TOPICS}

INPUTS: Final = frozenset(BY_NAME[ACTIVITY].record_types)
"""Record types that belong on the activity log."""


def activity_key(brand: str, member: str) -> bytes:
    """The key of a member's records, `<brand>/<member>`: it keeps them on one partition, in one order."""
    return f"{brand}/{member}".encode()


def new_topics(partitions: int, replication_factor: int = 1) -> list[dict[str, Any]]:
    """Keyword arguments of `aiokafka.admin.NewTopic` for every topic, each with `partitions` partitions.

    From a replication factor of 3 a write needs two replicas in sync. Raises ValueError for a number below 1.
    """
    if partitions < 1 or replication_factor < 1:
        raise ValueError(f"partitions ({partitions}) and replication factor ({replication_factor}) must be at least 1")
    durable = {"min.insync.replicas": "2"} if replication_factor >= 3 else {}
    return [
        {
            "name": topic.name,
            "num_partitions": partitions,
            "replication_factor": replication_factor,
            "topic_configs": {**topic.settings, **durable},
        }
        for topic in TOPICS
    ]
