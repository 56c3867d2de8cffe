"""Random but legal streams of ledger events, and what they must add up to, said again in plain dictionaries."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache

from hypothesis import strategies as st

from aggregates.definitions import content_of
from aggregates.events import (
    CommandRefused,
    Grant,
    InteractionRewarded,
    InteractionTakenBack,
    Origin,
    PaidOff,
    PointsAdjusted,
    PointsRedeemed,
    PrizeAwarded,
    PurchaseRecorded,
    RedemptionCancelled,
    ReferralJudged,
    RefundRecorded,
    Refusal,
    Reversal,
    StoredEvent,
    Take,
)
from aggregates.ledger import Recorded
from aggregates.parsing import parse
from aggregates.program_events import (
    BrandDefined,
    CampaignClosed,
    CampaignDefined,
    CampaignSettled,
    MarkerPassed,
    Place,
    StandingsKept,
)

HOUR = 3_600_000
START = 1_772_323_200_000  # 2026-03-01
BRANDS = ("acme", "zeta")
MEMBERS = ("ann", "bob", "Zoë")
CAMPAIGNS = ("spring", "summer")


@dataclass
class Lot:
    left: int
    active_at: int
    expires_at: int | None
    occurred_at: int


@dataclass
class Member:
    lots: dict[str, Lot] = field(default_factory=dict)
    earned: int = 0
    adjusted: int = 0
    reversed: int = 0
    spent: int = 0
    debt: int = 0
    owed_at: int = 0
    shortfall: int = 0

    def owe(self, points: int, at: int) -> None:
        self.debt += points
        self.owed_at = max(self.owed_at, at) if points else self.owed_at

    def at(self, at: int) -> tuple[dict[str, int], int]:
        """What each lot holds then, and the debt, after holds that ended have paid it off."""
        left, debt = {name: lot.left for name, lot in self.lots.items()}, self.debt
        for name, lot in sorted(self.lots.items(), key=lambda one: (one[1].active_at, one[1].expires_at or 10**15)):
            in_time = lot.expires_at is None or lot.expires_at > max(self.owed_at, lot.active_at)
            if self.owed_at <= at and lot.active_at <= at and in_time:
                pays = max(0, min(left[name], debt))  # a part of the time can have what paid without what was owed
                left[name], debt = left[name] - pays, debt - pays
        return left, debt

    def dated(self, at: int) -> tuple[int, int, int, int]:
        """Active less debt, pending and expired points, and the debt."""
        left, debt = self.at(at)
        found = {"active": -debt, "pending": 0, "expired": 0}
        for name, lot in self.lots.items():
            gone = lot.expires_at is not None and lot.expires_at <= at
            found["pending" if lot.active_at > at else "expired" if gone else "active"] += left[name]
        return found["active"], found["pending"], found["expired"], debt


@dataclass
class Stream:
    """Events so far and, independently of any projection, what they mean."""

    events: list[Recorded] = field(default_factory=list)
    members: dict[tuple[str, str], Member] = field(default_factory=lambda: defaultdict(Member))
    standings: dict[tuple[str, str, str], int] = field(default_factory=lambda: defaultdict(int))
    grants: list[tuple[str, str, Grant]] = field(default_factory=list)
    open_points: dict[str, int] = field(default_factory=dict)
    redemptions: list[tuple[str, str, PointsRedeemed]] = field(default_factory=list)
    movements: int = 0
    settled: dict[tuple[str, str], tuple[Place, ...]] = field(default_factory=dict)

    def origin(self, at: int) -> Origin:
        n = len(self.events) + 1
        return Origin("members.activity.v1", n % 3, n, f"event-{n}", at, START + n * HOUR)

    def put(self, originator: str, event: StoredEvent, gap: int = 1) -> None:
        last = self.events[-1].id if self.events else 0
        self.events.append(Recorded(last + gap, originator, event))

    def source(self, after: int, limit: int) -> list[Recorded]:
        return [recorded for recorded in self.events if recorded.id > after][:limit]

    def pay_off(self, brand: str, member: str, at: int) -> PaidOff | None:
        """What holds that have ended paid of the debt, said by the event that is put next."""
        account = self.members[brand, member]
        left, account.debt = account.at(at)
        takes = []
        for name, lot in account.lots.items():
            if left[name] != lot.left:
                takes.append(Take(name, lot.left - left[name]))
                lot.left = left[name]
        if not takes:
            return None
        self.movements += 1
        return PaidOff(f"paid-{len(self.events)}", sum(take.points for take in takes), tuple(takes))

    def define(self) -> None:
        for brand in BRANDS:
            self.put(f"brand:{brand}", BrandDefined(brand, 1, 0, _brand_content(brand), START))
            for campaign in CAMPAIGNS:
                content = _campaign_content(brand, campaign)
                self.put(f"campaign:{brand}/{campaign}", CampaignDefined(brand, campaign, 1, START, content, START))

    def reward(
        self, brand: str, member: str, points: int, campaign: str, at: int, how: int, expire: int | None
    ) -> None:
        origin = self.origin(at)
        expires = None if expire is None else at + (how % 5 + expire) * HOUR
        paid = self.pay_off(brand, member, at)
        settles = 0 if how % 5 else self._settle(brand, member, points)
        grant = Grant(
            f"grant-{len(self.events)}", campaign, 1, "share", points, points + how, "unit", 10, 0, 1000,
            at + how % 5 * HOUR, expires, "cap_day" if how else "", settles=settles,
        )  # fmt: skip
        refusals = (Refusal(campaign, 1, "spend", "cap_day"),) if how % 2 else ()
        event: StoredEvent
        if how % 3 == 0:
            event = InteractionRewarded(
                origin, "share", "brand_post", "x", 1, "nano", grants=(grant,), refusals=refusals, paid_off=paid
            )
        elif how % 3 == 1:
            event = PurchaseRecorded(
                origin, f"o-{len(self.events)}", 100, "EUR", "nano", (campaign,), referrer_id=member,
                referral="self_referral", grants=(grant,), refusals=refusals, paid_off=paid,
            )  # fmt: skip
        else:
            event = ReferralJudged(
                origin, "completed", f"o-{len(self.events)}", "eve", 100, "nano", (campaign,), grants=(grant,),
                refusals=refusals, paid_off=paid,
            )  # fmt: skip
        self.put(f"account:{brand}/{member}", event, 1 + how % 2)
        account = self.members[brand, member]
        account.earned += points
        account.lots[grant.entry_id] = Lot(points - settles, grant.active_at, grant.expires_at, at)
        self.standings[brand, campaign, member] += points
        self.grants.append((brand, member, grant))
        self.open_points[grant.entry_id] = points
        self.movements += 1

    def take_back(self, which: int, part: int, at: int, allow_debt: bool) -> None:
        if not self.grants:
            return
        brand, member, grant = self.grants[which % len(self.grants)]
        wanted = min(part, self.open_points[grant.entry_id])
        if wanted == 0:
            return
        self.open_points[grant.entry_id] -= wanted
        account, paid = self.members[brand, member], self.pay_off(brand, member, at)
        takes, missing = self._out_of(account, wanted, at, pending=True)
        debt, short = (missing, 0) if allow_debt else (0, missing)
        lost = wanted - short
        reversal = Reversal(
            f"back-{len(self.events)}", grant.entry_id, grant.campaign, 1, "share", lost, takes, debt, short
        )
        origin = self.origin(at)
        event: StoredEvent = InteractionTakenBack(
            origin, "share", "brand_post", "x", -1, reversals=(reversal,), paid_off=paid
        )
        if which % 2:
            event = RefundRecorded(origin, 10, "EUR", "o", True, reversals=(reversal,), paid_off=paid)
        self.put(f"account:{brand}/{member}", event)
        account.reversed += lost
        account.owe(debt, at)
        account.shortfall += short
        self.standings[brand, grant.campaign, member] -= lost
        self.movements += 1

    def redeem(self, brand: str, member: str, points: int, at: int) -> None:
        account = self.members[brand, member]
        active, *_ = account.dated(at)
        origin = self.origin(at)
        if points > active:
            refused: StoredEvent = CommandRefused(origin, "redeem", points, "insufficient_points", "api")
            self.put(f"account:{brand}/{member}", refused)
            return
        paid = self.pay_off(brand, member, at)
        takes, _ = self._out_of(account, points, at, pending=False)
        event = PointsRedeemed(origin, f"spent-{len(self.events)}", points, takes, "api", paid)
        self.put(f"account:{brand}/{member}", event)
        account.spent += points
        self.redemptions.append((brand, member, event))
        self.movements += 1

    def cancel(self, which: int, at: int) -> None:
        if not self.redemptions:
            return
        brand, member, redeemed = self.redemptions.pop(which % len(self.redemptions))
        account, paid = self.members[brand, member], self.pay_off(brand, member, at)
        settles, returns = self._settle(brand, member, redeemed.points), []
        left = settles
        for take in redeemed.takes:
            some = min(left, take.points)
            left -= some
            if take.points > some:
                returns.append(Take(take.lot, take.points - some))
                account.lots[take.lot].left += take.points - some
        event = RedemptionCancelled(
            self.origin(at),
            f"cancelled-{len(self.events)}",
            redeemed.entry_id,
            redeemed.points,
            tuple(returns),
            settles,
            paid_off=paid,
        )
        self.put(f"account:{brand}/{member}", event)
        account.spent -= redeemed.points
        self.movements += 1

    def adjust(self, brand: str, member: str, points: int, at: int) -> None:
        account = self.members[brand, member]
        origin, entry = self.origin(at), f"adjusted-{len(self.events)}"
        paid = self.pay_off(brand, member, at)
        if points > 0:
            settles = self._settle(brand, member, points)
            dates = at, at + 9 * HOUR
            event = PointsAdjusted(origin, entry, points, *dates, settles=settles, reason="sorry", paid_off=paid)
            account.lots[entry] = Lot(points - settles, at, at + 9 * HOUR, at)
        else:
            takes, missing = self._out_of(account, -points, at, pending=False)
            event = PointsAdjusted(origin, entry, points, at, takes=takes, debt=missing, paid_off=paid)
            account.owe(missing, at)
        self.put(f"account:{brand}/{member}", event)
        account.adjusted += points
        self.movements += 1

    def prize(self, brand: str, member: str, points: int, at: int) -> None:
        account, paid = self.members[brand, member], self.pay_off(brand, member, at)
        entry, settles = f"prize-{len(self.events)}", self._settle(brand, member, points)
        event = PrizeAwarded(self.origin(at), entry, "spring", 1, 1, points, at, None, settles, paid_off=paid)
        self.put(f"account:{brand}/{member}", event)
        account.lots[entry] = Lot(points - settles, at, None, at)
        account.earned += points
        self.movements += 1

    def _settle(self, brand: str, member: str, points: int) -> int:
        """What of points that come in pays off debt."""
        account = self.members[brand, member]
        settled = min(points, account.debt)
        account.debt -= settled
        return settled

    def settle(self, brand: str, campaign: str) -> None:
        """Close and settle a campaign by the points that its members have now, once."""
        if (brand, campaign) in self.settled:
            return
        at = START + len(self.events) * HOUR
        originator = f"campaign:{brand}/{campaign}"
        self.put(originator, CampaignClosed(brand, campaign, 1, at, at))
        self.put(f"marker:{brand}/{campaign}/1", MarkerPassed(self.origin(at), brand, campaign))
        scores = {m: points for (b, c, m), points in self.standings.items() if (b, c) == (brand, campaign)}
        places = tuple(
            Place(member, rank, scores[member], 10 * (rank == 1))
            for rank, member in enumerate(sorted(scores, key=lambda m: (-scores[m], m)), 1)
        )
        for first in range(0, len(places), 2):
            self.put(originator, StandingsKept(brand, campaign, 1, at, first, places[first : first + 2]))
        won = sum(place.prize > 0 for place in places)
        self.put(originator, CampaignSettled(brand, campaign, 1, "points", len(places), won, 10 * won, at, at + 1))
        self.settled[brand, campaign] = places

    @staticmethod
    def _out_of(account: Member, points: int, at: int, *, pending: bool) -> tuple[tuple[Take, ...], int]:
        takes = []
        for lot_id, lot in account.lots.items():
            some = min(points, lot.left)
            if some and (_spendable(lot, at) or (pending and lot.active_at > at)):
                lot.left -= some
                points -= some
                takes.append(Take(lot_id, some))
        return tuple(takes), points


def _spendable(lot: Lot, at: int) -> bool:
    return lot.active_at <= at and (lot.expires_at is None or lot.expires_at > at)


@cache
def _brand_content(brand: str) -> str:
    tiers = {"nano": 0, "micro": 1000}
    document = {"brand": brand, "plan": "pro", "timezone": "UTC", "currency": "EUR", "tiers": tiers}
    return content_of(parse(document, brand))


@cache
def _campaign_content(brand: str, campaign: str) -> str:
    document = {
        "campaign": campaign,
        "brand": brand,
        "starts_at": "2026-03-01T00:00:00Z",
        "ends_at": "2026-05-01T00:00:00Z",
        "earn": [{"rule": "share", "on": "interaction", "points": 10}],
    }
    return content_of(parse(document, campaign))


_points = st.integers(1, 60)
_times = st.integers(0, 30).map(lambda hours: START + hours * HOUR)
_rewards = st.tuples(
    st.just("reward"), st.sampled_from(BRANDS), st.sampled_from(MEMBERS), _points, st.sampled_from(CAMPAIGNS), _times,
    st.integers(0, 6), st.none() | st.integers(0, 20),
)  # fmt: skip
_takings = st.tuples(st.just("take_back"), st.integers(0, 9), _points, _times, st.booleans())
_redemptions = st.tuples(st.just("redeem"), st.sampled_from(BRANDS), st.sampled_from(MEMBERS), _points, _times)
_cancellations = st.tuples(st.just("cancel"), st.integers(0, 9), _times)
_adjustments = st.tuples(
    st.just("adjust"), st.sampled_from(BRANDS), st.sampled_from(MEMBERS), st.integers(-60, 60).filter(bool), _times
)
_prizes = st.tuples(st.just("prize"), st.sampled_from(BRANDS), st.sampled_from(MEMBERS), _points, _times)
_settlements = st.tuples(st.just("settle"), st.sampled_from(BRANDS), st.sampled_from(CAMPAIGNS))


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """A stream of up to 40 steps after the definitions."""
    stream = Stream()
    stream.define()
    steps = _rewards | _takings | _redemptions | _cancellations | _adjustments | _prizes
    for name, *args in draw(st.lists(steps, max_size=40)):
        getattr(stream, name)(*args)
    return stream


def long_stream(steps: int) -> Stream:
    """A fixed stream of that many steps."""
    stream = Stream()
    stream.define()
    for n in range(steps):
        brand, member = BRANDS[n % 2], MEMBERS[n % 3]
        at = START + n * HOUR
        if n % 4 == 2:
            stream.take_back(n // 2, n % 17, at, n % 8 == 2)
        elif n % 4 == 3:
            stream.redeem(brand, member, n % 23 + 1, at)
        elif n % 20 == 5:
            stream.cancel(n, at)
        elif n % 20 == 9:
            stream.adjust(brand, member, n % 7 - 20, at)
        elif n % 20 == 13:
            stream.prize(brand, member, 50, at)
        else:
            stream.reward(brand, member, n % 31 + 1, CAMPAIGNS[n % 5 % 2], at, n % 7, None if n % 3 else 24)
    stream.settle(BRANDS[0], CAMPAIGNS[0])
    return stream
