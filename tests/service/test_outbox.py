"""What follows from ledger events: definitions to every partition, referrals to the referrer's key, all signed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aggregates.database import open_database
from aggregates.events import Origin, PurchaseRecorded, RefundRecorded
from aggregates.ledger import Ledger, Recorded, brand_aggregate
from aggregates.program_events import BrandDefined, CampaignClosed, Place, StandingsKept
from schemas.codec import decode
from schemas.signing import SIGNATURE_HEADER, verify
from schemas.topics import ACTIVITY, DEFINITIONS
from service import outbox
from service.broker import kafka
from service.broker.topic_admin import create
from service.outbox import Outbox, messages
from service.settings import Settings
from streams import outputs
from streams.connection import Brokers

SECRET = b"secret"
ORIGIN = Origin(ACTIVITY, 0, 7, "buy-1", 1_772_500_000_000, 1_772_500_000_001)
PURCHASE = PurchaseRecorded(ORIGIN, "o1", 5_000, "EUR", "nano", ("spring",), None, "bob", "due")
BRAND = BrandDefined("acme", 1, 0, '{"brand":"acme"}', 5)


def sent(event: object, originator: str = "account:acme/ann") -> list[outbox.Message]:
    return list(messages(Recorded(1, originator, event), SECRET, 3))  # type: ignore[arg-type]


def test_a_definition_goes_to_every_partition_signed_and_to_its_own_topic():
    *broadcast, output = sent(BRAND, "brand:acme")
    assert [(m.topic, m.partition) for m in broadcast] == [(ACTIVITY, 0), (ACTIVITY, 1), (ACTIVITY, 2)]
    assert all(verify(SECRET, m.key, m.value, dict(m.headers)[SIGNATURE_HEADER]) for m in broadcast)
    assert (output.topic, decode(output.value)[0]) == (DEFINITIONS, "ProgramDefinition")


def test_a_referred_purchase_and_its_refund_go_to_the_referrers_key_under_ids_of_their_own():
    (due,) = sent(PURCHASE)
    (back,) = sent(RefundRecorded(ORIGIN, 100, "EUR", "o1", True, referrer_id="bob", ordered_at=3))
    assert due.key == b"acme/bob"
    assert verify(SECRET, due.key, due.value, dict(due.headers)[SIGNATURE_HEADER])
    kind, value = decode(due.value)
    assert (kind, value["buyer_id"], value["amount_minor"], value["kind"]) == ("ReferralDue", "ann", 5_000, "completed")
    assert value["ordered_at"] is None
    back_value = decode(back.value)[1]
    assert (back_value["kind"], back_value["ordered_at"]) == ("refunded", 3)
    assert sent(PURCHASE) == [due], "sent again it is the same record"


def test_a_refund_that_came_before_its_purchase_is_off_what_the_referrer_is_judged_on():
    early = PurchaseRecorded(ORIGIN, "o1", 5_000, "EUR", "nano", (), None, "bob", "due", refunded_minor=1_500)
    assert decode(sent(early)[0].value)[1]["amount_minor"] == 3_500


def test_nothing_follows_from_a_purchase_without_a_due_referral():
    assert sent(PurchaseRecorded(ORIGIN, "o1", 5_000, "EUR", "nano", (), None, "ann", "self_referral")) == []
    assert sent(RefundRecorded(ORIGIN, 100, "EUR", "o1", True)) == []


def test_a_closed_campaigns_marker_goes_to_every_partition_the_same():
    closed = CampaignClosed("acme", "spring", 2, 1_772_500_000_000, 1_772_600_000_000)
    found = sent(closed, "campaign:acme/spring")
    assert [(m.topic, m.partition) for m in found] == [(ACTIVITY, 0), (ACTIVITY, 1), (ACTIVITY, 2)]
    assert len({(m.key, m.value) for m in found}) == 1
    assert verify(SECRET, found[0].key, found[0].value, dict(found[0].headers)[SIGNATURE_HEADER])
    kind, value = decode(found[0].value)
    assert (kind, value["brand_id"], value["campaign_id"]) == ("CampaignClosing", "acme", "spring")


def test_a_prize_goes_to_each_winners_key_as_a_command_of_its_own():
    places = (Place("bob", 1, 9, 500), Place("ann", 2, 7, 300), Place("cat", 2, 7, 300), Place("dan", 4, 1))
    kept = StandingsKept("acme", "spring", 2, 1_772_600_000_000, 0, places)
    found = sent(kept, "campaign:acme/spring")
    assert [(m.key, m.partition) for m in found] == [(b"acme/bob", None), (b"acme/ann", None), (b"acme/cat", None)]
    values = [decode(m.value)[1] for m in found]
    assert [(v["kind"], v["points"], v["reference"], v["campaign_version"], v["rank"]) for v in values] == [
        ("prize", 500, "spring", 2, 1), ("prize", 300, "spring", 2, 2), ("prize", 300, "spring", 2, 2)
    ]  # fmt: skip
    assert len({v["event_id"] for v in values}) == 3
    assert all(verify(SECRET, m.key, m.value, dict(m.headers)[SIGNATURE_HEADER]) for m in found)
    assert sent(kept, "campaign:acme/spring") == found, "sent again they are the same records"


def test_what_was_sent_and_not_noted_is_sent_again(broker: str, tmp_path: Path):
    database = f"sqlite:///{tmp_path / 'l.db'}"
    ledger = Ledger(database)
    ledger.migrate()
    ledger.append({brand_aggregate("acme"): [BRAND]}, {brand_aggregate("acme"): 0})
    engine = open_database(database)
    outbox.METADATA.create_all(engine)

    async def written() -> int:
        """Records in partition 0 of the activity log; other tests write there too."""
        count = 0
        async for _ in outputs.read(Brokers(broker), ACTIVITY, 0, 0):
            count += 1
        return count

    async def scenario() -> tuple[int, int, int]:
        await create(Settings(kafka=broker, partitions=2))
        before = await written()
        async with kafka.producer(Settings(kafka=broker)) as client:
            crashed = Outbox(engine, ledger, client, SECRET, 2)

            def dies(_reached: int) -> None:
                raise SystemError("killed before the position was stored")

            crashed._store = dies  # type: ignore[method-assign]
            with pytest.raises(SystemError):
                await crashed.step()
            again = Outbox(engine, ledger, client, SECRET, 2)
            first, second = await again.step(), await again.step()
        return first, second, await written() - before

    assert asyncio.run(scenario()) == (1, 0, 2)
    with engine.connect() as connection:
        assert outbox.position(connection) == 1


def test_ids_of_derived_records_are_never_too_long_and_never_run_together():
    def id_of(buyer: str, event_id: str) -> str:
        origin = Origin(ACTIVITY, 0, 7, event_id, 1_772_500_000_000, 1_772_500_000_001)
        event = PurchaseRecorded(origin, "o1", 5_000, "EUR", "nano", (), None, "bob", "due")
        event_id = decode(sent(event, f"account:acme/{buyer}")[0].value)[1]["event_id"]
        return str(event_id)

    assert id_of("a", "b:c") != id_of("a:b", "c")
    assert len(id_of("m" * 200, "e" * 200)) <= 200
    long = BrandDefined("b" * 200, 1, 0, "{}", 5)
    assert len(decode(sent(long, "brand:b")[0].value)[1]["event_id"]) <= 200
