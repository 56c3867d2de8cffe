"""Refused records are sent again as they were, once they can be taken, only once, and never for ever."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from dead_letter_world import DAY, PARTITIONS, World, right_partition, world

from schemas.dead_letters import REDRIVEN_HEADER
from schemas.signing import SIGNATURE_HEADER, sign

__all__ = ["world"]

BALANCE = Path(__file__).parents[2] / "schemas" / "golden" / "MemberBalance.1.avro"


def test_a_record_is_sent_again_as_it_was_once_its_brand_is_defined_and_only_once(world: World):
    value = world.purchase("e1")
    place = world.publish(value, ce_id=b"e1")
    world.work()
    world.define()

    dry = world.json("redrive", "--dry-run")
    assert (dry["dry_run"], dry["redriven"], dry["refused"]) == (True, 1, 0)
    assert world.log() == [], "a dry run sends nothing"

    done = world.redrive()
    assert done["by_reason"] == [{"reason": "unknown_brand", "redriven": 1, "refused": 0, "already_redriven": 0}]
    (record,) = world.log()
    assert (record.key, record.value, record.partition) == (world.key(), value, right_partition(world.key()))
    assert list(record.headers) == [("ce-id", b"e1"), (REDRIVEN_HEADER, f"1 {place}".encode())]
    assert world.work() == [], "it is taken"

    assert world.redrive()["redriven"] == 0
    assert world.redrive(place)["already_redriven"] == 1
    assert world.log() == []
    (found,) = world.list("--state", "redriven")
    assert found["redriven_at"]
    assert world.list("--state", "open") == []


def test_what_would_be_refused_again_is_not_sent_unless_it_is_forced(world: World):
    world.publish(world.purchase("e1"))
    world.work()
    done = world.redrive(code=1)
    assert (done["redriven"], [no["code"] for no in done["refusals"]]) == (0, ["unknown_brand"])
    world.define(currency="USD")
    assert [no["code"] for no in world.redrive(code=1)["refusals"]] == ["wrong_currency"]
    assert world.log() == []
    assert "currency EUR" in world.run("redrive", "--brand", world.brand, "--dry-run", code=1)
    assert world.redrive("--force")["redriven"] == 1
    assert len(world.log()) == 1


def test_a_campaign_that_is_defined_meanwhile_is_enough(world: World):
    world.define()
    world.publish(world.purchase("e1", campaign_id="spring"))
    assert [reason for _, reason in world.work()] == ["unknown_campaign"]
    assert world.redrive(code=1)["redriven"] == 0
    world.define_campaign("spring")
    assert world.redrive()["redriven"] == 1
    assert world.work() == []


def test_a_record_that_is_refused_again_and_again_is_sent_three_times(world: World):
    first = world.publish(world.purchase("e1"))
    world.work()
    places = [first]
    for n in range(1, 4):
        assert world.redrive("--force")["redriven"] == 1
        (record,) = world.log()
        assert dict(record.headers)[REDRIVEN_HEADER] == f"{n} {first}".encode()
        ((place, reason),) = world.work()
        assert reason == "unknown_brand"
        places.append(place)
    stopped = world.redrive("--force", code=1)
    assert (stopped["redriven"], stopped["refusals"][0]["code"]) == (0, "redriven_too_often")
    assert stopped["already_redriven"] == 3
    assert world.log() == []
    assert [(one["redrives"], one["origin"], one["state"]) for one in world.list()] == [
        (0, first, "redriven"),
        (1, first, "redriven"),
        (2, first, "redriven"),
        (3, first, "open"),
    ]
    world.define()
    assert world.redrive("--max-redrives", "4")["redriven"] == 1
    assert world.work() == []


def test_a_kill_before_the_note_sends_an_accepted_record_twice_which_is_a_duplicate(world: World):
    world.publish(world.purchase("e1"))
    world.work()
    world.define()
    assert world.redrive()["redriven"] == 1
    world.forget_marks()
    assert world.redrive()["redriven"] == 1
    assert [what for _, what in world.work()] == ["duplicate"]


def test_a_kill_before_the_note_sends_no_record_twice_that_was_refused_again(world: World):
    first = world.publish(world.purchase("e1"))
    world.work()
    world.redrive("--force")
    ((second, _),) = world.work()
    world.forget_marks()
    before, after = world.list()
    assert (before["state"], before["refused_again"], before["redriven_at"]) == ("redriven", second, None)
    assert after["state"] == "open"
    world.define()
    assert world.redrive()["redriven"] == 1
    (record,) = world.log()
    assert dict(record.headers)[REDRIVEN_HEADER] == f"2 {first}".encode()


def test_nobody_hides_anothers_letter_by_a_header(world: World):
    place = world.publish(world.purchase("e1"))
    world.publish(world.purchase("other"), **{"groundswell_redriven": f"9 {place}".encode()})
    world.publish(world.purchase("junk"), **{"groundswell_redriven": b"\xffmany"})
    world.work()
    assert [(one["state"], one["redrives"]) for one in world.list()] == [("open", 0), ("open", 9), ("open", 0)]


def test_records_go_out_in_the_order_in_which_they_first_stood(world: World):
    places = [world.publish(world.purchase(f"e{n}")) for n in range(3)]
    world.work()
    world.redrive("--force", places[0])
    world.work()
    world.define()
    world.redrive()
    assert [record.value for record in world.log()] == [world.purchase(f"e{n}") for n in range(3)]


def test_a_few_can_be_tried_before_the_rest(world: World):
    for n in range(5):
        world.publish(world.purchase(f"e{n}"))
    world.work()
    world.define()
    assert world.redrive("--limit", "2")["redriven"] == 2
    assert len(world.log()) == 2
    assert world.redrive()["redriven"] == 3


def test_nothing_is_sent_until_somebody_agrees(world: World, monkeypatch: pytest.MonkeyPatch):
    world.publish(world.purchase("e1"))
    world.work()
    world.define()
    assert "--yes" in world.run("redrive", "--brand", world.brand, code=2)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, code, sent in (("n", 2, 0), ("y", 0, 1)):
        monkeypatch.setattr("typer.confirm", lambda *_, said=answer, **__: said == "y")
        assert "unknown_brand" in world.run("redrive", "--brand", world.brand, code=code)
        assert len(world.log()) == sent


def test_a_record_in_the_wrong_partition_goes_to_the_right_one_but_not_one_with_anothers_key(world: World):
    world.define()
    right = right_partition(world.key())
    world.publish(world.purchase("e1"), partition=(right + 1) % PARTITIONS)
    world.publish(world.purchase("e2"), key=world.key("bob"))
    assert [reason for _, reason in world.work()] == ["wrong_key", "wrong_key"]
    done = world.redrive(code=1)
    assert (done["redriven"], [no["code"] for no in done["refusals"]]) == (1, ["wrong_key"])
    (record,) = world.log()
    assert (record.value, record.partition) == (world.purchase("e1"), right)
    assert world.work() == []


def test_what_was_ahead_of_its_time_can_be_sent_when_the_time_has_come(world: World):
    world.define()
    now = time.time_ns() // 1_000_000
    for n, at in enumerate((now - DAY, now + 3 * DAY)):
        value = world.purchase(f"e{n}", occurred_at=at)
        world.letter(0, world.base + n, value, "in_the_future", timestamp=at - 2 * DAY)
    done = world.redrive(code=1)
    assert (done["redriven"], [no["code"] for no in done["refusals"]]) == (1, ["in_the_future"])
    assert world.work() == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"no avro", "not_avro"),
        (b"\xc3\x01too short", "unknown_schema"),
        (None, "no_value"),
        (BALANCE.read_bytes(), "not_input"),
    ],
    ids=["not_avro", "unknown_schema", "no_value", "not_input"],
)
def test_what_can_never_be_taken_is_refused_unless_forced(world: World, value: bytes | None, reason: str):
    world.publish(value)
    assert [why for _, why in world.work()] == [reason]
    assert [no["code"] for no in world.redrive(code=1)["refusals"]] == [reason]
    assert world.log() == []
    assert world.redrive("--force")["redriven"] == 1
    (record,) = world.log()
    assert (record.key, record.value) == (world.key(), value)


def test_an_unsigned_internal_record_is_refused_and_never_signed(world: World):
    world.define()
    bad = {"groundswell_signature": sign(b"another secret", world.key(), world.command("c2"))}
    places = [world.publish(world.command("c1")), world.publish(world.command("c2"), **bad)]
    assert world.work() == [(place, "unsigned") for place in places]
    assert [no["code"] for no in world.redrive(code=1)["refusals"]] == ["unsigned", "unsigned"]
    assert world.redrive("--force")["redriven"] == 2
    sent = [dict(record.headers).get(SIGNATURE_HEADER) for record in world.log()]
    assert sent == [None, *bad.values()]
    assert [reason for _, reason in world.work()] == ["unsigned", "unsigned"]


def test_a_signed_internal_record_keeps_its_signature(world: World):
    value = world.command("c1")
    world.publish(value, groundswell_signature=sign(b"s", world.key(), value))
    assert [reason for _, reason in world.work()] == ["unknown_brand"]
    world.define()
    assert world.redrive()["redriven"] == 1
    assert world.work() == []


def test_an_internal_record_that_a_worker_with_another_secret_refused_is_taken_now(world: World):
    world.define()
    value = world.command("c1")
    headers = [(SIGNATURE_HEADER, sign(b"s", world.key(), value))]
    world.letter(0, world.base, value, "unsigned", headers=headers)
    assert world.redrive()["redriven"] == 1
    assert world.work() == []


def test_a_record_that_is_too_large_to_send_stops_no_other(world: World):
    world.define()
    world.letter(0, world.base, bytes(2 << 20), "not_avro")
    world.letter(0, world.base + 1, world.purchase("e1"), "unknown_brand")
    done = world.redrive("--force", code=1)
    assert (done["redriven"], [no["code"] for no in done["refusals"]]) == (1, ["too_large"])
    assert [one["state"] for one in world.list()] == ["open", "redriven"]
