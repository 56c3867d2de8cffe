"""The API's description: nothing without a word, every number with its unit, and no change that breaks a client."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openapi_changes import breaking

from service.api.application import create_app
from service.problems import MEDIA_TYPE
from service.settings import Settings

BALANCE = "/v1/brands/{brand}/members/{member}/balance"
REDEEM = "/v1/brands/{brand}/members/{member}/redemptions"
STANDINGS = "/v1/brands/{brand}/campaigns/{campaign}/standings"
NUMBERS = {"integer", "number"}
UNIT = re.compile(
    r"points|count|position|offset|partition|version|place|rank|rate|minor units|followers|members|posts|people"
    r"|engagements?|likes|orders|purchases|refunds|rows|status|÷|multiplier|units|how many|milliseconds|what .* add",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return create_app(Settings(kafka="127.0.0.1:1", database="sqlite:///nowhere.db", secret="s")).openapi()


def fields(description: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of every schema, and every parameter, with where it is."""
    for name, schema in description["components"]["schemas"].items():
        for field, one in schema.get("properties", {}).items():
            yield f"{name}.{field}", one
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", ()):
                words = {"description": parameter.get("description")}
                yield f"{method} {path} {parameter['name']}", {**parameter["schema"], **words}


def kinds(schema: dict[str, Any]) -> set[str]:
    inner = [schema, *schema.get("anyOf", ())]
    more = [one["additionalProperties"] for one in inner if isinstance(one.get("additionalProperties"), dict)]
    return {one["type"] for one in (*inner, *more) if "type" in one}


def test_every_field_and_parameter_says_what_it_is(description: dict[str, Any]) -> None:
    silent = [where for where, one in fields(description) if not one.get("description") and "$ref" not in one]
    assert not silent


def test_every_number_says_its_unit(description: dict[str, Any]) -> None:
    numbers = {where: one["description"] for where, one in fields(description) if kinds(one) & NUMBERS}
    assert len(numbers) > 100
    assert not {where: words for where, words in numbers.items() if not UNIT.search(words)}


def test_every_answer_has_an_example_and_every_problem_its_type(description: dict[str, Any]) -> None:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                content = answer.get("content", {})
                if status >= "400":
                    assert list(content) == [MEDIA_TYPE], (path, method, status)
                elif status != "304":
                    assert all("example" in one for one in content.values()), (path, method, status)
            assert {"400", "422", "500", "503"} <= set(operation["responses"])


def test_the_same_description_breaks_nobody(description: dict[str, Any]) -> None:
    assert breaking(description, description) == []


def _remove(where: dict[str, Any], *keys: str) -> None:
    for key in keys[:-1]:
        where = where[key]
    del where[keys[-1]]


BREAKS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a path goes": (lambda new: _remove(new, "paths", BALANCE), f"GET {BALANCE} is gone"),
    "a method goes": (lambda new: _remove(new, "paths", REDEEM, "post"), f"POST {REDEEM} is gone"),
    "a field goes": (
        lambda new: _remove(new, "components", "schemas", "Balance", "properties", "active"),
        f"GET {BALANCE}: 200.active is gone",
    ),
    "a field in a list goes": (
        lambda new: _remove(new, "components", "schemas", "Standing", "properties", "rank"),
        f"GET {STANDINGS}: 200.entries[].rank is gone",
    ),
    "a field changes its type": (
        lambda new: new["components"]["schemas"]["Balance"]["properties"]["active"].update(type="string"),
        f"GET {BALANCE}: 200.active was integer and is string",
    ),
    "a field becomes null at times": (
        lambda new: new["components"]["schemas"]["Balance"]["properties"].update(
            active={"anyOf": [{"type": "integer"}, {"type": "null"}]}
        ),
        f"GET {BALANCE}: 200.active was integer and is integer or null",
    ),
    "a field is not always there": (
        lambda new: new["components"]["schemas"]["Balance"]["required"].remove("active"),
        f"GET {BALANCE}: 200.active is not always there any more",
    ),
    "an answer goes": (
        lambda new: _remove(new, "paths", BALANCE, "get", "responses", "404"),
        f"GET {BALANCE}: no answer 404 any more",
    ),
    "a parameter goes": (
        lambda new: new["paths"][BALANCE]["get"]["parameters"].pop(2),
        f"GET {BALANCE}: parameter as_of is gone",
    ),
    "a parameter is required": (
        lambda new: new["paths"][BALANCE]["get"]["parameters"][2].update(required=True),
        f"GET {BALANCE}: parameter as_of is required now",
    ),
    "a new parameter is required": (
        lambda new: new["paths"][BALANCE]["get"]["parameters"].append(
            {"name": "key", "in": "query", "required": True, "schema": {"type": "string"}}
        ),
        f"GET {BALANCE}: parameter key is required now",
    ),
    "a field of a request is required": (
        lambda new: new["components"]["schemas"]["RedemptionRequest"]["required"].append("reason"),
        f"POST {REDEEM}: body.reason is required now",
    ),
    "a limit is tighter": (
        lambda new: new["components"]["schemas"]["RedemptionRequest"]["properties"]["points"].update(maximum=10),
        f"POST {REDEEM}: body.points: maximum is 10",
    ),
    "a request's field goes": (
        lambda new: _remove(new, "components", "schemas", "RedemptionRequest", "properties", "points"),
        f"POST {REDEEM}: body.points is not taken any more",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_change_that_breaks_a_client_is_found(description: dict[str, Any], name: str) -> None:
    change, sentence = BREAKS[name]
    new = copy.deepcopy(description)
    change(new)
    found = breaking(description, new)
    assert any(one.startswith(sentence) for one in found), found


def test_what_is_added_breaks_nobody(description: dict[str, Any]) -> None:
    new = copy.deepcopy(description)
    new["paths"]["/v1/more"] = {"get": {"responses": {}}}
    schemas = new["components"]["schemas"]
    schemas["Balance"]["properties"]["more"] = {"type": "integer"}
    schemas["Balance"]["required"].append("more")
    schemas["RedemptionRequest"]["properties"]["more"] = {"type": "integer"}
    schemas["RedemptionRequest"]["properties"]["points"]["maximum"] += 1
    optional = {"name": "more", "in": "query", "required": False, "schema": {"type": "string"}}
    new["paths"][BALANCE]["get"]["parameters"].append(optional)
    new["paths"][BALANCE]["get"]["responses"]["418"] = {"description": "x", "content": {}}
    assert breaking(description, new) == []
