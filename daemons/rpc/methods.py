"""The functions that are published, for every protocol: a dictionary from names to methods, made once.

Nothing is published that is not in it, and a name that comes from a peer is looked up in it and nowhere else: no
attribute is ever walked (CVE-2005-0089 is what comes of that).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

#: What a name may be made of: xmlrpc.com/spec, "Payload format".
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:/]*")

#: The longest name.
LONGEST = 255

_MARK = "_idempotent"

#: How a method says no: an exception of one of these classes, and of no subclass, is the method's answer to its caller,
#: who is told its class and text.  Any other is a bug: the caller is told an id, the log the traceback.
ANSWERS: frozenset[type[BaseException]] = frozenset(
    {ValueError, TypeError, ZeroDivisionError, OverflowError, KeyError, IndexError}
)


def idempotent(function: F) -> F:
    """Marks a function that may be called twice where once was meant, so that a client may try again when the network
    failed: RFC 9110, section 9.2.2, has the word."""
    setattr(function, _MARK, True)
    return function


@dataclass(frozen=True)
class Method:
    """One published function."""

    name: str
    function: Callable[..., Any]
    #: The docstring, without its indentation; "" where there is none.
    help: str
    #: Of the parameters that a caller gives, with annotations evaluated where they can be.
    signature: inspect.Signature
    #: Whether it was marked by `idempotent`.
    idempotent: bool

    @classmethod
    def of(cls, function: Callable[..., Any], name: str | None = None) -> Method:
        """`function` as a method, under its own name where no other is given.  Raises `ValueError` for a name that is
        none, `TypeError` for what is not callable."""
        name = getattr(function, "__name__", "") if name is None else name
        if not callable(function):
            raise TypeError(f"{name or function!r} is not a function")
        if not _NAME.fullmatch(name) or len(name) > LONGEST:
            reason = f"a letter, then letters, digits, _ . : or /, and at most {LONGEST} of them"
            raise ValueError(f"{name!r} is not the name of a method: {reason}")
        return cls.named(function, name)

    @classmethod
    def named(cls, function: Callable[..., Any], name: str) -> Method:
        """The same under any name."""
        return cls(name, function, inspect.getdoc(function) or "", _signature(function), hasattr(function, _MARK))


class Methods(Mapping[str, Method]):
    """What is published, by name, in the order in which it was written."""

    def __init__(self, methods: Iterable[Method] = ()) -> None:
        """Raises `ValueError` for a name that comes twice."""
        self._methods: dict[str, Method] = {}
        for method in methods:
            if method.name in self._methods:
                raise ValueError(f"there are two methods {method.name}")
            self._methods[method.name] = method

    @classmethod
    def of(cls, origin: ModuleType | object) -> Methods:
        """The functions that a module names in its ``__all__``; or an instance's public methods, which are those whose
        names do not begin with an underscore.

        Raises `TypeError` or `ValueError`, saying what is wrong and what is expected: a module without ``__all__``, a
        name in it that is not there, or stands for something else than a function; a class; nothing to publish."""
        if isinstance(origin, ModuleType):
            found = cls(_of_module(origin))
        elif isinstance(origin, type):
            raise TypeError(f"{origin.__name__} is a class; publish an instance of it")
        elif type(origin).__module__ == "builtins":
            found = cls()  # what Python's own can do, nobody has meant to publish
        else:
            found = cls(_of_instance(origin))
        if not found:
            raise ValueError(f"{_shown(origin)} has nothing to publish")
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
        raise TypeError(f"{module.__name__}.__all__ is no list of names")
    for name in names:
        if not hasattr(module, name):
            raise ValueError(f"{module.__name__}.__all__ names {name}, which is not there")
        function = getattr(module, name)
        if name.startswith("_"):
            raise ValueError(f"{module.__name__}.__all__ names {name}; a name with an underscore in front is private")
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"{module.__name__}.{name} is not a function; __all__ is what is published")
        yield Method.of(function, name)


def _of_instance(instance: object) -> Iterator[Method]:
    for name in dir(type(instance)):
        # Looked at without being got: getting a property would run it.
        found = inspect.getattr_static(type(instance), name)
        if not name.startswith("_") and (inspect.isroutine(found) or isinstance(found, (staticmethod, classmethod))):
            yield Method.of(getattr(instance, name), name)


def _shown(origin: object) -> str:
    return origin.__name__ if isinstance(origin, ModuleType) else f"an instance of {type(origin).__name__}"


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except ValueError:
        # Some functions written in C tell nobody.
        return inspect.Signature([inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)])
    except Exception:
        # An annotation that is evaluated may raise anything, where its name is imported for a type checker alone.
        return inspect.signature(function)
