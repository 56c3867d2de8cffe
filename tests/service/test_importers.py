"""The two real data sets: small hand-made files for each rule, and the real files against a plain recount."""

from __future__ import annotations

import csv
import gzip
from collections import Counter, defaultdict
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pytest
import yaml

from aggregates.programs import Brand, Campaign, parse
from schemas.validate import problem
from service.feeds import online_retail, tweets
from service.feeds.reading import InputError, Line, Refused

RETAIL_HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"


def retail(folder: Path, *lines: str, left_out: Counter | None = None) -> list[Line | Refused]:
    """Import lines of `invoice,stock code,quantity,minute,price,customer`."""
    full = []
    for line in lines:
        invoice, code, quantity, at, price, customer = line.split(",")
        full.append(f"{invoice},{code},thing,{quantity},{at},{price},{customer},UK")
    path = folder / "shop.csv"
    path.write_text("\n".join([RETAIL_HEADER, *full]) + "\n", "utf-8")
    return list(online_retail.records(path, "b", left_out))


def short(found: list[Line | Refused]) -> list[tuple]:
    return [(r.value["event_id"], r.value["kind"], r.value["order_id"], r.value["amount_minor"]) for r in found]


def test_the_lines_of_an_invoice_are_one_purchase_at_its_first_lines_london_time(tmp_path):
    found = retail(
        tmp_path,
        "1,A,6,2011-07-01 08:26:00,2.55,7",
        "1,B,1,2011-07-01 08:27:00,0.25,7",
        "1,A,6,2011-07-01 08:26:00,2.55,7",
    )
    assert found == [
        Line(None, "Purchase", {
            "event_id": "shop:1", "occurred_at": int(datetime(2011, 7, 1, 7, 26, tzinfo=UTC).timestamp()) * 1000,
            "brand_id": "b", "member_id": "7", "order_id": "1", "kind": "completed", "amount_minor": 3085,
            "currency": "GBP", "campaign_id": None, "referrer_id": None,
        })
    ]  # fmt: skip


def test_an_amount_is_summed_exactly_and_rounded_once_half_to_even(tmp_path):
    found = retail(
        tmp_path,
        *["1,A,1,2011-01-01 08:00:00,0.001,7"] * 5,
        *["2,A,1,2011-01-01 08:00:00,0.001,7"] * 15,
        "3,A,1,2011-01-01 08:00:00,0,7",
    )
    assert [amount for *_, amount in short(found)] == [0, 2, 0]


def test_lines_without_a_customer_are_counted_and_left_out(tmp_path):
    counts: Counter[str] = Counter()
    found = retail(
        tmp_path, "1,A,1,2011-01-01 08:00:00,1,", "1,B,1,2011-01-01 08:00:00,1,7", "2,A,-3,2011-01-01 08:00:00,0,",
        left_out=counts,
    )  # fmt: skip
    assert short(found) == [("shop:1", "completed", "1", 100)]
    assert counts == {online_retail.NO_CUSTOMER: 2}


def test_a_refund_takes_the_latest_earlier_invoice_with_the_stock_code_and_enough_left_line_by_line(tmp_path):
    found = retail(
        tmp_path,
        "1,A,10,2011-01-01 08:00:00,1,7",
        "2,A,3,2011-01-02 08:00:00,1,7",
        "2,B,3,2011-01-02 08:00:00,2,7",
        "3,A,99,2011-01-02 09:00:00,1,8",
        "C4,A,-2,2011-01-03 08:00:00,1,7",  # from 2, which then has one left
        "C4,B,-1,2011-01-03 08:00:00,2,7",  # from 2
        "C4,A,-2,2011-01-03 08:00:00,1,7",  # from 1
        "C4,A,-9,2011-01-03 08:00:00,1,7",  # more than 1 has left: from none
        "C4,Z,-1,2011-01-03 08:00:00,5,7",  # never bought: from none
        "5,A,50,2011-01-04 08:00:00,1,7",
    )
    assert short(found) == [
        ("shop:1", "completed", "1", 1000),
        ("shop:2", "completed", "2", 900),
        ("shop:3", "completed", "3", 9900),
        ("shop:C4:2", "refunded", "2", 400),
        ("shop:C4:1", "refunded", "1", 200),
        ("shop:C4:none", "refunded", None, 1400),
        ("shop:5", "completed", "5", 5000),
    ]


def test_a_refund_of_the_same_minute_comes_after_its_purchase(tmp_path):
    found = retail(tmp_path, "1,A,1,2011-01-01 08:00:00,1,7", "C2,A,-1,2011-01-01 08:00:00,1,7")
    assert [event for event, *_ in short(found)] == ["shop:1", "shop:C2:1"]


def test_a_customers_first_event_may_be_a_refund_that_nothing_matches(tmp_path):
    assert short(retail(tmp_path, "C1,A,-1,2011-01-01 08:00:00,9.5,7")) == [("shop:C1:none", "refunded", None, 950)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("1,B,1.5,2011-01-01 08:00:00,1,7", "line 3 has no whole number"),
        ("1,B,1,2011-01-01 08:00:00,free,7", "line 3 has no whole number"),
        ("1,B,1,2011-01-01 08:00:00,nan,7", "line 3 has no whole number"),
        ("1,B,-5,2011-01-01 08:00:00,1,7", "sums to -4 GBP"),
    ],
)
def test_an_invoice_that_cannot_be_read_whole_is_refused_whole(tmp_path, bad, reason):
    found = retail(tmp_path, "1,A,1,2011-01-01 08:00:00,1,7", bad, "2,A,1,2011-01-01 09:00:00,1,7")
    assert [item.number for item in found[:2]] == [2, 3]
    assert all(isinstance(item, Refused) and reason in item.reason for item in found[:2])
    assert short(found[2:]) == [("shop:2", "completed", "2", 100)]


def test_a_cancellation_that_adds_is_refused(tmp_path):
    (refused,) = retail(tmp_path, "C1,A,1,2011-01-01 08:00:00,1,7")
    assert "quantities below 0" in refused.reason


def test_another_file_is_refused_by_its_columns(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n", "utf-8")
    for module in (online_retail, tweets):
        with pytest.raises(InputError, match=r"other\.csv: no column `"):
            module.records(path, "b")


@pytest.fixture(scope="module")
def retail_lines(real_data) -> list[dict]:
    with gzip.open(real_data / "online_retail" / "onlineretail.csv.gz", "rt", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def bought_and_returned(real_data) -> list[dict]:
    counts: Counter[str] = Counter()
    found = list(online_retail.records(real_data / "online_retail" / "onlineretail.csv.gz", "b", counts))
    assert counts == {online_retail.NO_CUSTOMER: 135_080}
    assert all(isinstance(item, Line) and problem("Purchase", item.value) is None for item in found)
    return [item.value for item in found]


def test_the_real_purchases_agree_with_a_plain_recount(bought_and_returned, retail_lines):
    values = bought_and_returned
    paid: dict[str, Fraction] = defaultdict(Fraction)
    returned: dict[str, Fraction] = defaultdict(Fraction)
    bought: Counter[tuple[str, str]] = Counter()
    for line in retail_lines:
        money = int(line["Quantity"]) * Fraction(line["UnitPrice"]) * 100
        if line["CustomerID"] and line["InvoiceNo"].startswith("C"):
            returned[line["CustomerID"]] -= money
        elif line["CustomerID"]:
            paid[line["CustomerID"]] += money
            bought[line["CustomerID"], line["InvoiceNo"]] += 1
    completed = [value for value in values if value["kind"] == "completed"]
    assert len(completed) == len(bought) == 18_536
    _agrees(paid, completed)
    _agrees(returned, [value for value in values if value["kind"] == "refunded"])
    assert len({(value["member_id"], value["event_id"]) for value in values}) == len(values)
    assert [value["occurred_at"] for value in values] == sorted(value["occurred_at"] for value in values)
    seen: set[tuple[str, str]] = set()
    for value in values:
        order = (value["member_id"], value["order_id"])
        assert value["kind"] == "completed" or value["order_id"] is None or order in seen, value
        seen.add(order)


def _agrees(wanted: dict[str, Fraction], values: list[dict]) -> None:
    """Per customer, the sum in pence is the exact one but for half a penny of rounding a record."""
    total: Counter[str] = Counter()
    records: Counter[str] = Counter()
    for value in values:
        total[value["member_id"]] += value["amount_minor"]
        records[value["member_id"]] += 1
    assert records.keys() == wanted.keys()
    off = [member for member in wanted if total[member] != wanted[member]]
    assert all(abs(total[member] - wanted[member]) <= Fraction(records[member], 2) for member in off)
    assert len(off) <= 5


def test_the_real_refunds_are_those_of_a_plain_search(bought_and_returned, retail_lines):
    """Every refund line looks through all of the customer's earlier invoices, the latest first."""
    invoices: dict[str, list[dict]] = defaultdict(list)
    for line in retail_lines:
        if line["CustomerID"]:
            invoices[line["InvoiceNo"]].append(line)
    earlier: dict[str, list[tuple[str, Counter]]] = defaultdict(list)
    wanted: dict[str, Fraction] = defaultdict(Fraction)
    for number, lines in invoices.items():
        history = earlier[lines[0]["CustomerID"]]
        if not number.startswith("C"):
            left: Counter[str] = Counter()
            for line in lines:
                left[line["StockCode"]] += int(line["Quantity"])
            history.append((number, left))
            continue
        for line in lines:
            code, quantity = line["StockCode"], -int(line["Quantity"])
            order, left = next((h for h in reversed(history) if h[1][code] >= quantity), ("none", Counter()))
            left[code] -= quantity
            wanted[f"onlineretail:{number}:{order}"] += quantity * Fraction(line["UnitPrice"]) * 100
    refunds = [value for value in bought_and_returned if value["kind"] == "refunded"]
    assert {value["event_id"]: value["amount_minor"] for value in refunds} == wanted
    assert Counter(value["order_id"] is None for value in refunds) == {False: 3_773, True: 777}


TWEET_COLUMNS = (
    *("status_id", "ts_utc", "user", "followers", "is_retweet", "reply_to_status_id", "reply_to_user", "mentions"),
    *("favorite_count", "retweet_status_id", "retweet_user", "retweet_user_followers"),
)
ORIGINAL = {
    "status_id": "1", "ts_utc": "2019-05-08T04:14:15Z", "user": "ann", "followers": "120",
    "is_retweet": "False", "favorite_count": "3",
}  # fmt: skip


def tweeted(folder: Path, *tweet_rows: dict[str, str], left_out: Counter | None = None) -> list[Line | Refused]:
    path = folder / "events.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        out = csv.DictWriter(stream, TWEET_COLUMNS, restval="")
        out.writeheader()
        out.writerows(tweet_rows)
    return list(tweets.records(path, "b", left_out))


def told(found: list[Line | Refused]) -> list[tuple]:
    names = ("kind", "member_id", "actor_id", "quantity", "post_id", "followers", "event_id")
    return [tuple(item.value.get(name) for name in names) for item in found]


def test_an_original_is_a_profile_a_post_and_one_like_of_its_count(tmp_path):
    found = tweeted(tmp_path, ORIGINAL)
    assert told(found) == [
        (None, "ann", None, None, None, 120, "1:profile"),
        ("post", "ann", None, 1, "1", 120, "1:post"),
        ("like", "ann", None, 3, "1", 120, "1:like"),
    ]
    assert {item.value["occurred_at"] for item in found} == {1_557_288_855_000}
    assert {item.value["platform"] for item in found} == {"x"}


def test_a_reply_is_also_a_comment_and_every_other_handle_gets_one_mention(tmp_path):
    counts: Counter[str] = Counter()
    reply = {
        "reply_to_user": "bob",
        "reply_to_status_id": "9",
        "mentions": "bob eve bob eve dan",
        "favorite_count": "0",
    }
    found = tweeted(tmp_path, {**ORIGINAL, **reply}, left_out=counts)
    assert told(found)[2:] == [
        ("comment", "bob", "ann", 1, "9", None, "1:comment"),
        ("mention", "eve", "ann", 1, None, None, "1:mention"),
        ("mention", "dan", "ann", 1, None, None, "1:mention"),
    ]
    assert counts == {tweets.NO_LIKES: 1, tweets.MENTION_AGAIN: 1}


def test_a_retweet_is_a_share_of_the_others_post_and_its_mentions_are_ignored(tmp_path):
    retweet = {"is_retweet": "True", "retweet_status_id": "8", "retweet_user": "bob", "retweet_user_followers": "5000"}
    found = tweeted(tmp_path, {**ORIGINAL, **retweet, "mentions": "bob eve"})
    assert told(found) == [
        (None, "ann", None, None, None, 120, "1:profile"),
        ("share", "bob", "ann", 1, "8", 5000, "1:share"),
    ]


@pytest.mark.parametrize(
    "change", [{"ts_utc": "2019-05-08T04:14:15"}, {"followers": "many"}, {"followers": ""}, {"user": ""}]
)
def test_a_row_that_cannot_be_read_is_refused_whole(tmp_path, change):
    found = tweeted(tmp_path, {**ORIGINAL, **change}, {**ORIGINAL, "status_id": "2"})
    assert isinstance(found[0], Refused)
    assert found[0].number == 2
    assert len(found) == 4


def test_the_real_interactions_agree_with_a_plain_recount(real_data):
    path = real_data / "elgl19" / "events.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    originals = [row for row in table if row["is_retweet"] == "False"]
    counts: Counter[str] = Counter()
    found = list(tweets.records(path, "b", counts))
    assert all(isinstance(item, Line) and problem(item.record_type, item.value) is None for item in found)
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for item in found:
        by_kind[item.value.get("kind", "profile")][item.value["member_id"]] += item.value.get("quantity", 1)
    assert by_kind["profile"] == Counter(row["user"] for row in table)
    assert by_kind["post"] == Counter(row["user"] for row in originals)
    assert by_kind["share"] == Counter(row["retweet_user"] for row in table if row["is_retweet"] == "True")
    assert by_kind["comment"] == Counter(row["reply_to_user"] for row in originals if row["reply_to_user"])
    likes: Counter[str] = Counter()
    for row in originals:
        likes[row["user"]] += int(row["favorite_count"])
    assert by_kind["like"] == +likes
    mentions = Counter(h for row in originals for h in set(row["mentions"].split()) - {row["reply_to_user"]})
    assert by_kind["mention"] == mentions
    assert counts[tweets.NO_LIKES] == sum(row["favorite_count"] == "0" for row in originals) == 84
    keys = {(item.record_type, item.value["member_id"], item.value["event_id"]) for item in found}
    assert len(keys) == len(found) == 9_850
    assert [i.value["occurred_at"] for i in found] == sorted(i.value["occurred_at"] for i in found)


@pytest.mark.parametrize("module", [online_retail, tweets])
def test_each_importer_defines_a_brand_and_one_campaign(module):
    brand, campaign = (parse(document, "it") for document in yaml.safe_load_all(module.definition("my: brand"[:2])))
    assert isinstance(brand, Brand)
    assert isinstance(campaign, Campaign)
    assert (brand.id, brand.plan, brand.expire_after, campaign.brand) == ("my", "free", None, "my")


def test_the_campaigns_are_live_over_all_of_the_real_data(real_data, bought_and_returned):
    tweeted = [item.value for item in tweets.records(real_data / "elgl19" / "events.csv", "b")]
    for module, values in ((online_retail, bought_and_returned), (tweets, tweeted)):
        campaign = parse(list(yaml.safe_load_all(module.definition("b")))[1], "it")
        assert isinstance(campaign, Campaign)
        times = [value["occurred_at"] for value in values]
        assert campaign.starts_at <= min(times) <= max(times) < campaign.ends_at
