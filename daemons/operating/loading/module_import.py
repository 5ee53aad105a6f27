"""Import of the module that a target names; every failure is a `ConfigurationError`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from daemons.operating.loading.module_errors import reported_as_complaint
from daemons.settings.complaints import ConfigurationError
from daemons.settings.values import hint


def import_module(name: str, where: str, base: Path) -> ModuleType:
    """Import the module `name` from the project folder `base` or the environment.

    where
        Beginning of each complaint: the file, section and key that name the module.
    """
    if str(base) not in sys.path:
        sys.path.insert(0, str(base))
    with reported_as_complaint(name, "it was imported", where, base):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ConfigurationError([f"{where}: {_reason(name, error.name or '', base)}"]) from error


def _reason(name: str, missing: str, base: Path) -> str:
    in_suite = name.startswith("daemons.")
    if name == missing or name.startswith(missing + "."):
        place = "in the suite" if in_suite else f"in {base} or the environment"
        return f"there is no module {missing} {place}; write a class of your own as module:Class"
    advice = ": pip install 'camelot-daemons[all]'" if in_suite else ""
    return f"{name} needs {missing}, which is not installed{advice}"


def find(module: ModuleType, name: str, where: str, is_candidate: Callable[[Any], bool]) -> Any:
    """Return the attribute `name` of the module; the hint for a misspelled name is one of the candidates."""
    found = getattr(module, name, None)
    if found is None:
        candidates = [key for key, value in vars(module).items() if is_candidate(value)]
        raise ConfigurationError([f"{where}: {module.__name__} has no {name}{hint(name, candidates)}"])
    return found
