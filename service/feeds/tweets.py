"""elgl19 (MIT): tweets and retweets around one conference become profiles, posts, likes, comments, mentions and shares.

One row is one status. Event ids come from its id and the kind: with the member they are unique, since a status gives
a member at most one event of a kind.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from schemas.validate import problem
from service.feeds.formats import Item
from service.feeds.reading import Line, Refused, instant, rows

PLATFORM: Final = "x"
COLUMNS: Final = (
    *("status_id", "ts_utc", "user", "followers", "is_retweet", "reply_to_status_id", "reply_to_user", "mentions"),
    *("favorite_count", "retweet_status_id", "retweet_user", "retweet_user_followers"),
)
NO_LIKES: Final = "original without likes"
MENTION_AGAIN: Final = "handle mentioned twice in one status"
"""What gives no record of its own, as the counts name it."""

_NUMBERS: Final = ("followers", "favorite_count", "retweet_user_followers")


def records(path: str | Path, brand: str, left_out: Counter[str] | None = None) -> Iterator[Line | Refused]:
    """The records of the file for `brand`, in order of time; those of one status in the order of this page.

    `left_out` counts what gives no record of its own, by reason. A row that cannot be read whole is refused whole.
    Raises InputError when the file cannot be read.
    """
    return _records(rows(path, COLUMNS), brand, Counter() if left_out is None else left_out)


def definition(brand: str) -> str:
    """A brand and one campaign over the days of the conference, as YAML."""
    return f"""\
brand: {json.dumps(brand)}
plan: free
timezone: America/New_York
currency: USD
tiers: {{nano: 0, micro: 1000, mid: 10000, macro: 100000}}
points: {{expire_after: none, negative_balance: allow}}
---
campaign: conference
brand: {json.dumps(brand)}
version: 1
starts_at: 2019-05-08T00:00:00Z
ends_at: 2019-05-18T00:00:00Z
earn:
  - {{rule: post, on: interaction, kind: [post], points: 5, caps: {{per_day: 25}}}}
  - {{rule: share, on: interaction, kind: [share], surface: [member_post], points: 10,
     tier_multiplier: {{nano: 3, micro: 2}}, caps: {{per_post: 150, per_day: 500}}}}
  - {{rule: comment, on: interaction, kind: [comment], surface: [member_post], points: 5,
     tier_multiplier: {{nano: 3, micro: 2}}, caps: {{per_post: 50, per_day: 200}}}}
  - {{rule: mention, on: interaction, kind: [mention], points: 2,
     tier_multiplier: {{nano: 2, micro: 1.5}}, caps: {{per_day: 100}}}}
  - {{rule: like, on: interaction, kind: [like], surface: [member_post], points: 1,
     tier_multiplier: {{nano: 2, micro: 1.5}}, caps: {{per_post: 50, per_day: 200}}}}
standings: points
"""


def _records(source: Iterator[Item], brand: str, left_out: Counter[str]) -> Iterator[Line | Refused]:
    ready: list[tuple[int, Line]] = []
    for item in source:
        lines = _status(item, brand, left_out)
        if isinstance(lines, Refused):
            yield lines
        else:
            ready += ((line.value["occurred_at"], line) for line in lines)
    ready.sort(key=lambda pair: pair[0])  # stable: what ties keeps the file's order
    for _, line in ready:
        yield line


def _status(item: Item, brand: str, left_out: Counter[str]) -> list[Line] | Refused:
    """The records of one row, checked; or the refusal of the whole row."""
    if item.fields is None:
        return Refused(item.number, item.raw, item.reason)
    row: dict[str, Any] = dict(item.fields)
    skipped: Counter[str] = Counter()
    try:
        row["at"] = instant(row["ts_utc"])
        for name in _NUMBERS:
            row[name] = int(row[name]) if row[name] else None
        lines = list(_lines(item.number, row, brand, skipped))
    except ValueError as error:
        return Refused(item.number, item.raw, f"the row has no good time or number: {error}")
    for line in lines:
        wrong = problem(line.record_type, line.value)
        if wrong is not None:
            return Refused(
                item.number, item.raw, f"its {line.value.get('kind', 'profile')} is not valid: {wrong.message}"
            )
    left_out.update(skipped)
    return lines


def _lines(number: int, row: dict[str, Any], brand: str, skipped: Counter[str]) -> Iterator[Line]:
    status, user = row["status_id"], row["user"]

    def interaction(member: str, kind: str, **fields: Any) -> Line:
        head = {"event_id": f"{status}:{kind}", "occurred_at": row["at"], "brand_id": brand, "member_id": member}
        body = {"surface": "member_post", "kind": kind, "quantity": 1, "platform": PLATFORM, "post_id": None}
        tail = {"campaign_id": None, "actor_id": None, "followers": None}
        return Line(number, "Interaction", {**head, **body, **tail, **fields})

    profile = {"event_id": f"{status}:profile", "occurred_at": row["at"], "brand_id": brand, "member_id": user}
    yield Line(number, "ProfileSnapshot", {**profile, "platform": PLATFORM, "followers": row["followers"]})
    if row["is_retweet"] == "True":
        post, followers = row["retweet_status_id"] or None, row["retweet_user_followers"]
        yield interaction(row["retweet_user"], "share", post_id=post, actor_id=user, followers=followers)
        return
    yield interaction(user, "post", post_id=status, followers=row["followers"])
    if row["favorite_count"]:
        likes = {"quantity": row["favorite_count"], "followers": row["followers"]}
        yield interaction(user, "like", post_id=status, **likes)
    else:
        skipped[NO_LIKES] += 1
    replied_to = row["reply_to_user"]
    if replied_to:
        yield interaction(replied_to, "comment", post_id=row["reply_to_status_id"] or None, actor_id=user)
    handles = [handle for handle in row["mentions"].split() if handle != replied_to]
    once = dict.fromkeys(handles)
    if len(once) < len(handles):
        skipped[MENTION_AGAIN] += len(handles) - len(once)
    for handle in once:
        yield interaction(handle, "mention", actor_id=user)
