"""What members and operators ask of an account: put on the activity log, and answered when the ledger has decided."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, Self

from aggregates.database import glancing, open_database
from aggregates.refusals import Refusal as Reason
from projections import queries
from projections.answers import iso
from projections.queries.decisions import Key, Outcome
from service.broker.publisher import Sender
from service.command_answers import AdjustmentAnswer, CancellationAnswer, EnrolmentAnswer, RedemptionAnswer
from service.deciding import Deciding
from service.instants import now_ms
from service.problems import Refusal
from service.requests import check_command, check_enrolment
from service.settings import Settings

RETRY_AFTER: Final = {"Retry-After": "5"}
WORDS: Final = {"redeem": "redemption", "cancel": "cancellation", "adjust": "adjustment"}
"""Kind of command → what a person calls it."""


class Command(NamedTuple):
    """Something asked of a member's account."""

    kind: str
    brand: str
    member: str
    key: str
    """The idempotency key: it is carried out once for each."""
    points: int = 0
    """To spend, or to add (above 0) or take (below 0) by an adjustment; 0 of a cancellation."""
    reference: str = ""
    """The redemption that a cancellation cancels."""
    words: str = ""
    """Why, of an adjustment."""
    requested_by: str = "api"

    def record(self, occurred_at: int) -> dict[str, Any]:
        """Its record for the activity log."""
        return {
            "event_id": self.key,
            "occurred_at": occurred_at,
            "brand_id": self.brand,
            "member_id": self.member,
            "kind": self.kind,
            "points": self.points,
            "reference": self.reference or None,
            "reason": self.words or None,
            "requested_by": self.requested_by,
        }


class Commands:
    """Carries out commands through the activity log. One a process, used within one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Over the Kafka and the database of `settings`; neither is reached for before the first command."""
        self._engine = open_database(settings.database, read_only=True)
        self._sender = Sender(settings)
        # Each look is a few statements that may see what came in between.
        self._deciding = Deciding(glancing(self._engine))

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: Settings) -> AsyncIterator[Self]:
        """For the length of a block. Raises `Unusable` as `Settings.check_takes` does."""
        settings.check_takes()
        made = cls(settings)
        try:
            yield made
        finally:
            await made.close()

    async def close(self) -> None:
        """Give back the connections."""
        await self._deciding.close()
        await self._sender.close()
        self._engine.dispose()

    async def redeem(self, command: Command, timeout: float) -> RedemptionAnswer:
        """Spend a member's active points. Raises like `carry_out`."""
        done = await self.carry_out(command, timeout)
        return RedemptionAnswer(
            redemption_id=done.entry_id,
            brand=command.brand,
            member_id=command.member,
            points=done.points,
            idempotency_key=command.key,
            occurred_at=iso(done.occurred_at),
            position=done.position,
        )

    async def cancel(self, command: Command, timeout: float) -> CancellationAnswer:
        """Give a redemption's points back. Raises like `carry_out`."""
        done = await self.carry_out(command, timeout)
        return CancellationAnswer(
            cancellation_id=done.entry_id,
            redemption_id=done.reference,
            brand=command.brand,
            member_id=command.member,
            points=done.points,
            idempotency_key=command.key,
            occurred_at=iso(done.occurred_at),
            position=done.position,
        )

    async def adjust(self, command: Command, timeout: float) -> AdjustmentAnswer:
        """Add or take points by hand. Raises like `carry_out`."""
        done = await self.carry_out(command, timeout)
        return AdjustmentAnswer(
            adjustment_id=done.entry_id,
            brand=command.brand,
            member_id=command.member,
            points=done.points,
            reason=done.words,
            idempotency_key=command.key,
            occurred_at=iso(done.occurred_at),
            position=done.position,
        )

    async def carry_out(self, command: Command, timeout: float) -> Outcome:
        """Put a command on the log and return what the ledger decided about it, or about the same key before.

        Raises `Refusal` with the ledger's reason, `idempotency_key_reused` for a key that asked for something else, or
        `no_answer_yet` when the decision does not come within `timeout` seconds: the command is then on the log and
        runs once; asking again with the same key gets its outcome. Raises `Unusable` when Kafka is away.
        """
        check_command(command.record(0))
        deadline = time.monotonic() + timeout
        key = Key(command.brand, command.member, command.key)
        async with self._deciding.expecting(key) as coming:
            outcome = await self._deciding.known(key)
            if outcome is None:
                left = max(0.1, deadline - time.monotonic())
                await self._sender.send("Command", command.record(now_ms()), left)
                done, _ = await asyncio.wait({coming}, timeout=max(0.0, deadline - time.monotonic()))
                outcome = coming.result() if done else None
        if outcome is None:
            what = WORDS[command.kind]
            raise Refusal(
                "no_answer_yet",
                f"The {what} is on the log and not decided after {timeout:g} s (is a worker running?). It will be "
                "decided once; ask again with the same key.",
                headers=RETRY_AFTER,
            )
        _check_same(command, outcome)
        if outcome.reason:
            raise Refusal(outcome.reason, Reason(outcome.reason).sentence)
        return outcome

    async def enrol(self, brand: str, member: str, campaign: str, left: bool, timeout: float) -> EnrolmentAnswer:
        """Let a member join a campaign, from now on, or leave it; again changes nothing.

        Everybody takes part in an open campaign: joining one is noted, leaving one is refused. Raises `Refusal`, also
        for an unknown campaign, and `Unusable` when Kafka is away.
        """
        check_enrolment(brand, member, campaign)
        now = now_ms()
        is_open = await asyncio.to_thread(self._is_open, brand, campaign, now)
        if left and is_open:
            raise Refusal(
                "campaign_open", f"Every member takes part in {brand}/{campaign}: it is open, and nobody can leave it."
            )
        kind = "left" if left else "joined"
        value = {"event_id": uuid.uuid4().hex, "occurred_at": now, "brand_id": brand, "member_id": member}
        at = await self._sender.send("Enrolment", {**value, "campaign_id": campaign, "kind": kind}, timeout)
        return EnrolmentAnswer(
            brand=brand,
            member_id=member,
            campaign=campaign,
            kind=kind,
            occurred_at=iso(now),
            position=f"{at.partition}:{at.offset}",
        )

    def _is_open(self, brand: str, campaign: str, now: int) -> bool:
        with self._engine.connect() as connection:
            try:
                return queries.campaign_definition(connection, brand, campaign, now).join == "open"
            except queries.NotFound as error:
                raise Refusal(error.code, str(error)) from None


def _check_same(command: Command, outcome: Outcome) -> None:
    """Raises `Refusal` when the key's command was another one. What a refusal did not keep is not compared."""
    asked = (command.kind, command.points, command.reference)
    was = (outcome.kind, command.points if outcome.kind == "cancel" else outcome.points, outcome.reference)
    if asked != was or (not outcome.reason and command.words != outcome.words):
        points = "" if outcome.kind == "cancel" else f" of {outcome.points} points"
        of = f" of {outcome.reference}" if outcome.reference else ""
        raise Refusal(
            "idempotency_key_reused",
            f"The key {command.key!r} was used for another command of {command.brand}/{command.member}: "
            f"{WORDS.get(outcome.kind, outcome.kind)}{points}{of}.",
        )
