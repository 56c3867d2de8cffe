"""What of a new description of the API would break a program that was written against the old one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

METHODS = ("get", "put", "post", "delete", "patch")
Node = dict[str, Any]


def breaking(old: Node, new: Node) -> list[str]:
    """Every incompatible change, one sentence each; what is added breaks nobody.

    For answers: nothing that was there goes or changes its type, and nothing becomes null that was not. For requests:
    nothing that was allowed is refused, and nothing new is required.
    """
    return list(_paths(old, new))


def _paths(old: Node, new: Node) -> Iterator[str]:
    for path, methods in old["paths"].items():
        for method in (name for name in METHODS if name in methods):
            where = f"{method.upper()} {path}"
            there = new["paths"].get(path, {}).get(method)
            if there is None:
                yield f"{where} is gone"
                continue
            yield from _parameters(where, methods[method], there, old, new)
            yield from _bodies(where, methods[method], there, old, new)
            yield from _answers(where, methods[method], there, old, new)


def _key(parameter: Node) -> tuple[str, str]:
    """What makes a parameter the same; the case of a header's name is nothing."""
    name = str(parameter["name"])
    return parameter["in"], name.lower() if parameter["in"] == "header" else name


def _parameters(where: str, before: Node, after: Node, old: Node, new: Node) -> Iterator[str]:
    was, now = ({_key(one): one for one in of.get("parameters", ())} for of in (before, after))
    for key, one in was.items():
        name = f"{where}: parameter {one['name']}"
        if key not in now:
            yield f"{name} is gone"
        else:
            yield from _accepted(name, one["schema"], now[key]["schema"], old, new)
    for key, one in now.items():
        if one.get("required") and not was.get(key, {}).get("required"):
            yield f"{where}: parameter {one['name']} is required now"


def _bodies(where: str, before: Node, after: Node, old: Node, new: Node) -> Iterator[str]:
    was, now = before.get("requestBody"), after.get("requestBody")
    if now is not None and now.get("required") and was is None:
        yield f"{where}: a body is required now"
    for media_type, content in (was or {}).get("content", {}).items():
        there = (now or {}).get("content", {}).get(media_type)
        if there is None:
            yield f"{where}: no body of {media_type} is taken any more"
        else:
            yield from _accepted(f"{where}: body", content["schema"], there["schema"], old, new)


def _answers(where: str, before: Node, after: Node, old: Node, new: Node) -> Iterator[str]:
    for status, answer in before["responses"].items():
        there = after["responses"].get(status)
        if there is None:
            yield f"{where}: no answer {status} any more"
            continue
        for media_type, content in answer.get("content", {}).items():
            other = there.get("content", {}).get(media_type)
            if other is None:
                yield f"{where}: answer {status} is no {media_type} any more"
            else:
                yield from _given(f"{where}: {status}", content["schema"], other["schema"], old, new, ())


def _resolved(schema: Node, of: Node) -> Node:
    while "$ref" in schema:
        schema = of["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _types(schema: Node, of: Node) -> set[str]:
    """The JSON types of what a schema describes; empty: any."""
    schema = _resolved(schema, of)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        found = [_types(one, of) for one in choices]
        return set().union(*found) if all(found) else set()
    if "type" in schema:
        return {schema["type"]}
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return {"string" if isinstance(value, str) else "null" if value is None else "number" for value in values}


def _objects(schema: Node, of: Node) -> list[Node]:
    schema = _resolved(schema, of)
    choices = schema.get("anyOf") or schema.get("oneOf")
    return [one for choice in choices for one in _objects(choice, of)] if choices else [schema]


def _given(where: str, was: Node, now: Node, old: Node, new: Node, seen: tuple[str, ...]) -> Iterator[str]:
    """An answer's value: what it was it still is."""
    name = str(was.get("$ref"))
    if name in seen:
        return
    before, after = _types(was, old), _types(now, new)
    if before and not (after and after <= before | ({"integer"} if "number" in before else set())):
        yield f"{where} was {_words(before)} and is {_words(after)}"
        return
    ours, theirs = _objects(was, old), _objects(now, new)
    for one, other in zip(ours, theirs, strict=False):
        for field, schema in one.get("properties", {}).items():
            there = other.get("properties", {}).get(field)
            if there is None:
                yield f"{where}.{field} is gone"
                continue
            if field in one.get("required", ()) and field not in other.get("required", ()):
                yield f"{where}.{field} is not always there any more"
            yield from _given(f"{where}.{field}", schema, there, old, new, (*seen, name))
        if "items" in one and "items" in other:
            yield from _given(f"{where}[]", one["items"], other["items"], old, new, (*seen, name))


_LOWER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_HIGHER = ("minimum", "exclusiveMinimum", "minLength", "minItems")


def _accepted(where: str, was: Node, now: Node, old: Node, new: Node) -> Iterator[str]:
    """A request's value: what was allowed is still."""
    before, after = _types(was, old), _types(now, new)
    if after and not (before and before <= after | ({"integer"} if "number" in after else set())):
        yield f"{where} may be {_words(after)}, and could be {_words(before)}"
        return
    ours, theirs = _objects(was, old), _objects(now, new)
    if len(theirs) < len(ours):
        yield f"{where} has fewer forms than it had"
    for one, other in zip(ours, theirs, strict=False):
        for limit in (*_LOWER, *_HIGHER):
            bound, before_that = other.get(limit), one.get(limit)
            is_tighter = bound is not None and (
                before_that is None or (bound < before_that if limit in _LOWER else bound > before_that)
            )
            if is_tighter:
                yield f"{where}: {limit} is {bound}, and was {before_that}"
        gone = set(one.get("enum", ())) - set(other.get("enum", one.get("enum", ())))
        if gone:
            yield f"{where} cannot be {', '.join(sorted(map(str, gone)))} any more"
        for field in other.get("required", ()):
            if field not in one.get("required", ()):
                yield f"{where}.{field} is required now"
        for field, schema in one.get("properties", {}).items():
            there = other.get("properties", {}).get(field)
            if there is None:
                if other.get("additionalProperties") is False:
                    yield f"{where}.{field} is not taken any more"
            else:
                yield from _accepted(f"{where}.{field}", schema, there, old, new)


def _words(types: set[str]) -> str:
    return " or ".join(sorted(types)) or "anything"
