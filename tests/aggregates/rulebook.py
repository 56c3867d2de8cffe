"""Stories that are both: specs that run against the account, and the text of `docs/rules.md`.

A story tells what is given, what happens and what must follow. Each sentence of the page is written by the call that
did or checked what it says, so the page cannot say what is not so.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import yaml
from account_cases import Member, brand, campaign, paid, refused, taken_back

from aggregates.commands import PRECEDENCE
from aggregates.definitions import Campaign
from aggregates.events import AccountEvent, CommandRefused, PointsRedeemed
from aggregates.refusals import Refusal

SECTIONS = {
    "Lots and time": "Points come in *lots*, each with the day it becomes active and the day it expires. What a member "
    "can spend is decided by these dates, whenever one looks.",
    "Earning": "A record earns what each matching rule of each campaign that it counts for pays.",
    "First times": "`first_time: true` makes a rule pay a member once.",
    "Caps and budget": "Caps are counted for each member and rule, by the brand's timezone; a budget is for all.",
    "Refunds": "A refund works out anew what the order is entitled to, under the rule, the version and the tier that "
    "paid it, and takes back the difference.",
    "Unlikes": "A negative quantity takes back what its interactions earned: the latest first, of the same post and "
    "kind, and of the same actor where one is named.",
    "Where a reversal takes from": "The grant's own lot, then other lots on hold, then active ones; what they lack is "
    "owed or given up.",
    "Referrals": "A purchase that names a referrer is judged a second time, on the referrer's account.",
    "Redemptions": "Spending, by a command with an idempotency key, as all commands are.",
    "Cancellations": "A cancelled redemption ends as if it had not been made, but that what it gives back pays "
    "debt first.",
    "Adjustments": "A person adds points or takes some, and says why.",
    "Prizes": "What the settlement of a campaign pays.",
    "Debt": "What a member owes is paid off by the next points that become active: without a hold when they come in, "
    "else when the hold ends.",
}

Telling = Callable[["Story"], None]


class Rule(NamedTuple):
    """A rule of the book: its section, the sentence that is its title, and the story that shows it."""

    section: str
    title: str
    tell: Telling


RULES: list[Rule] = []


def rule(section: str) -> Callable[[Telling], Telling]:
    """Puts a story into the book; the docstring's first line is its title."""
    assert section in SECTIONS

    def put(tell: Telling) -> Telling:
        assert tell.__doc__ is not None
        RULES.append(Rule(section, tell.__doc__.splitlines()[0], tell))
        return tell

    return put


def counted(n: int, what: str = "point") -> str:
    """`1 point`, `2 points`."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def money(minor: int) -> str:
    """An amount in euros."""
    return f"{minor // 100:,}.{minor % 100:02} EUR"


def said(reason: str) -> str:
    """A reason with the sentence that a person reads."""
    return f"`{reason}`: {Refusal(reason).sentence}"


class Story:
    """Ann's account at acme, and the sentences about it so far."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.events: list[AccountEvent] = []
        self._settings: dict[str, Any] = {}
        self._member = Member()
        self._now = self._instant("2026-03-10 12:00")
        self._when = ""

    # Given

    def brand(self, timezone: str = "", **points: Any) -> None:
        """The brand's timezone and what its points do; from now on when it comes later in the story."""
        known = {"expire_after": "points expire after {}", "negative_balance": "a negative balance: {}"}
        told = [known[key].format(value) for key, value in points.items()]
        told += [f"the brand's timezone is {timezone}"] if timezone else []
        self._settings["points"] = {"negative_balance": "allow", **self._settings.get("points", {}), **points}
        if timezone:
            self._settings["timezone"] = timezone
        self._member.brand = brand(yaml.safe_dump(self._settings))
        self._now = self._instant("2026-03-10 12:00") if not self._member.events else self._now
        self._given("; ".join(told))

    def rules(self, *rules: str, budget: int | None = None, name: str = "spring") -> None:
        """A campaign with these rules, one more when it is called again."""
        text = f"campaign: {name}" + (f"\nbudget: {budget}" if budget is not None else "")
        made = campaign(f"[{', '.join(rules)}]", text)
        self._member.campaigns = (*self._member.campaigns, made)
        if budget is not None:
            self._member.budget[name] = budget
        limit = f" and a budget of {counted(budget)}" if budget is not None else ""
        shown = f"the campaign {name}{limit} with " if limit or name != "spring" else ""
        self._given(shown + ", ".join(f"`{rule}`" for rule in rules))

    def campaigns_end(self) -> list[Campaign]:
        """From now on no campaign is live."""
        ended, self._member.campaigns = list(self._member.campaigns), ()
        self._when = "after the campaign's end, "
        return ended

    def _given(self, told: str) -> None:
        self.lines.append(f"**Given** {told}")

    # When

    def on(self, when: str) -> None:
        """What follows happens then: `2026-03-10 12:00`, in the brand's time."""
        self._now = self._instant(when)
        self._when = f"on {when.replace(chr(32), ' at ')}, "

    def gets(
        self, what: str = "like", n: int = 1, by: str | None = None, post: str = "p1", tier: str = "micro", **seen: Any
    ) -> None:
        """A post gets or loses interactions."""
        verb = "gets" if n >= 0 else "loses"
        how = f" from {by.capitalize() if by != 'ann' else 'Ann herself'}" if by else ""
        of_tier = f" (Ann being {tier})" if tier != "micro" else ""
        self._happens(f"post {post} {verb} {counted(abs(n), what)}{how}{of_tier}")
        self.events = self._member.interact(
            n, what, {"tier": tier, **seen}, actor_id=by, post_id=post, occurred_at=self._now
        )

    def buys(self, order: str, minor: int, referrer: str | None = None, again: bool = False) -> None:
        """Ann's order."""
        whom = f", referred by {referrer.capitalize() if referrer != 'ann' else 'herself'}" if referrer else ""
        self._happens(f"Ann's order {order} of {money(minor)} arrives{' again' if again else ''}{whom}")
        self.events = self._member.buy(order, minor, referrer_id=referrer, occurred_at=self._now)

    def refund(self, order: str | None, minor: int, tier: str = "micro") -> None:
        """A refund of Ann's order, or of none that is named."""
        of_tier = f" (Ann being {tier} now)" if tier != "micro" else ""
        self._happens(f"{money(minor)} of {f'order {order}' if order else 'no named order'} are refunded{of_tier}")
        self.events = self._member.refund(order, minor, {"tier": tier}, occurred_at=self._now)

    def friend_buys(self, order: str, minor: int, who: str = "bob", new: bool = True) -> None:
        """An order of a friend whom Ann referred."""
        kind = "a new customer" if new else "who had ordered before"
        self._happens(f"{who.capitalize()}, {kind}, orders for {money(minor)} (order {order}) and names Ann")
        self.events = self._member.friend("completed", order, minor, who, new_customer=new, occurred_at=self._now)

    def friend_refund(self, order: str, minor: int, who: str = "bob") -> None:
        """A refund of a friend's order."""
        self._happens(f"{money(minor)} of {who.capitalize()}'s order {order} are refunded")
        self.events = self._member.friend("refunded", order, minor, who, occurred_at=self._now)

    def redeems(self, points: int, key: str | None = None) -> str:
        """A redemption; answers its entry, empty when it is refused."""
        self._command(f"Ann redeems {counted(points)}", points, "redeem", key)
        return next((event.entry_id for event in self.events if isinstance(event, PointsRedeemed)), "")

    def cancels(self, entry: str, which: str = "the redemption", key: str | None = None) -> None:
        """The cancellation of a redemption."""
        self._command(f"{which} is cancelled", 0, "cancel", key, reference=entry)

    def adjusts(self, points: int, key: str | None = None) -> None:
        """An adjustment."""
        what = f"adds {counted(points)}" if points > 0 else f"takes {counted(-points)}"
        self._command(f"somebody {what}", points, "adjust", key, reason="as agreed")

    def wins(self, points: int, rank: int = 1, key: str | None = None) -> None:
        """A prize."""
        told = f"Ann wins {counted(points)} for rank {rank} of spring"
        self._command(told, points, "prize", key, reference="spring", campaign_version=1, rank=rank)

    def transfers(self, points: int) -> None:
        """A transfer to another member."""
        self._command(f"Ann wants to give Bob {counted(points)}", points, "transfer_out", None, reference="bob")

    def _command(self, told: str, points: int, kind: str, key: str | None, **value: Any) -> None:
        self._happens(told + (f" (key {key})" if key else ""))
        keyed = {"event_id": key} if key else {}
        self.events = self._member.command(points, kind, occurred_at=self._now, **keyed, **value)

    def _happens(self, what: str) -> None:
        self.lines.append(f"**When** {self._when}{what}")
        self._when = ""

    # Then

    def pays(self, *points: int) -> None:
        """What each matching rule paid."""
        assert paid(self.events) == list(points)
        self._then(f"it pays {' and '.join(counted(n) for n in points)}")

    def pays_nothing(self, *reasons: str) -> None:
        """Why each matching rule paid nothing; without a reason: no rule matched, and there is no event."""
        assert paid(self.events) == []
        assert refused(self.events) == list(reasons)
        assert reasons or not self.events
        because = " ".join(said(reason) for reason in dict.fromkeys(reasons))
        self._then(f"it pays nothing ({because.rstrip('.')})" if reasons else "nothing happens")

    def takes_back(self, *points: int) -> None:
        """The points of each reversal."""
        assert taken_back(self.events) == list(points)
        told = " and ".join(counted(n) for n in points)
        self._then(f"it takes back {told}" if any(points) else "it takes nothing back")

    def is_refused(self, reason: str) -> None:
        """The refusal of a command."""
        [event] = self.events
        assert isinstance(event, CommandRefused)
        assert event.reason == reason
        self._then(f"it is refused ({said(reason).rstrip('.')})")

    def is_done(self) -> None:
        """A command that was carried out."""
        [event] = self.events
        assert not isinstance(event, CommandRefused)
        self._then("it is done")

    def changes_nothing(self) -> None:
        """There is no event: what was sent again has the outcome that it had."""
        assert self.events == []
        self._then("nothing happens")

    def referral(self, is_due: bool, reason: str = "") -> None:
        """Whether the referrer is judged for the order."""
        [event] = self.events
        assert getattr(event, "referral", None) == ("due" if is_due else reason)
        self._then("the referrer's reward is judged" if is_due else f"no referral is due ({said(reason).rstrip('.')})")

    def has(self, active: int, pending: int = 0, expired: int = 0, on: str = "", **more: int) -> None:
        """What Ann has, now or at another instant; `more` names totals of the account, and counters that must hold."""
        at = self._instant(on) if on else self._now
        found = self._member.account.balance_at(at)
        assert (found.active, found.pending, found.expired) == (active, pending, expired)
        shown = [f"{active:,} active"] + [
            f"{n:,} {name}" for name, n in (("pending", pending), ("expired", expired)) if n
        ]
        for name, points in more.items():
            assert getattr(found if name in found._fields else self._member.account, name) == points, name
            shown.append(f"{name} {points:,}")
        self._then(f"Ann has {', '.join(shown)}{f' at {on}' if on else ''}")

    def _then(self, what: str) -> None:
        joined = "; " if "**then**" in self.lines[-1] else ", **then** "
        self.lines[-1] += joined + what

    def _instant(self, when: str) -> int:
        local = datetime.fromisoformat(when).replace(tzinfo=ZoneInfo(self._member.brand.timezone))
        return int(local.timestamp() * 1000)


HEAD = """# The rules of points

Each rule below is told by a test that ran it; `python tests/test_docs.py` writes the page. Ann is a member of the brand
acme, in Europe/Paris, and of tier micro. Her brand lets a balance go below zero and no points expire, unless a rule
says otherwise. The campaign spring is live in March 2026; everything happens on 2026-03-10 at 12:00 unless a date is
given. [Brands and campaigns](definitions.md) has every key of a definition.

At every instant: active + pending = earned + adjusted − spent − expired − reversed. Prizes count as earned. What is
owed is part of active, which can be below zero for it. A shortfall was never taken, and is in none of them.
"""


def page() -> str:
    """The rulebook."""
    parts = [HEAD]
    for section, about in SECTIONS.items():
        parts.append(f"\n## {section}\n\n{about}\n")
        for one in RULES:
            if one.section == section:
                story = Story()
                one.tell(story)
                parts.append(f"\n### {one.title}\n\n" + "".join(f"- {line}.\n" for line in story.lines))
    return "".join(parts) + _refusals()


def _refusals() -> str:
    of_commands = [reason for reason, _ in PRECEDENCE]
    of_earning = [reason for reason in Refusal if reason not in of_commands]
    parts = ["\n## Why not\n\nThe first reason that holds is the one that is recorded.\n"]
    for title, reasons in (("Nothing was paid", of_earning), ("A command was refused", of_commands)):
        rows = "".join(f"| {place} | `{one.value}` | {one.sentence} |\n" for place, one in enumerate(reasons, 1))
        parts.append(f"\n### {title}\n\n| | reason | says |\n| --- | --- | --- |\n{rows}")
    return "".join(parts)
