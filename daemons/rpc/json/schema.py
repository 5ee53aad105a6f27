"""JSON Schema of a method's annotations, and the OpenRPC document (spec.open-rpc.org) that lists all methods."""

from __future__ import annotations

import collections.abc
import inspect
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

from daemons.rpc.methods import Method

#: Version of the OpenRPC specification.
OPENRPC = "1.3.2"

#: JSON Schema type of each Python type that JSON can represent (RFC 8259, section 3).
_WORDS: dict[Any, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    None: "null",
    type(None): "null",
    list: "array",
    tuple: "array",
    collections.abc.Sequence: "array",
    collections.abc.Iterable: "array",
    dict: "object",
    collections.abc.Mapping: "object",
}

#: Python types of the decoded values of each JSON Schema type.
_KINDS: dict[str, frozenset[type]] = {
    "boolean": frozenset({bool}),
    "integer": frozenset({int}),
    "number": frozenset({int, float}),
    "string": frozenset({str}),
    "null": frozenset({type(None)}),
    "array": frozenset({list}),
    "object": frozenset({dict}),
}

Schema = dict[str, Any]


def schema_of(annotation: Any) -> Schema:
    """Return the schema of an annotation; ``{}``, which matches any value, if JSON Schema cannot express it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        parts = [schema_of(each) for each in inner]
        return {"anyOf": parts} if all(parts) else {}
    if origin is Literal:
        return {"enum": list(inner)}
    try:
        word = _WORDS.get(annotation if origin is None else origin)
    except TypeError:  # unhashable
        word = None
    if word is None:
        return {}
    schema: Schema = {"type": word}
    if word == "array" and inner and (origin is not tuple or inner[1:] == (...,)):
        schema |= {"items": items} if (items := schema_of(inner[0])) else {}
    elif word == "object" and len(inner) == 2:
        schema |= {"additionalProperties": values} if (values := schema_of(inner[1])) else {}
    return schema


def kinds_of(schema: Schema) -> frozenset[type] | None:
    """Return the Python types of values that match a schema, or None for any type."""
    if "anyOf" in schema:
        found = [kinds_of(each) for each in schema["anyOf"]]
        return None if None in found else frozenset[type]().union(*(each for each in found if each is not None))
    return _KINDS.get(schema.get("type", ""))


def describe(schema: Schema) -> str:
    """Return the types of a schema as text."""
    return " or ".join(describe(each) for each in schema["anyOf"]) if "anyOf" in schema else str(schema["type"])


def document(title: str, about: str, version: str, methods: Iterable[Method]) -> dict[str, Any]:
    """Return the OpenRPC document of `methods`."""
    info = {"title": title, "version": version} | ({"description": about} if about else {})
    return {"openrpc": OPENRPC, "info": info, "methods": [_described(method) for method in methods]}


def _described(method: Method) -> dict[str, Any]:
    signature = method.signature
    kinds = {each.kind for each in signature.parameters.values()}
    repeated, positional, named = (
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.KEYWORD_ONLY,
    )
    described: dict[str, Any] = {"name": method.name}
    if method.help:
        described |= {"summary": method.help.partition("\n")[0], "description": method.help}
    if kinds & {repeated, positional}:
        described["paramStructure"] = "by-position"
    elif named in kinds:
        described["paramStructure"] = "by-name"
    described["params"] = [
        {"name": each.name, "required": each.default is each.empty and each.kind in (positional, named, 1)}
        | {"schema": schema_of(each.annotation)}
        # OpenRPC cannot express variadic parameters.
        | ({"x-repeated": True} if each.kind in (repeated, inspect.Parameter.VAR_KEYWORD) else {})
        for each in signature.parameters.values()
    ]
    described["result"] = {"name": "result", "schema": schema_of(signature.return_annotation)}
    if method.idempotent:
        described["x-idempotent"] = True
    return described
