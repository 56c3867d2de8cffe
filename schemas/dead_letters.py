"""The one table of reasons for which a record of the activity log becomes a dead letter."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A stable code, carried in the dead letter's header; `sentence` is for people."""

    sentence: str

    def __new__(cls, code: str, sentence: str) -> Reason:
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    NO_VALUE = "no_value", "The record has no value."
    NOT_AVRO = "not_avro", "The value does not begin with the bytes C3 01 of Avro single-object encoding."
    CONFLUENT_FRAMING = "confluent_framing", "The value has the framing of a schema registry (00 and an id)."
    UNKNOWN_SCHEMA = "unknown_schema", "The fingerprint is of no released schema."
    TRUNCATED = "truncated", "The value ends before its last field does, or a length in it is impossible."
    TRAILING_BYTES = "trailing_bytes", "The value goes on after its last field."
    BAD_TEXT = "bad_text", "A text is not UTF-8."
    BAD_CHOICE = "bad_choice", "A symbol, a null marker or a boolean has a number that the schema does not have."
    BAD_NUMBER = "bad_number", "A number does not fit its type."
    NOT_INPUT = "not_input", "The record type does not belong on the activity log."
    INVALID = "invalid", "A field breaks a rule; the detail names it."
    WRONG_KEY = "wrong_key", "The key is not <brand_id>/<member_id> of the value."
    UNSIGNED = "unsigned", "An internal record type without a good signature."
    IN_THE_FUTURE = "in_the_future", "occurred_at is more than a day ahead of the record's own timestamp."
    UNKNOWN_BRAND = "unknown_brand", "No definition of the brand stands before the record."
    UNKNOWN_CAMPAIGN = "unknown_campaign", "No definition of the named campaign stands before the record."
    WRONG_CURRENCY = "wrong_currency", "The currency is not the brand's."
