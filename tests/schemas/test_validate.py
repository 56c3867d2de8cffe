"""The rules of a record, and the sentences that say which was broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_values import ANY_RECORD, GOOD_RECORD

from schemas import validate
from schemas.validate import END_OF_TIME, problem

GOLDEN = Path(validate.__file__).parent / "golden"
LIKE = json.loads((GOLDEN / "Interaction.1.json").read_text())
ORDER = json.loads((GOLDEN / "Purchase.1.json").read_text())
ID = "a text of 1 to 200 characters"


@given(GOOD_RECORD)
def test_a_record_that_keeps_the_rules_has_no_problem(record):
    assert problem(*record) is None


def test_optional_fields_may_be_absent():
    assert problem("Interaction", {name: item for name, item in LIKE.items() if item is not None}) is None


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"quantity": True}, "quantity", "is True: give a whole number from -1000000000 to 1000000000"),
        ({"quantity": 1.0}, "quantity", "is 1.0: give a whole number"),
        ({"quantity": "3"}, "quantity", "is '3': give a whole number"),
        ({"quantity": 10**9 + 1}, "quantity", "give a whole number"),
        ({"quantity": -(10**9) - 1}, "quantity", "give a whole number"),
        ({"kind": "lik"}, "kind", "is 'lik': give one of like, comment"),
        ({"kind": 3}, "kind", "is 3: give one of like"),
        ({"surface": None}, "surface", "is missing: give one of member_post, brand_post"),
        ({"event_id": ""}, "event_id", ID),
        ({"event_id": "x" * 201}, "event_id", ID),
        ({"event_id": b"x"}, "event_id", ID),
        ({"event_id": "a\x00b"}, "event_id", ID),
        ({"brand_id": "a/b"}, "brand_id", "without '/'"),
        ({"brand_id": " acme"}, "brand_id", "surrounding space"),
        ({"member_id": "m\u00a0"}, "member_id", "surrounding space"),
        ({"member_id": "m\n1"}, "member_id", "control characters"),
        ({"member_id": "m\ud800"}, "member_id", "control characters"),
        ({"occurred_at": -1}, "occurred_at", "the milliseconds since 1970-01-01T00:00:00Z"),
        ({"occurred_at": END_OF_TIME}, "occurred_at", "the milliseconds since"),
        ({"occurred_at": "2026-03-01"}, "occurred_at", "is '2026-03-01': give a whole number"),
        ({"followers": -1}, "followers", "is -1: give a whole number from 0 to 10000000000"),
        ({"followers": 10**10 + 1}, "followers", "give a whole number"),
        ({"campaign_id": ""}, "campaign_id", ID),
        ({"quantty": 3}, "quantty", "is no field of this record type; did you mean `quantity`?"),
        ({"zzz": 3}, "zzz", "is no field of this record type: one of actor_id, brand_id"),
    ],
)
def test_a_broken_rule_of_an_interaction_names_its_field_and_what_to_do(change, field, message):
    found = problem("Interaction", {**LIKE, **change})
    assert found is not None
    assert found.field == field
    assert f"`{field}`" in found.message
    assert message in found.message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount_minor": -1}, "amount_minor"),
        ({"amount_minor": 59.9}, "amount_minor"),
        ({"amount_minor": 10**15 + 1}, "amount_minor"),
        ({"currency": "eur"}, "currency"),
        ({"currency": "EURO"}, "currency"),
        ({"currency": "ÄÖÜ"}, "currency"),
        ({"order_id": None}, "order_id"),
        ({"referrer_id": "a/b"}, "referrer_id"),
    ],
)
def test_a_broken_rule_of_a_purchase_names_its_field(change, field):
    found = problem("Purchase", {**ORDER, **change})
    assert found is not None
    assert found.field == field


@pytest.mark.parametrize(
    "change", [{"amount_minor": 0}, {"kind": "refunded", "order_id": None}, {"amount_minor": 10**15}]
)
def test_the_edges_of_a_purchase_are_good(change):
    assert problem("Purchase", {**ORDER, **change}) is None


def test_a_completed_purchase_without_an_order_says_why_it_is_needed():
    absent = {name: item for name, item in ORDER.items() if name != "order_id"}
    found = problem("Purchase", absent)
    assert found is not None
    assert found.message == "`order_id` is missing: a completed purchase needs one, so that a refund can name it"


def test_a_misspelled_required_field_is_named_rather_than_the_missing_one():
    found = problem("Interaction", {("quantiy" if name == "quantity" else name): item for name, item in LIKE.items()})
    assert found is not None
    assert found.message == "`quantiy` is no field of this record type; did you mean `quantity`?"


def test_an_unknown_record_type_gets_the_nearest_name():
    found = problem("Interacton", {})
    assert found is not None
    assert found.message == "record type 'Interacton' is unknown; did you mean `Interaction`?"


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3)


@given(GOOD_RECORD | ANY_RECORD, st.dictionaries(st.text(max_size=4), JUNK, max_size=1), st.data())
def test_the_quick_judgement_is_the_same_as_rule_by_rule(record, extra, data):
    record_type, value = record
    value = {**value, **extra}
    name = data.draw(st.sampled_from(sorted(value)))
    value[name] = data.draw(JUNK | st.just(value[name]))
    shape = validate._shapes()[record_type]
    plain = value.keys() <= shape.names and all(
        shape.rules[name].holds(value.get(name)) or (name not in shape.required and value.get(name) is None)
        for name in shape.rules
    )
    assert shape.quick(value) == plain
    found = problem(record_type, value)
    assert (found is None) == (plain and validate._across(record_type, value) is None)
    assert found is None or found.message
