"""``/openapi.json``: OpenAPI 3.1, written from the declarations that requests are checked by."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Final

from api.caching import CONTROL, Keeping
from api.declared import Operation, Parameter
from api.problems import TITLES

Json = dict[str, Any]

PROBLEM: Final[Json] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
    },
}

FRESHNESS: Final[Json] = {
    "type": "object",
    "required": ["book", "position", "head", "lag_seconds", "build", "stale", "parked"],
    "properties": {
        "book": {"type": "string"},
        "position": {"type": "integer"},
        "head": {"type": "integer"},
        "lag_seconds": {"type": "number"},
        "build": {"type": ["string", "null"]},
        "stale": {"type": "boolean"},
        "parked": {"type": "boolean"},
    },
}


def document(operations: Iterable[Operation], schemas: Json) -> Json:
    """Write the document of some operations; ``schemas`` are what their answers refer to."""
    paths: dict[str, Json] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ledger",
            "version": version("ledger"),
            "description": "What Stripe's events come to: entitlements, dunning and revenue, and the log behind them. "
            "Times are RFC 3339 in UTC, ranges half-open, money whole numbers in the smallest unit with a currency.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM, "Freshness": FRESHNESS, **schemas},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> Json:
    described: Json = {
        "summary": operation.about,
        "operationId": f"{operation.method.lower()} {operation.path}",
        "parameters": [*map(_path_parameter, operation.path_names), *map(_query_parameter, operation.query)],
        "responses": {str(status): _answer(answer) for status, answer in operation.answers.items()}
        | {str(status): _refusal(status) for status in _refusals(operation)},
    }
    if operation.keeping != "never":
        described["parameters"].append(_IF_NONE_MATCH)
        for status in operation.answers:
            described["responses"][str(status)]["headers"] = _keeping(operation.keeping)
        described["responses"]["304"] = {
            "description": "Unchanged since the answer with the given ETag.",
            "headers": _keeping(operation.keeping),
        }
    if operation.idempotent:
        described["parameters"].append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "maxLength": 255},
            }
        )
    if operation.scope is not None:
        described["security"] = [{"key": []}]
        described["x-scope"] = operation.scope
    if operation.body is not None:
        described["requestBody"] = {"content": {operation.body_type: {"schema": operation.body}}}
    return described


_IF_NONE_MATCH: Final[Json] = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The ETag of a cached answer: 304 if it is unchanged, apart from positions and lag.",
}


def _keeping(keeping: Keeping) -> Json:
    return {
        "ETag": {"schema": {"type": "string"}},
        "Cache-Control": {"schema": {"type": "string", "const": CONTROL[keeping]}},
    }


def _path_parameter(name: str) -> Json:
    about = "Percent-encoded, a slash too."
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
        "description": about,
    }


def _query_parameter(one: Parameter) -> Json:
    return {"name": one.name, "in": "query", "required": False, "schema": one.schema, "description": one.about}


def _answer(answer: Json | str) -> Json:
    if answer == "":
        return {"description": "Done; no content."}
    if isinstance(answer, str):
        return {"description": "The content.", "content": {answer: {}}}
    return {"description": "Done.", "content": {"application/json": {"schema": answer}}}


def _refusals(operation: Operation) -> list[int]:
    """Return the statuses of an operation's problems: bad questions, keys, and a database that is away."""
    general = [400, 503] if operation.scope is None else [400, 401, 403, 503]
    return sorted({*general, *operation.refuses} - set(operation.answers))


def _refusal(status: int) -> Json:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": TITLES[status], "content": {"application/problem+json": {"schema": schema}}}
