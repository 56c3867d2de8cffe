"""Golden examples: bytes that a released version wrote mean the same for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas import catalogue
from schemas.catalogue import RECORD_TYPES, released
from schemas.codec import decode, encode
from schemas.compatibility import check
from schemas.validate import problem

GOLDEN = Path(catalogue.__file__).parent / "golden"
VERSIONS = [(name, number) for name in RECORD_TYPES for number in released()[name]]


@pytest.mark.parametrize(("name", "number"), VERSIONS)
def test_every_released_version_has_an_example_that_decodes_to_its_value(name, number):
    value = json.loads((GOLDEN / f"{name}.{number}.json").read_text(encoding="utf-8"))
    record_type, found = decode((GOLDEN / f"{name}.{number}.avro").read_bytes())
    assert record_type == name
    assert {field: found[field] for field in value} == value
    assert problem(name, found) is None


@pytest.mark.parametrize("name", RECORD_TYPES)
def test_the_newest_example_is_what_is_written_today(name):
    stem = f"{name}.{max(released()[name])}"
    value = json.loads((GOLDEN / f"{stem}.json").read_text(encoding="utf-8"))
    assert encode(name, value) == (GOLDEN / f"{stem}.avro").read_bytes()


def test_panes_and_tiers_written_before_posts_and_epochs_have_both_empty():
    pane = decode((GOLDEN / "EngagementPane.1.avro").read_bytes())[1]
    assert (pane["post_id"], pane["epoch"]) == ("", "")
    assert decode((GOLDEN / "MemberTier.1.avro").read_bytes())[1]["epoch"] == ""


def test_the_contracts_of_this_tree_are_in_order():
    assert check() == []


def test_the_catalogue_names_every_type_with_its_version_and_topics():
    entries = {entry.record_type: entry for entry in catalogue.catalogue()}
    assert list(entries) == list(RECORD_TYPES)
    assert entries["Interaction"].topics == ("members.activity.v1",)
    assert entries["EngagementPane"].topics == ("engagement.windows.v1", "tiers.aggregates.v1")
    assert entries["Command"].trusted
    assert not entries["Purchase"].trusted
    first = (GOLDEN / "Purchase.1.avro").read_bytes()[2:10]
    assert entries["Purchase"].fingerprint == first[::-1].hex()
