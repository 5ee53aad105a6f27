"""Options of a service: its own section and its tables, parsed against the class's `Options`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from daemons.operating.config import tables
from daemons.operating.config.section_parser import parse_section
from daemons.operating.config.sections import Settings
from daemons.settings.complaints import ConfigurationError
from daemons.settings.values import PATH, kind_of


def parse_options(settings: Settings, name: str, declaration: type[Any] | None) -> Any:
    """Return the options of the class `name` as an instance of `declaration`, its `Options`; None if it has none.

    Raises:
        ConfigurationError: a key or section is unknown, or a value is wrong.
    """
    complaints: list[str] = []
    options: Any = None
    layers = [(settings.origins[settings.own_section, key], {key: text}) for key, text in settings.own.items()]
    if declaration is not None:
        with _in_folder(settings.base):
            options, _ = parse_section(declaration, settings.own_section, layers, complaints)
        names = [field.name for field in dataclasses.fields(options) if kind_of(field) is PATH]
        paths = {name: str(settings.resolve_path(getattr(options, name))) for name in names}
        options = dataclasses.replace(options, **paths)
    else:
        complaints += [
            f"{origin} [{settings.own_section}] {key}: {name} has no options"
            for origin, values in layers
            for key in values
        ]
    options = tables.with_tables(settings, name, options, complaints)
    if complaints:
        raise ConfigurationError(complaints)
    return options


@contextmanager
def _in_folder(base: Path) -> Iterator[None]:
    """Resolve relative paths from `base`.  A daemon that serves has changed to it already; `daemons check` has not."""
    if Path.cwd() == base:
        yield
    else:
        with chdir(base):
            yield
