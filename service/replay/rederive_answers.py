"""What `replay rederive` answers: what was derived, what differs and why, and what candidate rules would have paid."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from projections.answers import Number


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class PartitionRun(_Answer):
    """What was derived of one partition."""

    partition: int
    start: int = Field(description="The first offset that the log has")
    end: int = Field(description="The offset after the last one that was derived")
    decided: int = Field(description="The next offset that the ledger has not decided")


class MissingInput(_Answer):
    """Offsets that the log does not have."""

    partition: int
    start: int
    end: int = Field(description="The offset after the last one")
    decisions: int = Field(description="Decisions of the ledger on these records")
    sentence: str


class Diverged(_Answer):
    """One decision that is not the one that the ledger has."""

    cause: str = Field(
        description="rule_changed, duplicate_beyond_horizon, budget_grant, missing_input, follows or code_change"
    )
    sentence: str = Field(description="What the cause means")
    partition: int
    offset: int
    event_id: str
    account: str = Field(description="`account:BRAND/MEMBER`, or `marker:BRAND/CAMPAIGN/PARTITION`")
    brand: str
    member_id: str
    field: str = Field(description="The first field that differs; empty where one side decided nothing")
    recorded: str = Field(description="What the ledger has there; empty: nothing")
    derived: str
    recorded_points: int = Field(description="What it changed the member's points by")
    derived_points: int


class _Run(_Answer):
    source: str = Field(description="`topics`, or the archive's directory")
    epoch: str = Field(description="Which log it is")
    until: str | None = Field(description="The last time of records on the log that was derived; null: no limit")
    position: int = Field(description="The ledger position that this was compared at")
    partitions: tuple[PartitionRun, ...]
    records: int = Field(description="Records of the log that were read")
    missing: tuple[MissingInput, ...]


class RederiveReport(_Run):
    """The log derived again beside what the ledger decided."""

    decisions: int = Field(description="Decisions that were compared")
    causes: dict[str, int] = Field(description="Cause → how many decisions differ because of it")
    divergences: tuple[Diverged, ...] = Field(description="The first 1,000 of them; all are counted")

    @property
    def same(self) -> bool:
        """Whether every decision is the one that the ledger has, and none could not be derived."""
        return not self.causes and not self.missing


class Compared(_Answer):
    """Points that were paid beside those that would have been: earned less taken back."""

    brand: str
    campaign: str
    paid: int
    would: int
    paid_minor: int | None = Field(description="What they are worth, minor units of the currency; null: nobody said")
    would_minor: int | None

    @property
    def difference(self) -> int:
        """What would have been paid above what was."""
        return self.would - self.paid


class CampaignCompared(Compared):
    """One campaign in all."""

    currency: str
    budget_spent: int | None = Field(description="What its budget would have paid; null: it has none")


class TierCompared(Compared):
    """Members of one influence tier, as of each record."""

    tier: str


class DayCompared(Compared):
    """What occurred on one day of the brand's timezone."""

    day: str


class MemberCompared(Compared):
    """One member."""

    member_id: str


class CommandChanged(_Answer):
    """A command that would have had another outcome."""

    brand: str
    member_id: str
    event_id: str
    recorded: str = Field(description="What became of it")
    would: str = Field(description="What would have become of it")
    points: int = Field(description="Points that it asked for")


class WouldPlace(_Answer):
    """One member's place in standings that would have been."""

    rank: int
    member_id: str
    tier: str
    score: Number
    prize: int | None = Field(description="What the place would win if it ended so; null: nothing")
    paid: int = Field(description="Points that the campaign paid the member in fact")


class WouldStandings(_Answer):
    """The standings of a campaign, had its definitions stood before the log's first record."""

    brand: str
    campaign: str
    version: int
    metric: str
    retroactive: bool = Field(description="Always true: they are derived afterwards, and nothing of them is paid")
    entries: tuple[WouldPlace, ...]


class CandidateReport(_Run):
    """What would have been, had the candidate's definitions stood before the log's first record."""

    definitions: tuple[str, ...]
    campaigns: tuple[CampaignCompared, ...]
    tiers: tuple[TierCompared, ...]
    days: tuple[DayCompared, ...]
    members: tuple[MemberCompared, ...] = Field(description="The greatest differences first")
    commands: tuple[CommandChanged, ...]
    standings: tuple[WouldStandings, ...]

    @property
    def same(self) -> bool:
        """Whether every member would have been paid what was paid, and no command gone otherwise."""
        return not self.commands and not self.missing and not any(one.difference for one in self.members)
