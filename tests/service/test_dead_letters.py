"""Dead letters on a real broker: listed, chosen, counted and shown."""

from __future__ import annotations

import asyncio

import pytest
from dead_letter_world import DAY, MARCH, World, world, write

from schemas.dead_letters import Reason
from schemas.topics import DEAD_LETTERS

__all__ = ["world"]


def test_a_letter_that_was_written_twice_is_listed_once(world: World):
    world.letter(2, world.base, b"no avro", "not_avro", times=2)
    (found,) = world.list()
    assert (found["source_partition"], found["source_offset"], found["reason"]) == (2, world.base, "not_avro")
    assert (found["state"], found["redrives"], found["origin"]) == ("open", 0, f"2:{world.base}")
    assert (found["event"], bytes.fromhex(found["hex"])) == (None, b"no avro")


def test_letters_are_listed_in_log_order_and_can_be_chosen(world: World):
    for n, (partition, reason) in enumerate([(1, "invalid"), (0, "not_avro"), (1, "unknown_brand"), (0, "invalid")]):
        world.letter(partition, world.base - n, b"x%d" % n, reason, timestamp=MARCH + n)

    def places(*arguments: str) -> list[str]:
        return [f"{one['source_partition']}:{one['source_offset'] - world.base}" for one in world.list(*arguments)]

    assert places() == ["0:-3", "0:-1", "1:-2", "1:0"]
    assert places("--limit", "2") == ["0:-3", "0:-1"]
    assert places("--partition", "1") == ["1:-2", "1:0"]
    assert places("--reason", "invalid") == ["0:-3", "1:0"]
    assert places("--reason", "not_avro", "--reason", "unknown_brand") == ["0:-1", "1:-2"]
    assert places("--since", str(MARCH + 1), "--until", "2026-03-01T00:00:00.003Z") == ["0:-1", "1:-2"]
    assert places("--state", "redriven") == []
    assert "2 more" in world.run("list", "--brand", world.brand, "--limit", "2")


def test_letters_are_counted_by_reason_and_brand(world: World):
    for n, reason in enumerate(["invalid", "not_avro", "invalid"]):
        world.letter(0, world.base + n, b"x", reason)
    assert world.json("list", "--summary")["summary"] == [
        {"reason": "invalid", "brand": world.brand, "open": 2, "redriven": 0},
        {"reason": "not_avro", "brand": world.brand, "open": 1, "redriven": 0},
    ]
    assert world.brand in world.run("list", "--summary", "--brand", world.brand)


def test_the_same_offset_of_a_log_that_was_made_anew_is_another_letter(world: World):
    world.letter(2, world.base, b"old", "not_avro")
    world.letter(2, world.base, b"new", "not_avro", timestamp=MARCH + DAY)
    assert [bytes.fromhex(one["hex"]) for one in world.list()] == [b"old", b"new"]


def test_what_is_no_letter_of_ours_is_left_out_and_said(world: World):
    asyncio.run(write(world.settings, DEAD_LETTERS, 0, [(world.key(), b"x", [("reason", b"none")])]))
    assert "have not our headers" in world.run("list", "--brand", world.brand)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--since", "yesterday"], "is not a time"),
        (["list", "--until", "2026-03-01T00:00:00"], "has no zone"),
        (["list", "--reason", "nonsense"], "nonsense"),
        (["show", "7"], "PARTITION:OFFSET"),
        (["show", "0:999999999"], "no record at 0:999999999 was refused"),
        (["redrive", "x:y", "--yes"], "PARTITION:OFFSET"),
        (["redrive", "0:999999999", "--yes"], "no record at 0:999999999 was refused"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_asked_for_wrongly_is_said_and_ends_with_2(world: World, arguments: list[str], said: str):
    assert said in world.run(*arguments, code=2)


# Showing


def test_a_letter_is_shown_with_its_headers_its_fields_and_what_to_do(world: World):
    place = world.publish(world.purchase("e1"), ce_id=b"e1", trace=b"\xff\x00")
    assert world.work() == [(place, "unknown_brand")]
    shown = world.json("show", place)
    assert shown["event"]["order_id"] == "e1"
    assert shown["headers"] == [{"name": "ce-id", "value": "e1"}, {"name": "trace", "value": "0xff00"}]
    assert (shown["meaning"], shown["remedy"]) == (Reason.UNKNOWN_BRAND.sentence, Reason.UNKNOWN_BRAND.remedy)
    assert shown["now"].startswith("unknown_brand: ")
    printed = world.run("show", place)
    assert Reason.UNKNOWN_BRAND.remedy in printed
    assert '"order_id": "e1"' in printed
    world.define()
    assert world.json("show", place)["now"] == ""
    assert "would be taken" in world.run("show", place)


def test_bytes_that_cannot_be_decoded_are_dumped_and_no_terminal_obeys_them(world: World):
    key = world.key("\x1b[31mann")
    place = world.publish(b"\x00\x1b[2Jbroken" + bytes(400), key)
    world.work()
    printed = world.run("show", place)
    assert "00 1b 5b 32 4a 62 72 6f 6b 65 6e" in printed
    assert "more bytes" in printed
    assert "\x1b" not in printed + world.run("list", "--brand", world.brand)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_says_what_can_be_done(reason: Reason):
    assert reason.sentence.endswith(".")
    assert reason.remedy.endswith(".")
