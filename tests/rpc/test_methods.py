"""Selection of published methods."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import pytest

from daemons.rpc.methods import Method, Methods, idempotent


def module(source: str) -> ModuleType:
    made = ModuleType("mine")
    exec(source, vars(made))
    return made


def test_names_in_a_modules_all_are_published_in_its_order() -> None:
    methods = Methods.of(
        module(
            "from __future__ import annotations\nfrom os import system\n__all__ = ['b', 'a', 'c']\n"
            "def a(x: int, y: int = 3) -> list[int]:\n    '''Says a.\n\n    And more.'''\n"
            "def b(x: Missing): pass\ndef hidden(): pass\nc = pow\n"
        )
    )
    assert list(methods) == ["b", "a", "c"]
    assert methods["a"].help == "Says a.\n\nAnd more."
    assert methods["a"].signature.parameters["y"].annotation is int
    assert methods["a"].signature.return_annotation == list[int]
    assert methods["b"].signature.parameters["x"].annotation == "Missing"
    assert (methods["b"].help, methods["b"].idempotent) == ("", False)


class Knight:
    title = "Sir"

    def __init__(self) -> None:
        self.stored = print

    @property
    def secret(self) -> str:
        raise AssertionError("the property was evaluated")

    @idempotent
    def name(self, times: int = 1) -> str:
        """Tells his name."""
        return "Robin" * times

    @staticmethod
    def quest() -> str:
        return "the Grail"

    @classmethod
    def order(cls) -> str:
        return cls.__name__

    def _horse(self) -> None: ...


def test_an_instances_public_methods() -> None:
    methods = Methods.of(Knight())
    assert set(methods) == {"name", "quest", "order"}
    assert methods["name"].idempotent
    assert list(methods["name"].signature.parameters) == ["times"]
    assert [method.function() for method in methods.values()] == ["Robin", "Knight", "the Grail"]
    assert "name.__func__" not in methods


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        (module("def a(): pass"), "mine has no __all__; write __all__ = [...] with the functions to publish"),
        (module("__all__ = 'a'\ndef a(): pass"), "mine.__all__ is not a list of names"),
        (module("__all__ = ['a']"), "mine.__all__ names a, which is undefined"),
        (
            module("__all__ = ['_a']\ndef _a(): pass"),
            "mine.__all__ names _a; names with a leading underscore are private",
        ),
        (module("__all__ = ['a']\na = 3"), "mine.a is not a function; every name in __all__ is published"),
        (module("__all__ = ['A']\nclass A: pass"), "mine.A is not a function; every name in __all__ is published"),
        (module("__all__ = ['a', 'a']\ndef a(): pass"), "duplicate method name a"),
        (module("__all__ = ['ä']\ndef ä(): pass"), "'ä' is not a valid method name"),
        (module("__all__ = []"), "mine has no methods to publish"),
        (Knight, "Knight is a class; publish an instance of it"),
        (object(), "an instance of object has no methods to publish"),
        (3, "an instance of int has no methods to publish"),
    ],
)
def test_invalid_origin_is_refused(origin: Any, reason: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        Methods.of(origin)
    assert str(caught.value).startswith(reason)


def test_function_without_signature_is_variadic() -> None:
    assert str(Method.of(max).signature) == "(*args)"
    assert Method.of(max, "system.max").name == "system.max"
    with pytest.raises(TypeError, match="is not a function"):
        Method.of(3)  # type: ignore[arg-type]
    assert inspect.isbuiltin(Method.of(max).function)
