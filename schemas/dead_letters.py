"""The one table of reasons for dead letters, and the header of a record that was sent again from them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

REDRIVEN_HEADER: Final = "groundswell-redriven"
"""Header of a record that was sent again from the dead letters: how often by now, and where it stood the first time.

As text, `2 0:15`: for the second time, at first offset 15 of partition 0. A new dead letter of it carries it on.
"""


class Reason(StrEnum):
    """A stable code, carried in the dead letter's header; `sentence` and `remedy` are for people."""

    sentence: str
    remedy: str
    """What one can do about it."""

    def __new__(cls, code: str, sentence: str, remedy: str) -> Reason:
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        member.remedy = remedy
        return member

    NO_VALUE = (
        "no_value",
        "The record has no value.",
        "There is nothing to send again. Find out who publishes records without a value.",
    )
    NOT_AVRO = (
        "not_avro",
        "The value does not begin with the bytes C3 01 of Avro single-object encoding.",
        "Its publisher has to encode it as docs/publishers.md says and publish it again; these bytes cannot succeed.",
    )
    CONFLUENT_FRAMING = (
        "confluent_framing",
        "The value has the framing of a schema registry (00 and an id).",
        "Its publisher has to use single-object encoding and publish it again; these bytes cannot succeed.",
    )
    UNKNOWN_SCHEMA = (
        "unknown_schema",
        "The fingerprint is of no released schema.",
        "Its publisher has to write with a released schema and publish it again; if a newer release of Groundswell has "
        "that schema, redrive after the upgrade.",
    )
    TRUNCATED = (
        "truncated",
        "The value ends before its last field does, or a length in it is impossible.",
        "Its publisher has to publish the whole record again; these bytes cannot succeed.",
    )
    TRAILING_BYTES = (
        "trailing_bytes",
        "The value goes on after its last field.",
        "Its publisher has to publish exactly one record in each message; these bytes cannot succeed.",
    )
    BAD_TEXT = (
        "bad_text",
        "A text is not UTF-8.",
        "Its publisher has to write texts as UTF-8 and publish it again; these bytes cannot succeed.",
    )
    BAD_CHOICE = (
        "bad_choice",
        "A symbol, a null marker or a boolean has a number that the schema does not have.",
        "Its publisher has to encode it with the schema whose fingerprint it names; these bytes cannot succeed.",
    )
    BAD_NUMBER = (
        "bad_number",
        "A number does not fit its type.",
        "Its publisher has to encode it with the schema whose fingerprint it names; these bytes cannot succeed.",
    )
    NOT_INPUT = (
        "not_input",
        "The record type does not belong on the activity log.",
        "Find out who publishes records of our output topics to the activity log; this one cannot succeed there.",
    )
    INVALID = (
        "invalid",
        "A field breaks a rule; the detail names it.",
        "Correct the field and publish it again with the same event_id; redrive only if a newer release has another "
        "rule.",
    )
    WRONG_KEY = (
        "wrong_key",
        "The key is not <brand_id>/<member_id> of the value.",
        "Its publisher has to publish it again with the right key; where only the partition was wrong, redrive puts it "
        "on the right one.",
    )
    UNSIGNED = (
        "unsigned",
        "An internal record type without a good signature.",
        "If the roles had different secrets, give them the same GROUNDSWELL_SECRET and redrive; else somebody forged "
        "it: find out who may write to the activity log. It is never signed afterwards.",
    )
    IN_THE_FUTURE = (
        "in_the_future",
        "occurred_at is more than a day ahead of the record's own timestamp.",
        "Check the publisher's clock and unit (milliseconds) and publish it again corrected; if the time is right, "
        "redrive from a day before it: a redriven record has a new timestamp.",
    )
    UNKNOWN_BRAND = (
        "unknown_brand",
        "No definition of the brand stands before the record.",
        "Apply the brand's definition, then redrive.",
    )
    UNKNOWN_CAMPAIGN = (
        "unknown_campaign",
        "No definition of the named campaign stands before the record.",
        "Apply the campaign's definition, then redrive; if its name is misspelt, publish it again corrected, with the "
        "same event_id.",
    )
    WRONG_CURRENCY = (
        "wrong_currency",
        "The currency is not the brand's.",
        "If the brand's definition is wrong, apply a new version of it that holds when the record occurred, then "
        "redrive; else publish it again in the brand's currency, with the same event_id.",
    )
