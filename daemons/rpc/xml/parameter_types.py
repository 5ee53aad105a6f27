"""Type checks of arguments, for annotations that name types which a message can carry."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from daemons.rpc.json.schema import Schema, describe, kinds_of, schema_of
from daemons.rpc.methods import Method

_Kinds = frozenset[type] | None


class ParameterTypes:
    """The accepted types of a method's parameters, by position and by name; None accepts any type."""

    __slots__ = ("_by_position", "_repeated", "_schemas", "by_name")

    def __init__(self, signature: inspect.Signature) -> None:
        parameters = signature.parameters.values()
        self._schemas: dict[str, Schema] = {each.name: schema_of(each.annotation) for each in parameters}
        self.by_name: dict[str, _Kinds] = {name: kinds_of(schema) for name, schema in self._schemas.items()}
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self._by_position = [(each.name, self.by_name[each.name]) for each in parameters if each.kind in positional]
        repeated = [each.name for each in parameters if each.kind is inspect.Parameter.VAR_POSITIONAL]
        self._repeated = [(name, kinds) for name in repeated if (kinds := self.by_name[name]) is not None]

    def complaint(self, values: Sequence[Any]) -> str | None:
        """Return the error text for the first argument of a wrong type, or None.  Excess arguments are ignored."""
        for value, (name, kinds) in zip(values, self._by_position, strict=False):
            if kinds is not None and type(value) not in kinds:
                return self.expected(name)
        for name, kinds in self._repeated:
            for value in values[len(self._by_position) :]:
                if type(value) not in kinds:
                    return self.expected(name)
        return None

    def expected(self, name: str) -> str:
        """Return the error text for an argument of a wrong type for the parameter `name`."""
        return f"{name}: {describe(self._schemas[name])} is expected"

    @property
    def checks_any(self) -> bool:
        """Whether any parameter has a type to check."""
        return any(kinds is not None for kinds in self.by_name.values())


def checked(method: Method) -> Callable[..., Any]:
    """Return the method's function, wrapped to raise `TypeError` for an argument of another type than annotated.

    Callers choose the types of their arguments, and Python's operators accept many: a function that multiplies two
    integers would repeat a string two billion times."""
    types, function = ParameterTypes(method.signature), method.function
    if not types.checks_any:
        return function

    @wraps(function)
    def call(*values: Any) -> Any:
        if (complaint := types.complaint(values)) is not None:
            raise TypeError(complaint)
        return function(*values)

    return call
