"""The API's OpenAPI description: what FastAPI knows of the routes, and what is so of all of them."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.errors import TOO_LARGE, ProblemDocument, described

_METHODS: Final = ("get", "put", "post", "delete")
_TAG: Final = {
    "description": "Names the body; give it back as `If-None-Match`, and an unchanged answer is a 304",
    "schema": {"type": "string"},
}
_IF_NONE_MATCH: Final = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "`ETag` of an answer that one has: 304 without a body while it is still the same",
    "schema": {"type": "string"},
}
_ALWAYS: Final = {
    "400": described("The request could not be read"),
    "422": described("Not valid, or refused: see `code`"),
    "500": described("Groundswell failed; its log has the details"),
    "503": described("A part that this needs does not answer; `Retry-After` says when to ask again"),
}


def install(app: FastAPI) -> None:
    """Have the application describe itself like this at `/openapi.json` and `/docs`."""

    def described_app() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes, tags=app.openapi_tags
            )
            app.openapi_schema = _completed(made)
        return app.openapi_schema

    app.openapi = described_app  # type: ignore[method-assign]


def _completed(description: dict[str, Any]) -> dict[str, Any]:
    schemas = description["components"]["schemas"]
    schemas["ProblemDocument"] = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which no route answers
        schemas.pop(name, None)
    for path in description["paths"].values():
        for method in _METHODS:
            if method in path:
                _complete(path[method], method)
                _show(path[method]["responses"], schemas)
    return description


def _complete(operation: dict[str, Any], method: str) -> None:
    responses = operation["responses"]
    for status, response in _ALWAYS.items():
        if status not in responses or "HTTPValidationError" in str(responses[status]):
            responses[status] = response
    for parameter in operation.get("parameters", ()):
        if parameter["name"] == "Idempotency-Key":  # checked by hand, for a problem of its own
            parameter["required"] = True
            parameter["schema"] = {**parameter["schema"], "type": "string"}
            parameter["schema"].pop("anyOf", None)
    if "requestBody" in operation:
        responses.setdefault("413", described(TOO_LARGE))
    if method == "get" and "application/json" in responses.get("200", {}).get("content", {}):
        responses["200"].setdefault("headers", {})["ETag"] = _TAG
        responses["304"] = {"description": "Unchanged: the answer is the one whose tag was given"}
        operation.setdefault("parameters", []).append(_IF_NONE_MATCH)
    operation["responses"] = dict(sorted(responses.items()))


def _show(responses: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Give each answer that is JSON a whole example, made of those of its fields."""
    for response in responses.values():
        for media_type, content in response.get("content", {}).items():
            if media_type == "application/json" and "example" not in content:
                content["example"] = _example(content["schema"], schemas)


def _example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "examples" in schema or "default" in schema:
        return schema["examples"][0] if "examples" in schema else schema["default"]
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], schemas)
    if "properties" in schema:
        return {name: _example(one, schemas) for name, one in schema["properties"].items()}
    kind = str(schema.get("type"))
    if kind == "array":
        return [_example(schema["items"], schemas)] if "items" in schema else []
    values = {"integer": 0, "number": 0.5, "boolean": False, "object": {}}
    return values.get(kind, schema.get("const", schema.get("enum", ["text"])[0]))
