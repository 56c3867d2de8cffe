"""A real shop's purchases and refunds through the ledger: balances recounted, books, rebuilds that are killed."""

from __future__ import annotations

import random
import signal
import subprocess
from collections import Counter, defaultdict
from datetime import datetime
from zoneinfo import ZoneInfo

import httpx
import pytest
from running import COMMAND, ENVIRONMENT, stack

from service.feeds import online_retail

REBUILD = [*COMMAND, "replay", "rebuild", "all", "--data-dir"]
INTERRUPTIONS = 10


@pytest.fixture(scope="module")
def shop(real_data):
    return real_data / "online_retail" / "onlineretail.csv.gz"


@pytest.fixture(scope="module")
def up(shop, tmp_path_factory):
    """A stack that has all of it."""
    with stack(tmp_path_factory.mktemp("retail") / "data") as running:
        running.run("import", "online-retail", str(shop), "--brand", "shop", "--define")
        running.run("wait", "--timeout", "180")
        yield running


def recounted(shop) -> Counter[str]:
    """Points by member: of an order less what was sent back one for each whole pound; 25 for the first of a day.

    The 25 go with an order that is sent back in full, and no other order of that day gets them then.
    """
    orders, refunds = {}, defaultdict(list)
    for line in online_retail.records(shop, "shop"):
        value = line.value
        if value["kind"] == "completed":
            orders[value["order_id"]] = value
        elif value["order_id"] is not None:
            refunds[value["order_id"]].append(value["amount_minor"])
    points: Counter[str] = Counter()
    paid_days = set()
    for order, value in orders.items():
        net = max(0, value["amount_minor"] - sum(refunds[order]))
        day = datetime.fromtimestamp(value["occurred_at"] / 1000, ZoneInfo("Europe/London")).date()
        if (value["member_id"], day) not in paid_days:
            paid_days.add((value["member_id"], day))
            points[value["member_id"]] += 25 if net or not refunds[order] else 0
        points[value["member_id"]] += net // 100
    return points


def test_the_ten_largest_balances_are_those_of_a_plain_recount_and_the_books_add_up(up, shop):
    largest = recounted(shop).most_common(10)
    assert largest[0][1] > 100_000
    members = f"http://127.0.0.1:{up.port}/v1/brands/shop/members"
    balances = [httpx.get(f"{members}/{member}/balance").raise_for_status().json() for member, _ in largest]
    assert [(b["member_id"], b["active"] + b["pending"]) for b in balances] == largest
    books = up.json("books", "shop")
    assert books["total"] == 0
    assert all(one["ties"] for one in books["tie_out"])
    (held,) = [account["points"] for account in books["accounts"] if account["account"] == "member"]
    assert held == sum(recounted(shop).values()), "no order is on hold any more, and nobody owes points"


def test_ten_rebuilds_that_are_killed_leave_the_digests_as_they_were(up):
    before = up.digests()
    chance, killed = random.Random(INTERRUPTIONS), 0
    for _ in range(INTERRUPTIONS):
        rebuild = subprocess.Popen(
            [*REBUILD, str(up.directory)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
        )
        try:
            rebuild.wait(chance.uniform(1.5, 6))
        except subprocess.TimeoutExpired:
            rebuild.send_signal(signal.SIGKILL)
            rebuild.wait()
            killed += 1
        assert up.digests() == before, "what serves is whole, whenever a rebuild dies"
    assert killed, "none was interrupted: they are quicker than this test thinks"
    said = up.run("replay", "rebuild", "all")
    assert "These serve now" in said
    assert up.digests() == before
    assert "Every read model is what the log says." in up.run("replay", "verify")
