"""Commands on a member's account, answered when the ledger has decided, and the one that ends a campaign."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.command import AsJson, Brand, Campaign, DataDir, Member, command, note, settings_of, show, some

if TYPE_CHECKING:
    from service.commands import Command, Commands

Key = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="K", help="Idempotency key, such as order-17: again with it does nothing. Default: a new one."
    ),
]
Timeout = Annotated[float, typer.Option(min=0, help="Seconds to wait for the decision.")]
Carry = Callable[["Commands"], Callable[["Command", float], Awaitable[Any]]]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(app, "redeem", "groundswell redeem acme ann 100 --key order-77")(redeem)
    command(app, "cancel", "groundswell cancel acme ann 5d41402abc4b2a76")(cancel)
    example = 'groundswell adjust acme ann -50 --reason "paid twice by mistake"'
    signed = {"ignore_unknown_options": True}  # -50 is a number and no option
    app.command("adjust", epilog=f"Example: {example}", context_settings=signed)(adjust)
    command(app, "enrol", "groundswell enrol acme ann spring")(enrol)
    command(app, "settle", "groundswell settle acme spring")(settle)


def redeem(
    brand: Brand,
    member: Member,
    points: Annotated[int, typer.Argument(metavar="POINTS", help="Points to spend, at least 1.")],
    key: Key = None,
    timeout: Timeout = 10.0,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Spend a member's active points, soonest expiry first."""
    from service.render import answers

    asked = _asked("redeem", brand, member, key, points=points)
    show(_carry_out(lambda c: c.redeem, asked, timeout, data_dir, as_json), as_json, answers.redemption)


def cancel(
    brand: Brand,
    member: Member,
    redemption: Annotated[
        str,
        typer.Argument(metavar="REDEMPTION", callback=some, help="Entry id of the redemption, as `statement` has it."),
    ],
    key: Key = None,
    timeout: Timeout = 10.0,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give the points of a redemption back, with the expiry they had."""
    from service.render import answers

    asked = _asked("cancel", brand, member, key, reference=redemption)
    show(_carry_out(lambda c: c.cancel, asked, timeout, data_dir, as_json), as_json, answers.cancellation)


def adjust(
    brand: Brand,
    member: Member,
    points: Annotated[int, typer.Argument(metavar="POINTS", help="Points to add, or below zero: to take.")],
    reason: Annotated[str, typer.Option("--reason", metavar="WORDS", help="Why; it stays with the entry.")],
    key: Key = None,
    timeout: Timeout = 10.0,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Add points to a member by hand, or take some."""
    from service.render import answers

    asked = _asked("adjust", brand, member, key, points=points, words=reason)
    show(_carry_out(lambda c: c.adjust, asked, timeout, data_dir, as_json), as_json, answers.adjustment)


def _asked(kind: str, brand: str, member: str, key: str | None, **fields: Any) -> Command:
    import uuid

    from service.commands import Command

    return Command(kind, brand, member, uuid.uuid4().hex if key is None else key, requested_by="cli", **fields)


def _carry_out(carry: Carry, asked: Command, timeout: float, data_dir: Path | None, as_json: bool) -> Any:
    """The answer to a command; what is read next includes it, if a projector is at work."""
    import asyncio
    from contextlib import suppress

    from service.commands import Commands
    from service.problems import Refusal
    from service.reads import Reads
    from service.requests import check_command

    settings = settings_of(data_dir)
    check_command(asked.record(0))
    reads = Reads(settings)
    reads.check_brand(asked.brand)
    if not as_json:
        note(f"idempotency key {asked.key}")

    async def ask() -> Any:
        async with Commands.opened(settings) as commands:
            return await carry(commands)(asked, timeout)

    answer = asyncio.run(ask())
    with suppress(Refusal):
        reads.balance(asked.brand, asked.member, min_position=str(answer.position))
    reads.close()
    return answer


def enrol(
    brand: Brand,
    member: Member,
    campaign: Campaign,
    leave: Annotated[bool, typer.Option("--leave", help="Leave instead of join.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the broker.")] = 10.0,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Let a member join an opt-in campaign, from now on, or leave it."""
    import asyncio

    from service.commands import Commands
    from service.render import answers

    settings = settings_of(data_dir)

    async def ask() -> Any:
        async with Commands.opened(settings) as commands:
            return await commands.enrol(brand, member, campaign, leave, timeout)

    show(asyncio.run(ask()), as_json, answers.enrolment)


def settle(
    brand: Brand,
    campaign: Campaign,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the settlement.")] = 60.0,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Close a campaign that is over, keep its standings and pay its prizes; again it says what was done."""
    import asyncio

    from service import closing
    from service.render import campaigns

    found = asyncio.run(closing.settle(settings_of(data_dir), brand, campaign, timeout, "cli"))
    show(found, as_json, campaigns.settlement)
