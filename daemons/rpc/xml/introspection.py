"""XML-RPC signatures of a method's annotations: http://xmlrpc-c.sourceforge.net/introspection.html"""

from __future__ import annotations

import collections.abc
import inspect
import types
from datetime import datetime
from typing import Any, Union, get_args, get_origin
from xmlrpc.client import Binary, DateTime

#: XML-RPC type of each Python type.
_WORDS: dict[Any, str] = {
    bool: "boolean",
    int: "int",
    float: "double",
    str: "string",
    bytes: "base64",
    bytearray: "base64",
    Binary: "base64",
    datetime: "dateTime.iso8601",
    DateTime: "dateTime.iso8601",
    list: "array",
    tuple: "array",
    collections.abc.Sequence: "array",
    dict: "struct",
    collections.abc.Mapping: "struct",
    None: "nil",
    type(None): "nil",
}

#: Returned by Python's own server instead of a list of signatures.
NO_SIGNATURES = "signatures not supported"


def signatures_of(signature: inspect.Signature) -> list[list[str]] | str:
    """Return the signatures of a method: each a list of the types of the result and of the parameters, in order.

    Return `NO_SIGNATURES` if a type is missing or the method is variadic."""
    ways = [[_word(signature.return_annotation)]]
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD or (
            parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty
        ):
            continue  # XML-RPC has no keyword arguments
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            return NO_SIGNATURES
        longer = [*ways[-1], _word(parameter.annotation)]
        ways = [longer] if parameter.default is parameter.empty else [*ways, longer]
    return NO_SIGNATURES if any("" in way for way in ways) else ways


def _word(annotation: Any) -> str:
    """Return the XML-RPC type of an annotation, or ""."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        words = {_word(each) for each in get_args(annotation)}
        # An int is accepted for a double.
        return "double" if words == {"int", "double"} else words.pop() if len(words) == 1 else ""
    try:
        return _WORDS.get(annotation if origin is None else origin, "")
    except TypeError:  # unhashable
        return ""
