"""Values of every record type for the property tests, drawn from the schemas."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from schemas.catalogue import RECORD_TYPES, current
from schemas.validate import END_OF_TIME

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=90)
LONG = st.integers(-(2**63), 2**63 - 1) | st.integers(-70, 70)
INT = st.integers(-(2**31), 2**31 - 1)
IDS = st.from_regex(r"[a-z0-9é:-]{1,20}", fullmatch=True)


def encodable(record_type: str) -> st.SearchStrategy[dict[str, Any]]:
    """Values that fit the schema, however senseless."""
    return st.fixed_dictionaries({field["name"]: _any(field["type"]) for field in current()[record_type]["fields"]})


def sensible(record_type: str) -> st.SearchStrategy[dict[str, Any]]:
    """Values that keep every rule."""
    fields = current()[record_type]["fields"]
    return st.fixed_dictionaries({field["name"]: _good(field["name"], field["type"]) for field in fields})


ANY_RECORD = st.sampled_from(RECORD_TYPES).flatmap(lambda name: st.tuples(st.just(name), encodable(name)))
GOOD_RECORD = st.sampled_from(RECORD_TYPES).flatmap(lambda name: st.tuples(st.just(name), sensible(name)))


def _any(avro: Any) -> st.SearchStrategy[Any]:
    if isinstance(avro, list):
        return st.none() | _any(avro[1])
    kind = avro["type"] if isinstance(avro, dict) else avro
    if kind == "enum":
        return st.sampled_from(avro["symbols"])
    if kind == "map":
        return st.dictionaries(TEXT, LONG, max_size=6)
    return {"string": TEXT, "long": LONG, "int": INT, "boolean": st.booleans()}[kind]


def _good(name: str, avro: Any) -> st.SearchStrategy[Any]:
    if isinstance(avro, list):
        return _good(name, avro[1]) if name == "order_id" else st.none() | _good(name, avro[1])
    kind = avro["type"] if isinstance(avro, dict) else avro
    if name == "currency":
        return st.from_regex(r"[A-Z]{3}", fullmatch=True)
    if kind == "enum":
        return st.sampled_from(avro["symbols"])
    if kind == "map":
        return st.dictionaries(IDS, LONG, max_size=6)
    if isinstance(avro, dict):
        return st.integers(0, END_OF_TIME - 1)
    return {"string": IDS, "long": st.integers(0, 10**9), "int": st.integers(1, 99), "boolean": st.booleans()}[kind]
