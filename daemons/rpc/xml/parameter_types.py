"""The types of a method's parameters, as far as its annotations name types that a message can carry."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from daemons.rpc.json.schema import Schema, kinds_of, schema_of, shown
from daemons.rpc.methods import Method

_Kinds = frozenset[type] | None


class ParameterTypes:
    """The types that a method takes: of each parameter by position, of all further ones, and by name.  None: any."""

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
        """Return what is expected in place of the first value of a wrong type; None if there is none.  Values beyond
        the last parameter are not looked at."""
        for value, (name, kinds) in zip(values, self._by_position, strict=False):
            if kinds is not None and type(value) not in kinds:
                return self.expected(name)
        for name, kinds in self._repeated:
            for value in values[len(self._by_position) :]:
                if type(value) not in kinds:
                    return self.expected(name)
        return None

    def expected(self, name: str) -> str:
        """Return the words for a value of a wrong type in the place of the parameter `name`."""
        return f"{name}: {shown(self._schemas[name])} is expected"

    @property
    def checks_any(self) -> bool:
        """Whether there is a type to check."""
        return any(kinds is not None for kinds in self.by_name.values())


def checked(method: Method) -> Callable[..., Any]:
    """Return the method's function, which raises `TypeError` for a value of another type than is annotated.

    A caller chooses the types of what it sends, and Python's operators take many: a function that multiplies two
    integers would repeat a text two billion times."""
    types, function = ParameterTypes(method.signature), method.function
    if not types.checks_any:
        return function

    @wraps(function)
    def call(*values: Any) -> Any:
        if (complaint := types.complaint(values)) is not None:
            raise TypeError(complaint)
        return function(*values)

    return call
