"""A simulated community: a month of posts, likes, shares, friends' purchases and the mess that real feeds have.

Everything follows from seed, members and days alone: ids, order and times. `community` says who takes part and where
the rates of likes come from. Likes and comments arrive as counter updates, as from a network's API.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from random import Random
from typing import Any, Final

from service.feeds.broken import BREAKS, Broken
from service.feeds.community import Member, grow, population, rate_of, referral_weight
from service.feeds.reading import Line

__all__ = ["BRAND", "CAMPAIGN", "START", "Broken", "Simulation", "campaign_of", "community", "definitions"]

BRAND: Final = "wavecrest"
CAMPAIGN: Final = "spring-tide"
NEXT_CAMPAIGN: Final = "summer-tide"
CURRENCY: Final = "EUR"
START: Final = 1_772_323_200_000
"""2026-03-01T00:00:00Z."""
MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

POSTS_A_DAY: Final = 0.08
BRAND_POSTS_A_DAY: Final = 0.12
"""How often a member likes, shares or comments on the brand's post of the day."""
ORDERS_A_DAY: Final = 0.02
NEXT_DAYS: Final = 30
"""How long the community goes on after the days that were asked for."""
POINTS_A_MEMBER: Final = 240
"""What the campaign after the first may pay, for each member of the community."""
DUPLICATES: Final = 0.015
DELAYED: Final = 0.04
"""Delivered up to 6 hours after others that happened later."""
LATE: Final = 0.012
"""Delivered one to six days late."""
BROKEN: Final = 0.004


@dataclass(frozen=True, slots=True)
class Simulation:
    """One simulated community; iterating it gives the same records every time. See `community`."""

    seed: int
    members: int
    days: int

    @property
    def brand(self) -> str:
        """The brand's id."""
        return BRAND

    @property
    def campaign(self) -> str:
        """The campaign's id."""
        return campaign_of(self.days)

    @property
    def definitions(self) -> str:
        """The brand and its campaign, as YAML; to be applied before the records are published."""
        return definitions(self.days)

    def records(self) -> Iterator[Line | Broken]:
        """The records in the order of their delivery, those that must be refused among them."""
        return iter(_Feed(self).delivered())

    def going_on(self) -> Iterator[tuple[int, Line | Broken]]:
        """What follows in the `NEXT_DAYS` days after, each with the time of its delivery (epoch ms), in that order.

        For a campaign of its own, `next_definitions`. The records of `records` do not depend on it.
        """
        feed = _Feed(self)
        feed.delivered()
        return feed.going_on()

    def __iter__(self) -> Iterator[Line | Broken]:
        return self.records()


def community(seed: int, members: int, days: int) -> Simulation:
    """A community of so many members over so many days. Raises ValueError unless both are at least 1."""
    if members < 1 or days < 1:
        raise ValueError(f"members ({members}) and days ({days}) must be at least 1")
    return Simulation(seed, members, days)


def campaign_of(days: int) -> str:
    """The campaign's id; another length is another campaign, since a campaign's version never changes."""
    return CAMPAIGN if days == 30 else f"{CAMPAIGN}-{days}d"


def next_campaign_of(days: int) -> str:
    """The id of the campaign that follows."""
    return NEXT_CAMPAIGN if days == 30 else f"{NEXT_CAMPAIGN}-{days}d"


RULES: Final = """\
join: open
earn:
  - {rule: share-our-post, on: interaction, kind: [share], surface: [brand_post], points: 10,
     tier_multiplier: {nano: 3, micro: 2, mid: 1.5}, caps: {per_post: 30, per_day: 60, total: 600}}
  - {rule: conversation, on: interaction, kind: [comment], surface: [member_post], points: 2,
     tier_multiplier: {nano: 3, micro: 2}, caps: {per_post: 20, per_week: 100}}
  - {rule: applause, on: interaction, kind: [like], surface: [member_post], points: 1,
     tier_multiplier: {nano: 2, micro: 1.5}, caps: {per_post: 25, per_day: 50, total: 500}}
  - {rule: spend, on: purchase, per_minor: 100, points: 1, hold: 7d}
  - {rule: bring-a-friend, on: referral, points: 500, caps: {per_week: 2000}, hold: 7d}
standings: points
"""


def definitions(days: int) -> str:
    """The brand and its campaign over the simulated days, as YAML."""
    return f"""\
brand: {BRAND}
plan: pro
timezone: Europe/Lisbon
currency: {CURRENCY}
tiers: {{nano: 0, micro: 1000, mid: 10000, macro: 100000}}
points: {{expire_after: none, negative_balance: allow}}
---
campaign: {campaign_of(days)}
brand: {BRAND}
version: 1
starts_at: {START}
ends_at: {START + days * DAY}
{RULES}"""


def next_definitions(days: int, members: int) -> str:
    """The campaign of the `NEXT_DAYS` days after, with a budget for so many members and prizes, as YAML."""
    return f"""\
campaign: {next_campaign_of(days)}
brand: {BRAND}
version: 1
starts_at: {START + days * DAY}
ends_at: {START + (days + NEXT_DAYS) * DAY}
budget: {members * POINTS_A_MEMBER}
prizes: {{1: 5000, 2: 3000, 3: 1000}}
{RULES}"""


class _Feed:
    """The records as they come to be, each with the time of its delivery."""

    def __init__(self, simulation: Simulation) -> None:
        self.random = Random(f"{simulation.seed}/{simulation.members}/{simulation.days}")
        self.days = simulation.days
        self.campaign = simulation.campaign
        self.prefix = f"s{simulation.seed}-{simulation.members}-{simulation.days}"
        self.members = population(self.random, simulation.members)
        self.weights = list(accumulate(map(referral_weight, self.members)))
        self.queue: list[tuple[int, int, Line | Broken]] = []
        self.last_id = 0

    def delivered(self) -> list[Line | Broken]:
        for member in self.members:
            self.profile(member, START, delay=0)
        for member in self.members:
            self.days_of(member, 0, self.days)
        self.break_some()
        self.queue.sort(key=itemgetter(0, 1))
        return [record for _, _, record in self.queue]

    def going_on(self) -> Iterator[tuple[int, Line | Broken]]:
        """What comes after all that is delivered: a week is made at a time, and what comes late stays for the next."""
        self.queue = []
        self.campaign = next_campaign_of(self.days)
        self.prefix += "-on"
        for first in range(self.days, self.days + NEXT_DAYS, 7):
            for member in self.members:
                self.days_of(member, first, min(first + 7, self.days + NEXT_DAYS))
            self.break_some()
            self.queue.sort(key=itemgetter(0, 1))
            over = START + (first + 7) * DAY
            yield from ((at, record) for at, _, record in self.queue if at < over)
            self.queue = [item for item in self.queue if item[0] >= over]
        yield from ((at, record) for at, _, record in self.queue)

    def happens(self, share: float) -> bool:
        return self.random.random() < share

    def within(self, earliest: int, latest: int) -> int:
        return self.random.randrange(earliest, latest)

    def new_id(self) -> str:
        self.last_id += 1
        return f"{self.prefix}-{self.last_id}"

    def add(self, record_type: str, member: Member, at: int, delay: int | None = None, **fields: Any) -> None:
        """Deliver what occurs at `at` a little later, or much later, and now and then twice."""
        head = {"event_id": self.new_id(), "occurred_at": at, "brand_id": BRAND, "member_id": member.id}
        line = Line(None, record_type, {**head, **fields})
        if delay is None:
            delay = self.within(0, 2 * MINUTE)
            if self.happens(LATE):
                delay = self.within(DAY, 6 * DAY)
            elif self.happens(DELAYED):
                delay = self.within(10 * MINUTE, 6 * HOUR)
        self.queue.append((at + delay, len(self.queue), line))
        if self.happens(DUPLICATES):
            self.queue.append((at + delay + self.within(0, 6 * HOUR), len(self.queue), line))

    def profile(self, member: Member, at: int, delay: int | None = None) -> None:
        if member.has_profile:
            for platform, followers in member.followers.items():
                self.add("ProfileSnapshot", member, at, delay, platform=platform, followers=followers)

    def interact(self, member: Member, at: int, kind: str, quantity: int = 1, **fields: Any) -> None:
        """An interaction; a counter that did not move is none."""
        if quantity:
            body = {"surface": "member_post", "kind": kind, "quantity": quantity, "platform": member.home}
            tail = {"post_id": None, "campaign_id": None, "actor_id": None, "followers": None}
            self.add("Interaction", member, at, **{**body, **tail, **fields})

    def someone(self, but: Member) -> str | None:
        """Another member's id; None when the community has no other."""
        found = self.random.choice(self.members)
        return found.id if found is not but else None

    def days_of(self, member: Member, first: int, end: int) -> None:
        for day in range(first, end):
            begin = START + day * DAY
            if day % 7 == 6 and self.happens(0.3):
                grow(self.random, member)
                self.profile(member, begin)
            if self.happens(POSTS_A_DAY):
                self.post(member, begin + self.within(0, DAY))
            if self.happens(BRAND_POSTS_A_DAY):
                self.on_brand_post(member, day, begin + self.within(0, DAY))
            if self.happens(0.02):
                kind = "follow" if self.happens(0.5) else "mention"
                self.interact(member, begin + self.within(0, DAY), kind, actor_id=self.someone(member))
            if self.happens(ORDERS_A_DAY):
                self.order(member, begin + self.within(0, DAY))
            if self.happens(0.0002):
                self.refund(member, begin, self.within(100, 5_000), None)

    def on_brand_post(self, member: Member, day: int, at: int) -> None:
        """What the member does about the brand's post, or a follower does there through the member's link."""
        kind = self.random.choices(("share", "like", "comment", "click"), (50, 25, 10, 15))[0]
        actor = self.someone(member) if kind == "click" or self.happens(0.1) else None
        if self.happens(0.01):
            actor = member.id
        post: dict[str, Any] = {"surface": "brand_post", "post_id": f"{BRAND}-{day + 1}", "actor_id": actor}
        self.interact(member, at, kind, **post)
        if kind == "share" and self.happens(0.04):
            self.interact(member, at + self.within(MINUTE, DAY), kind, -1, **post)

    def post(self, member: Member, at: int) -> None:
        """A post and what it receives over the next days."""
        member.posts += 1
        platform = member.home if self.happens(0.8) else self.random.choice(list(member.followers))
        followers = member.followers[platform]
        post: dict[str, Any] = {"platform": platform, "post_id": f"{self.prefix}-{member.id}-{member.posts}"}
        post["campaign_id"] = self.campaign if self.happens(0.5) else None
        known = {**post, "followers": followers if member.has_profile else None}
        self.interact(member, at, "post", **known)
        self.counters(member, at, post, known, followers)
        actor = {**known, "actor_id": self.someone(member)}
        if self.happens(0.35):
            self.interact(member, at + self.within(HOUR, DAY), "share", **actor)
        if self.happens(0.15):
            liked = at + self.within(HOUR, DAY)
            self.interact(member, liked, "like", **actor)
            if self.happens(0.3):
                self.interact(member, liked + self.within(MINUTE, DAY), "like", -1, **actor)
        if self.happens(0.05):
            kind = "like" if self.happens(0.6) else "comment"
            self.interact(member, at + self.within(MINUTE, HOUR), kind, **{**known, "actor_id": member.id})

    def counters(self, member: Member, at: int, post: dict[str, Any], known: dict[str, Any], followers: int) -> None:
        """The counters of a post, read several times; a reading gives what was added since the one before."""
        rate = rate_of(member.followers[member.home])
        likes = self.about(followers * rate.likes)
        first, second = likes * 6 // 10, likes * 3 // 10
        self.interact(member, at + self.within(HOUR, 4 * HOUR), "like", first, **known)
        self.interact(member, at + self.within(20 * HOUR, 30 * HOUR), "like", second, **post)
        self.interact(member, at + self.within(2 * DAY, 3 * DAY), "like", likes - first - second, **known)
        if self.happens(0.04):
            self.interact(member, at + self.within(3 * DAY, 4 * DAY), "like", -(likes // 20), **known)
        self.interact(member, at + self.within(HOUR, DAY), "comment", self.about(followers * rate.comments), **post)
        seen = followers * self.within(200, 500) // 1000
        self.interact(member, at + self.within(20 * HOUR, 30 * HOUR), "reach", seen, **post)
        if self.happens(0.5):
            self.interact(member, at + self.within(20 * HOUR, 30 * HOUR), "view", seen * 13 // 10, **post)
        if self.happens(0.3):
            self.interact(member, at + self.within(HOUR, DAY), "save", self.about(followers * 0.002), **post)

    def about(self, mean: float) -> int:
        """A whole number around `mean`, half to one and a half of it, whose average is `mean`."""
        return int(mean * (0.5 + self.random.random()) + self.random.random())

    def order(self, member: Member, at: int) -> None:
        """A purchase, often on a friend's word, and at times its refund in one or two parts."""
        order = f"{self.prefix}-{member.id}-o{len(member.orders) + 1}"
        member.orders.append(order)
        amount = 0 if self.happens(0.005) else 490 + int(self.random.lognormvariate(8, 0.7))
        referrer = None
        if self.happens(0.35):
            referrer = self.random.choices(self.members, cum_weights=self.weights)[0].id
        if self.happens(0.01):
            referrer = member.id
        money: dict[str, Any] = {"currency": CURRENCY, "campaign_id": self.campaign if self.happens(0.2) else None}
        known: dict[str, Any] = {
            "order_id": order,
            "kind": "completed",
            "amount_minor": amount,
            "referrer_id": referrer,
        }
        self.add("Purchase", member, at, **known, **money)
        if self.happens(0.1):
            back = at + self.within(HOUR, 10 * DAY)
            part = amount if self.happens(0.5) else amount * self.within(100, 900) // 1000
            self.refund(member, back, part, order)
            if part < amount and self.happens(0.2):
                self.refund(member, back + self.within(HOUR, 3 * DAY), amount - part, order)

    def refund(self, member: Member, at: int, amount: int, order: str | None) -> None:
        money: dict[str, Any] = {"amount_minor": amount, "currency": CURRENCY, "campaign_id": None, "referrer_id": None}
        self.add("Purchase", member, at, order_id=order, kind="refunded", **money)

    def break_some(self) -> None:
        """Copies of good records with a new id, each broken in its own way, spread over the whole time."""
        good = [
            (at, line) for at, _, line in self.queue if isinstance(line, Line) and line.record_type != "ProfileSnapshot"
        ]
        wanted = max(len(BREAKS), int(len(self.queue) * BROKEN)) if good else 0
        for number in range(wanted):
            at, line = self.random.choice(good)
            value = {**line.value, "event_id": self.new_id()}
            broken = BREAKS[number % len(BREAKS)](line.record_type, value, self.random)
            self.queue.append((at + self.within(0, HOUR), len(self.queue), broken))
