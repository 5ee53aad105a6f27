"""Published functions, for every protocol: a dictionary of methods by name, built once.

Names received from a peer are looked up in this dictionary alone.  Attributes are never traversed: CVE-2005-0089.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

#: Valid method names: xmlrpc.com/spec, "Payload format".
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:/]*")

#: Maximum length of a name.
LONGEST = 255

#: Maximum length, in characters, of all results of a multicall or a batch, which are in memory together.  Once they are
#: longer, its further calls are refused.  Clients of this suite do not accept longer responses either.
LONGEST_RESULTS = 16 * 1024**2

_MARK = "_idempotent"

#: Exceptions that report an expected error to the caller, by class and text; subclasses are not included.  Any other
#: exception is a bug: the caller gets an id, the log the traceback.
REPORTED_ERRORS: frozenset[type[BaseException]] = frozenset(
    {ValueError, TypeError, ZeroDivisionError, OverflowError, KeyError, IndexError}
)


def idempotent(function: F) -> F:
    """Mark a function as idempotent (RFC 9110, section 9.2.2), so that clients may repeat a call after a network
    failure."""
    setattr(function, _MARK, True)
    return function


@dataclass(frozen=True)
class Method:
    """One published function."""

    name: str
    function: Callable[..., Any]
    #: The docstring without its indentation, or "".
    help: str
    #: The signature, with annotations evaluated if possible.
    signature: inspect.Signature
    #: Whether the function is marked by `idempotent`.
    idempotent: bool

    @classmethod
    def of(cls, function: Callable[..., Any], name: str | None = None) -> Method:
        """Return `function` as a method, by default under its own name.  Raises `ValueError` for an invalid name, and
        `TypeError` for an object that is not callable."""
        name = getattr(function, "__name__", "") if name is None else name
        if not callable(function):
            raise TypeError(f"{name or function!r} is not a function")
        if not _NAME.fullmatch(name) or len(name) > LONGEST:
            reason = f"a letter, then letters, digits, _ . : or /, and at most {LONGEST} of them"
            raise ValueError(f"{name!r} is not a valid method name: {reason}")
        return cls.named(function, name)

    @classmethod
    def named(cls, function: Callable[..., Any], name: str) -> Method:
        """Return `function` as a method, without checking the name."""
        return cls(name, function, inspect.getdoc(function) or "", _signature(function), hasattr(function, _MARK))


class Methods(Mapping[str, Method]):
    """Published methods by name, in definition order."""

    def __init__(self, methods: Iterable[Method] = ()) -> None:
        """Raise `ValueError` for a duplicate name."""
        self._methods: dict[str, Method] = {}
        for method in methods:
            if method.name in self._methods:
                raise ValueError(f"duplicate method name {method.name}")
            self._methods[method.name] = method

    @classmethod
    def of(cls, origin: ModuleType | object) -> Methods:
        """Return the functions in a module's ``__all__``, or the methods of an instance without a leading underscore.

        Raises `TypeError` or `ValueError` for a module without ``__all__``, for a name in it that is undefined or not a
        function, for a class, and for an origin without methods."""
        if isinstance(origin, ModuleType):
            found = cls(_of_module(origin))
        elif isinstance(origin, type):
            raise TypeError(f"{origin.__name__} is a class; publish an instance of it")
        elif type(origin).__module__ == "builtins":
            found = cls()  # methods of built-in types are not meant to be published
        else:
            found = cls(_of_instance(origin))
        if not found:
            raise ValueError(f"{_description(origin)} has no methods to publish")
        return found

    def __getitem__(self, name: str) -> Method:
        return self._methods[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)

    def __len__(self) -> int:
        return len(self._methods)


def _of_module(module: ModuleType) -> Iterator[Method]:
    names = getattr(module, "__all__", None)
    if names is None:
        raise ValueError(f"{module.__name__} has no __all__; write __all__ = [...] with the functions to publish")
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{module.__name__}.__all__ is not a list of names")
    for name in names:
        if not hasattr(module, name):
            raise ValueError(f"{module.__name__}.__all__ names {name}, which is undefined")
        function = getattr(module, name)
        if name.startswith("_"):
            raise ValueError(f"{module.__name__}.__all__ names {name}; names with a leading underscore are private")
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"{module.__name__}.{name} is not a function; every name in __all__ is published")
        yield Method.of(function, name)


def _of_instance(instance: object) -> Iterator[Method]:
    for name in dir(type(instance)):
        # Static lookup, since getting a property would run it.
        found = inspect.getattr_static(type(instance), name)
        if not name.startswith("_") and (inspect.isroutine(found) or isinstance(found, (staticmethod, classmethod))):
            yield Method.of(getattr(instance, name), name)


def _description(origin: object) -> str:
    return origin.__name__ if isinstance(origin, ModuleType) else f"an instance of {type(origin).__name__}"


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except ValueError:
        # Some functions written in C have no signature.
        return inspect.Signature([inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)])
    except Exception:
        # Evaluating an annotation may raise any exception, for example if its name is imported for type checkers only.
        return inspect.signature(function)
