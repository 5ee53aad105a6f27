"""Tables: sections with keys of the user's own, parsed into a service's options."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import chdir
from typing import Any

from daemons.operating.config.sections import Settings
from daemons.settings.values import FieldType, comment_hint, hint, kind_of


def declared(options: Any) -> dict[str, dataclasses.Field[Any]]:
    """Return the table fields of an `Options` class or instance by name; {} for None."""
    fields = () if options is None else dataclasses.fields(options)
    return {field.name: field for field in fields if "key" in field.metadata}


def with_tables(settings: Settings, name: str, options: Any, complaints: list[str]) -> Any:
    """Return `options` of the class `name` with its tables.  Errors and unknown tables are appended to `complaints`."""
    known = declared(options)
    found: dict[str, dict[str, Any]] = {}
    for section, texts in settings.tables.items():
        if section not in known:
            origins = dict.fromkeys(settings.origins[section, key] for key in texts)
            reason = f"{name} has no such section{hint(section, known)}"
            complaints += [f"{origin} [{section}]: {reason}" for origin in origins]
            continue
        found[section] = {}
        with chdir(settings.base):
            for key, text in texts.items():
                where = f"{settings.origins[section, key]} [{section}] {key}"
                try:
                    written = _key(known[section]).parse(key)
                    if written in found[section]:
                        raise ValueError(f"the same as another key: {written}")
                    value = kind_of(known[section]).parse(text)
                    if (resolve := known[section].metadata["resolve"]) is not None:
                        value = resolve(value, settings.resolve_path)
                    found[section][written] = value
                except ValueError as error:
                    complaints.append(f"{where} = {text}: {error}{comment_hint(text)}")
    try:
        with chdir(settings.base):
            return dataclasses.replace(options, **found) if found else options
    except ValueError as error:
        complaints.append(f"conf/{settings.name}.ini {error}")
        return options


def rows(settings: Settings, options: Any) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Yield each table that is not empty, with rows of key, value and origin, for `daemons show`."""
    for section, field in declared(options).items():
        if section in settings.tables:
            yield (
                section,
                [
                    (key, kind_of(field).show(value), settings.origins[section, written])
                    for (key, value), written in zip(
                        getattr(options, section).items(), settings.tables[section], strict=True
                    )
                ],
            )


def _key(field: dataclasses.Field[Any]) -> FieldType[str]:
    kind = field.metadata["key"]
    assert isinstance(kind, FieldType)
    return kind
