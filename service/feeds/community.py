"""Who takes part in the simulation: members with followers, and how often their posts are liked.

Likes after "Instagram Marketing: Does Influencer Size Matter?" (Markerly, 2016), a study of unpaid posts on Instagram.
Marketing Dive and Digiday report from it: about 8 % of the followers like a post below 1,000 followers, 4 % up to
10,000, 2.37 % up to 100,000, 1.66 % from one to ten million, and comments in the same pattern. The second decimals of
8.03 % and 4.04 %, and 1.78 % between 100,000 and a million, are as usually quoted from it.
Assumptions of ours, from no study: the comment rates (about a fifteenth of the likes), followers, growth, all else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple


class Rate(NamedTuple):
    """Likes and comments a post gets, as a share of its author's followers, below a bound of followers."""

    below: int
    likes: float
    comments: float


RATES: Final = (
    Rate(1_000, 0.0803, 0.0056),
    Rate(10_000, 0.0404, 0.0027),
    Rate(100_000, 0.0237, 0.0016),
    Rate(1_000_000, 0.0178, 0.0012),
    Rate(10**12, 0.0166, 0.0011),
)

MEDIAN_FOLLOWERS: Final = 10_000
SIGMA: Final = 1.3218
"""Of the log-normal followers, ln 2 / 0.5244: 30 % under 5,000, 50 % under 10,000, 4 % over 100,000."""
MOST_FOLLOWERS: Final = 5_000_000
PLATFORMS: Final = ("instagram", "tiktok", "x")
_REFERRAL_WEIGHTS: Final = ((1_000, 6), (10_000, 4), (100_000, 3), (10**12, 2))
"""How often friends buy on a member's word, by followers: an assumption too."""


@dataclass(slots=True)
class Member:
    """A simulated member; followers change as time passes, on the first platform most of all."""

    id: str
    followers: dict[str, int]
    """By platform; the first is the one with most."""
    has_profile: bool = True
    """False: upstream never learns the followers, so nothing of this member's is rated."""
    posts: int = 0
    orders: list[str] = field(default_factory=list)

    @property
    def home(self) -> str:
        """The platform with most followers, which decides the influence tier."""
        return next(iter(self.followers))


def population(random: Random, size: int) -> list[Member]:
    """`size` members, the same for the same state of `random`."""
    return [_member(random, number) for number in range(size)]


def rate_of(followers: int) -> Rate:
    """The rates of an author with so many followers."""
    return next(rate for rate in RATES if followers < rate.below)


def referral_weight(member: Member) -> int:
    """How often friends buy on this member's word, relative to others."""
    return next(weight for below, weight in _REFERRAL_WEIGHTS if member.followers[member.home] < below)


def grow(random: Random, member: Member) -> None:
    """A week's change of followers: usually some more, at times fewer."""
    for platform, followers in member.followers.items():
        member.followers[platform] = max(1, followers + followers * random.randrange(-10, 31) // 1000)


def _member(random: Random, number: int) -> Member:
    followers = min(int(random.lognormvariate(0, SIGMA) * MEDIAN_FOLLOWERS) + 1, MOST_FOLLOWERS)
    home = PLATFORMS[0] if random.random() < 0.7 else random.choice(PLATFORMS[1:])
    accounts = {home: followers}
    if random.random() < 0.2:
        other = random.choice([platform for platform in PLATFORMS if platform != home])
        accounts[other] = followers * random.randrange(100, 600) // 1000 + 1
    accounts = dict(sorted(accounts.items(), key=lambda item: -item[1]))
    return Member(f"m{number:05}", accounts, has_profile=random.random() >= 0.01)
