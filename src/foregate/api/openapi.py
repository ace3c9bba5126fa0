"""The OpenAPI document, made from the operations themselves: what parses a request is what describes it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter

from foregate.api.errors import STATUS, Problem, problem_of
from foregate.api.operations import BASE_PATH, Operation, Operations
from foregate.core.errors import ErrorCode, ForegateError

_REF = "#/components/schemas/{model}"
_ALWAYS = (ErrorCode.INVALID_INPUT, ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN, ErrorCode.UNAVAILABLE)
_ACCOUNT_ID = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
_OBJECT_ID = {"type": "string", "format": "uuid"}
_SEQ = {"type": "integer", "minimum": 1}

_MESSAGE: dict[str, Any] = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {
        "code": {"type": "integer", "minimum": 1000},
        "message": {"type": "string"},
        "source": {"type": "object", "properties": {"pointer": {"type": "string"}}},
        "error_chain": {"type": "array", "items": {"type": "object"}},
    },
}
_FAILURE: dict[str, Any] = {
    "type": "object",
    "required": ["success", "errors", "messages", "result"],
    "properties": {
        "success": {"const": False},
        "errors": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Message"}},
        "messages": {"type": "array", "maxItems": 0},
        "result": {"type": "null"},
    },
}


def describe(products: Iterable[Operations], version: str) -> dict[str, Any]:
    """The document for all operations."""
    pairs = [(product.tag, operation) for product in products for operation in product]
    schemas = _Schemas(operation for _, operation in pairs)
    paths: dict[str, Any] = {}
    for tag, operation in pairs:
        item = _describe_operation(operation, schemas)
        item["tags"] = [tag]
        paths.setdefault(operation.path, {})[operation.method.lower()] = item
    return {
        "openapi": "3.1.0",
        "info": {"title": "Foregate control API", "version": version, "description": _DESCRIPTION},
        "servers": [{"url": BASE_PATH}],
        "paths": paths,
        "security": [{"api_token": []}],
        "components": {
            "schemas": {"Message": _MESSAGE, "Failure": _FAILURE, **schemas.definitions},
            "securitySchemes": {"api_token": {"type": "http", "scheme": "bearer"}},
        },
    }


_DESCRIPTION = (
    "API v4 in Cloudflare's words and paths. Every answer is an envelope: success, errors, messages, result. "
    "A member or parameter that is not described here is refused with 400."
)


class _Schemas:
    """The JSON schemas of all types that operations name."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        types: dict[int, Any] = {}
        for operation in operations:
            for kind in (operation.query, operation.body, operation.info, *_types_of(operation.result)):
                if kind is not None:
                    types[id(kind)] = kind
        inputs = [(key, "validation", TypeAdapter(kind)) for key, kind in types.items()]
        found, document = TypeAdapter.json_schemas(inputs, ref_template=_REF)  # type: ignore[arg-type]
        self._by_type = {key: schema for (key, _), schema in found.items()}
        self.definitions: dict[str, Any] = document.get("$defs", {})

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema (most often a reference) of one type."""
        return self._by_type[id(kind)]

    def resolved(self, kind: Any) -> dict[str, Any]:
        """The schema itself, references followed."""
        schema = self.of(kind)
        name = schema.get("$ref", "").rpartition("/")[2]
        return self.definitions[name] if name else schema


def _types_of(result: Any) -> tuple[Any, ...]:
    if result is None or isinstance(result, dict):
        return ()
    return result if isinstance(result, tuple) else (result,)


def _describe_operation(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    item: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation), *_query_parameters(operation, schemas)],
        "responses": {str(operation.status): _success(operation, schemas), **_failures(operation)},
    }
    if operation.body is not None:
        item["requestBody"] = {
            "required": not operation.is_body_optional,
            "content": {"application/json": {"schema": schemas.of(operation.body)}},
        }
    return item


def _operation_id(operation: Operation) -> str:
    words = re.sub(r"[{}]", "", operation.path).strip("/").replace("/", "_").replace("-", "_")
    return f"{operation.method.lower()}_{words}"


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    names = re.findall(r"\{(\w+)\}", operation.path)
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"account_id": _ACCOUNT_ID, "seq": _SEQ}.get(name, _OBJECT_ID),
        }
        for name in names
    ]


def _query_parameters(operation: Operation, schemas: _Schemas) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    model = schemas.resolved(operation.query)
    return [
        {"name": name, "in": "query", "required": name in model.get("required", []), "schema": _without_null(schema)}
        for name, schema in model.get("properties", {}).items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    # A query string has no null: a parameter is there or not.
    kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default", "title")}
    if len(kinds) == 1:
        return {**kinds[0], **rest}
    return {**schema, "anyOf": kinds} if kinds else schema


def _success(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    result = _result_schema(operation.result, schemas)
    required = ["success", "errors", "messages", "result"]
    properties: dict[str, Any] = {
        "success": {"const": True},
        "errors": {"type": "array", "maxItems": 0},
        "messages": {"type": "array", "maxItems": 0},
        "result": {"type": "array", "items": result} if operation.is_list else result,
    }
    if operation.is_list:
        properties["result_info"] = schemas.of(operation.info)
        required.append("result_info")
    schema = {"type": "object", "required": required, "properties": properties}
    return {"description": operation.summary, "content": {"application/json": {"schema": schema}}}


def _result_schema(result: Any, schemas: _Schemas) -> dict[str, Any]:
    if isinstance(result, dict):
        return result
    kinds = [schemas.of(kind) for kind in _types_of(result)]
    return {"type": "null"} if not kinds else kinds[0] if len(kinds) == 1 else {"allOf": kinds}


def _failures(operation: Operation) -> dict[str, Any]:
    codes = {*_ALWAYS, *operation.errors}
    if "{" in operation.path:
        codes.add(ErrorCode.NOT_FOUND)
    if operation.body is not None:
        codes |= {ErrorCode.TOO_LARGE, ErrorCode.WRONG_CONTENT_TYPE}
    by_status: dict[int, list[Problem]] = {}
    for code in sorted(codes):
        by_status.setdefault(STATUS[code], []).append(problem_of(ForegateError(code, "…"), operation.family))
    return {
        str(status): {
            "description": "; ".join(f"{problem.number} {problem.message}" for problem in problems),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}},
        }
        for status, problems in sorted(by_status.items())
    }
