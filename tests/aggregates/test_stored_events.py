"""History stays readable: bytes that a release stored mean the same for ever, and are written the same by the next."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from aggregates import events
from aggregates.events import (
    STORED_NAMES,
    PointsRedeemed,
    StoredEvent,
    Take,
    UnknownEvent,
    from_older,
    from_stored,
    to_stored,
)
from aggregates.program_events import CampaignLaunched
from aggregates.upcasters import UPCASTERS, Upcaster

GOLDEN = Path(events.__file__).parent / "golden"
"""`<stored name>.json` has what the release that brought the name stored, byte for byte. A field that comes later gets
an example of its own, `<stored name>.<field>.json`. None of them is ever written anew."""
EVERY_NAME = sorted({**STORED_NAMES, **UPCASTERS})


def examples(name: str) -> list[Path]:
    return sorted(path for path in GOLDEN.iterdir() if path.name.startswith(f"{name}."))


@pytest.mark.parametrize("name", EVERY_NAME)
def test_every_stored_version_has_a_golden_example_that_today_reads(name: str) -> None:
    assert (GOLDEN / f"{name}.json").is_file()
    for path in examples(name):
        written, _ = to_stored(from_stored(name, path.read_bytes()))
        assert written == name or name in UPCASTERS


@pytest.mark.parametrize("name", sorted(STORED_NAMES))
def test_what_was_stored_is_written_back_byte_for_byte(name: str) -> None:
    for path in examples(name):
        stored = path.read_bytes()
        assert to_stored(from_stored(name, stored)) == (name, stored), path.name


def test_every_golden_example_is_of_a_stored_name() -> None:
    assert {path for name in EVERY_NAME for path in examples(name)} == set(GOLDEN.iterdir())


@pytest.mark.parametrize("name", sorted(STORED_NAMES))
def test_every_field_that_can_be_stored_is_in_some_example_of_its_name(name: str) -> None:
    kept = {field for path in examples(name) for field in fields_in(json.loads(path.read_bytes()))}
    assert fields_of(inspect.type_info(STORED_NAMES[name])) == kept


def fields_of(kind: inspect.Type, within: str = "") -> set[str]:
    """Every field of a type, with the fields it stands in."""
    match kind:
        case inspect.StructType():
            below = (fields_of(f.type, f"{within}{f.name}.") | {within + f.name} for f in kind.fields)
            return set().union(*below)
        case inspect.VarTupleType():
            return fields_of(kind.item_type, within)
        case inspect.UnionType():
            return set().union(*(fields_of(one, within) for one in kind.types))
        case _:
            return set()


def fields_in(value: Any, within: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield within + name
            yield from fields_in(below, f"{within}{name}.")
    elif isinstance(value, list):
        for one in value:
            yield from fields_in(one, within)


def values_of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Anything that a field of this type can hold."""
    match kind:
        case inspect.IntType():
            return st.integers(-(2**63), 2**63 - 1)
        case inspect.StrType():
            return st.text(max_size=8)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.UnionType():
            return st.one_of(*map(values_of, kind.types))
        case inspect.VarTupleType():
            return st.lists(values_of(kind.item_type), max_size=3).map(tuple)
        case inspect.StructType():
            return st.builds(kind.cls, **{field.name: values_of(field.type) for field in kind.fields})
        case _:
            raise AssertionError(f"no values of {kind} are stored so far: say here what they are")


@given(st.sampled_from(sorted(STORED_NAMES)).flatmap(lambda name: values_of(inspect.type_info(STORED_NAMES[name]))))
def test_every_event_comes_back_as_it_was_stored(event: StoredEvent) -> None:
    name, state = to_stored(event)
    again = from_stored(name, state)
    assert again == event
    assert to_stored(again) == (name, state)


def test_a_name_of_a_newer_release_says_which_release_reads_it() -> None:
    with pytest.raises(UnknownEvent, match=r"`account\.teleported\.4`.* a newer release wrote it\. Run that release"):
        from_stored("account.teleported.4", b"{}")


def test_an_older_version_is_brought_up_step_by_step_to_the_type_of_today() -> None:
    """Three versions of a redemption: one lot without its points; then one with; then takes, as they are."""
    names = {"redeemed.3": PointsRedeemed, "launched.1": CampaignLaunched}
    steps = {
        "redeemed.1": Upcaster("redeemed.2", lambda old: {**old, "taken": old["points"]}),
        "redeemed.2": Upcaster("redeemed.3", takes_of_one_lot),
    }
    origin = {"topic": "t", "partition": 0, "offset": 9, "event_id": "e", "occurred_at": 5, "recorded_at": 6}
    first = {"origin": origin, "entry_id": "r", "points": 30, "lot": "a"}
    today = from_older("redeemed.1", msgspec.json.encode(first), names, steps)
    assert isinstance(today, PointsRedeemed)
    assert (today.points, today.takes, today.origin.offset) == (30, (Take("a", 30),), 9)
    assert from_older("redeemed.2", msgspec.json.encode({**first, "taken": 30}), names, steps) == today
    with pytest.raises(UnknownEvent, match=r"redeemed\.4"):
        from_older("redeemed.4", b"{}", names, steps)


def takes_of_one_lot(old: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in old.items() if name not in ("lot", "taken")}
    return {**kept, "takes": [{"lot": old["lot"], "points": old["taken"]}]}


def test_each_step_leads_to_a_name_that_is_read() -> None:
    assert all(step.name in STORED_NAMES or step.name in UPCASTERS for step in UPCASTERS.values())
