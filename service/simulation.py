"""A simulated community: a month of posts, likes, shares, friends' purchases and the mess that real feeds have.

Like rates by influence tier are those of Markerly's study of Instagram (2016), as Marketing Dive reported it: close to
8 % of the followers under 1,000 followers, 4 % up to 10,000, 2.37 % up to 100,000 and 1.66 % from a million; 1.7 %
from 100,000 is in between. It found comments to follow the same pattern, from about 0.5 %. Everything else here
(followers, how often people post, share and buy) is an assumption, chosen so that half of the members have under
10,000 followers and 30 % under 5,000.

Everything follows from seed, members and days alone: ids, order and times.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from schemas.codec import encode
from schemas.topics import activity_key
from service.reading import Line

BRAND: Final = "wavecrest"
CAMPAIGN: Final = "spring-tide"
START: Final = 1_772_323_200_000
"""2026-03-01T00:00:00Z."""
MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

RATES: Final = ((1_000, 0.080, 0.0050), (10_000, 0.040, 0.0027), (100_000, 0.0237, 0.0015), (10**12, 0.017, 0.0008))
"""Upper bound of followers, likes and comments a post and follower."""
FOLLOWERS_MEDIAN: Final = 10_000
FOLLOWERS_SIGMA: Final = 1.322
"""Log-normal: 50 % under 10,000, 30 % under 5,000, 4 % under 1,000 and 4 % over 100,000."""
POSTS_A_DAY: Final = 0.09
PLATFORMS: Final = ("instagram", "tiktok", "x")
MESS: Final = {"duplicate": 0.02, "late": 0.01, "unlike": 0.04, "self": 0.01, "broken": 0.004}
"""Shares of records that are repeated, come days late, are taken back, are one's own, or cannot be read."""


class Broken(NamedTuple):
    """Bytes to publish that the intake must refuse."""

    raw: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Member:
    """A simulated member."""

    id: str
    platform: str
    followers: int


def definitions(days: int) -> str:
    """The brand and its campaign over the simulated days, as YAML."""
    return f"""\
brand: {BRAND}
plan: pro
timezone: Europe/Lisbon
currency: EUR
tiers: {{nano: 0, micro: 1000, mid: 10000, macro: 100000}}
points: {{expire_after: none, negative_balance: allow}}
---
campaign: {CAMPAIGN}
brand: {BRAND}
version: 1
starts_at: {START}
ends_at: {START + days * DAY}
join: open
earn:
  - {{rule: share-our-post, on: interaction, kind: [share], surface: [brand_post], points: 10,
     tier_multiplier: {{nano: 3, micro: 2, mid: 1.5}}, caps: {{per_post: 30, per_day: 60, total: 600}}, hold: 0d}}
  - {{rule: conversation, on: interaction, kind: [comment, mention], surface: [member_post], points: 1,
     tier_multiplier: {{nano: 4, micro: 2}}, caps: {{per_post: 20, per_week: 200}}, hold: 0d}}
  - {{rule: spend, on: purchase, per_minor: 100, points: 1, hold: 14d}}
  - {{rule: bring-a-friend, on: referral, points: 500, hold: 14d}}
standings: points
"""


def community(seed: int, members: int, days: int) -> Iterator[Line | Broken]:
    """The records of the community in the order in which they are delivered."""
    return iter(_Community(seed, members, days).delivered())


class _Community:
    def __init__(self, seed: int, members: int, days: int) -> None:
        self.random = random.Random(f"{seed}/{members}/{days}")
        self.end = START + days * DAY
        self.members = [self._member(n) for n in range(members)]
        self.queue: list[tuple[int, int, Line | Broken]] = []
        self.prefix = f"s{seed}-{members}-{days}"
        self.orders = 0

    def _member(self, number: int) -> Member:
        followers = int(self.random.lognormvariate(0, FOLLOWERS_SIGMA) * FOLLOWERS_MEDIAN) + 10
        return Member(f"m{number:05}", self.random.choice(PLATFORMS), followers)

    def delivered(self) -> list[Line | Broken]:
        for member in self.members:
            self.add("ProfileSnapshot", member, START, platform=member.platform, followers=member.followers)
        for member in self.members:
            self._month_of(member)
        self._break_some()
        self.queue.sort(key=lambda item: item[:2])
        return [record for _, _, record in self.queue]

    def add(self, record_type: str, member: Member, at: int, **fields: Any) -> None:
        """Queue a record that occurs at `at`, now and then delivered late or twice."""
        if at >= self.end:
            return
        value = {
            "event_id": f"{self.prefix}-{len(self.queue)}",
            "occurred_at": at,
            "brand_id": BRAND,
            "member_id": member.id,
            **fields,
        }
        line = Line(None, record_type, value)
        delivered = at + self.random.randrange(3 * MINUTE)
        if self.random.random() < MESS["late"] and record_type == "Interaction":
            delivered = at + self.random.randrange(2 * DAY, 6 * DAY)
        self.queue.append((delivered, len(self.queue), line))
        if self.random.random() < MESS["duplicate"]:
            self.queue.append((delivered + self.random.randrange(HOUR), len(self.queue), line))

    def interact(self, member: Member, at: int, kind: str, quantity: int, post: str, **fields: Any) -> None:
        """Queue an interaction, and now and then one that takes some of it back."""
        if quantity <= 0:
            return
        value = {
            "surface": "member_post",
            "kind": kind,
            "quantity": quantity,
            "platform": member.platform,
            "post_id": post,
            "campaign_id": None,
            "actor_id": None,
            "followers": None,
            **fields,
        }
        self.add("Interaction", member, at, **value)
        if self.random.random() < MESS["unlike"] and kind in ("like", "comment", "share"):
            back = self.random.randint(1, max(1, quantity // 10))
            self.add(
                "Interaction", member, at + self.random.randrange(MINUTE, 12 * HOUR), **{**value, "quantity": -back}
            )

    def _month_of(self, member: Member) -> None:
        days = (self.end - START) // DAY
        for day in range(days):
            begin = START + day * DAY
            if self.random.random() < POSTS_A_DAY:
                self._post(member, begin + self.random.randrange(DAY))
            if self.random.random() < 0.12:
                at = begin + self.random.randrange(DAY)
                self.interact(member, at, "share", 1, f"brand-{day}", surface="brand_post")
            if self.random.random() < 0.03:
                self._purchase(member, begin + self.random.randrange(DAY))

    def _post(self, member: Member, at: int) -> None:
        rnd = self.random
        post = f"{member.id}-{at // MINUTE}"
        self.interact(member, at, "post", 1, post, followers=member.followers)
        likes, comments = next((like, comment) for bound, like, comment in RATES if member.followers < bound)
        total = self._about(member.followers * likes)
        first = total * 6 // 10
        self.interact(member, at + rnd.randrange(HOUR, 3 * HOUR), "like", first, post)
        self.interact(member, at + rnd.randrange(8 * HOUR, 30 * HOUR), "like", total - first, post)
        self.interact(
            member, at + rnd.randrange(HOUR, 20 * HOUR), "comment", self._about(member.followers * comments), post
        )
        self.interact(member, at + 24 * HOUR, "reach", self._about(member.followers * 0.35), post)
        friend = rnd.choice(self.members)
        if friend is not member and rnd.random() < 0.3:
            self.interact(member, at + rnd.randrange(HOUR, DAY), "mention", 1, post, actor_id=friend.id)
        if rnd.random() < 0.2:
            self.interact(member, at + rnd.randrange(HOUR, DAY), "save", self._about(member.followers * 0.004), post)
        if rnd.random() < MESS["self"] * 10:
            self.interact(member, at + rnd.randrange(MINUTE, HOUR), "like", 1, post, actor_id=member.id)

    def _about(self, mean: float) -> int:
        """A whole number around `mean`."""
        spread = max(0.0, self.random.gauss(mean, mean**0.5 + mean * 0.1))
        return int(spread) + (self.random.random() < spread - int(spread))

    def _purchase(self, member: Member, at: int) -> None:
        rnd = self.random
        self.orders += 1
        order = f"{self.prefix}-o{self.orders}"
        amount = int(rnd.lognormvariate(8.3, 0.7))
        friend = rnd.choice(self.members)
        referrer = friend.id if rnd.random() < 0.25 else member.id if rnd.random() < 0.01 else None
        fields = {"order_id": order, "currency": "EUR", "campaign_id": None, "referrer_id": referrer}
        self.add("Purchase", member, at, kind="completed", amount_minor=amount, **fields)
        if rnd.random() < 0.08:
            back = amount if rnd.random() < 0.5 else rnd.randint(1, amount)
            self.add(
                "Purchase", member, at + rnd.randrange(HOUR, 9 * DAY), kind="refunded", amount_minor=back,
                **{**fields, "referrer_id": None},
            )  # fmt: skip

    def _break_some(self) -> None:
        whole = [item for item in self.queue if isinstance(item[2], Line) and item[2].record_type == "Purchase"]
        for number in range(int(len(self.queue) * MESS["broken"])):
            delivered, _, line = self.random.choice(whole)
            assert isinstance(line, Line)
            self.queue.append((delivered + MINUTE, len(self.queue), self._broken(number, line.value)))

    def _broken(self, number: int, good: dict[str, Any]) -> Broken:
        value = {**good, "event_id": f"{self.prefix}-broken-{number}"}
        key = activity_key(BRAND, value["member_id"])
        match number % 6:
            case 0:
                return Broken(self.random.randbytes(self.random.randrange(1, 60)), key)
            case 1:
                return Broken(encode("Purchase", {**value, "amount_minor": -1}), key)
            case 2:
                return Broken(encode("Purchase", {**value, "campaign_id": "no-such-campaign"}), key)
            case 3:
                return Broken(encode("Purchase", {**value, "currency": "USD"}), key)
            case 4:
                return Broken(encode("Purchase", {**value, "occurred_at": 4_102_444_800_000}), key)
        forged = {
            "event_id": value["event_id"],
            "occurred_at": value["occurred_at"],
            "brand_id": BRAND,
            "member_id": value["member_id"],
            "buyer_id": "nobody",
            "order_id": "none",
            "kind": "completed",
            "amount_minor": 1,
            "currency": "EUR",
            "campaign_id": None,
            "new_customer": True,
        }
        return Broken(encode("ReferralDue", forged), key)
