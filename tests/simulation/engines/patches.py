"""Replacement of system calls and constants in the modules of `daemons.serving`.

The modules refer to `time.monotonic`, `select.epoll` and so on through their globals.  These are replaced for the
duration of a simulation, so the engines need no parameter for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import daemons.serving.engines  # noqa: F401, the modules to patch

PACKAGE = "daemons.serving"

#: Constants, reduced so that messages of a few bytes reach every limit.
CONSTANTS = {
    "daemons.serving.conversation.reply_cache": {"SHORT": 24, "WINDOW": 16, "PAUSE": 64, "MAX_MISSES": 64},
    "daemons.serving.conversation.reply_stream": {"BATCH": 150},
    "daemons.serving.transfer_sizes": {"RECEIVE": 64},
    # Real threads do not wait for each other here: the scheduler of the simulation would not know.
    "daemons.serving.turns": {"PATIENCE": 0},
    "daemons.serving.guards.budget": {"SMALL": 100, "FREE": 16, "OVERHEAD": 0},
}


def fake(module: ModuleType, **attributes: object) -> ModuleType:
    """Return a copy of a module with other attributes."""
    copy = ModuleType(module.__name__)
    copy.__dict__.update(module.__dict__ | attributes)
    return copy


Replacement = tuple[ModuleType, str, Any, Any]


def _serving() -> list[ModuleType]:
    return [module for name, module in list(sys.modules.items()) if name.startswith(PACKAGE) and module is not None]


def of_modules(*fakes: ModuleType) -> list[Replacement]:
    """Return the replacements of modules by fakes with the same name."""
    real = {name: sys.modules[name] for name in (each.__name__ for each in fakes)}
    return [
        (module, name, real[each.__name__], each)
        for module in _serving()
        for each in fakes
        if getattr(module, name := each.__name__, None) is real[each.__name__]
    ]


def of_constants(constants: dict[str, dict[str, Any]]) -> list[Replacement]:
    """Return the replacements of constants, in all modules that import them from the named ones."""
    found: list[Replacement] = []
    for owner, values in constants.items():
        for name, value in values.items():
            real = getattr(import_module(owner), name)
            found += [(module, name, real, value) for module in _serving() if getattr(module, name, None) == real]
    return found


@contextmanager
def replaced(replacements: list[Replacement]) -> Iterator[None]:
    """Replace attributes of modules within a ``with`` statement."""
    for module, name, _, value in replacements:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, real, _ in replacements:
            setattr(module, name, real)
