"""Parsing of one section against its declaration, a dataclass of `daemons.settings.values.setting` fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from daemons.settings.values import comment_hint, hint, kind_of

T = TypeVar("T")


def parse_section(
    declaration: type[T], name: str, layers: Iterable[tuple[str, Mapping[str, str]]], complaints: list[str]
) -> tuple[T, dict[tuple[str, str], str]]:
    """Parse one section from its layers, pairs of origin and key → text; the last layer wins.

    Errors are appended to `complaints`.

    Returns:
        the instance of `declaration`, and the origin of each key as (section, key) → origin.
    """
    fields = {
        field.name: field
        for field in dataclasses.fields(declaration)  # type: ignore[arg-type]
        if "key" not in field.metadata  # a table is a section of its own
    }
    values: dict[str, Any] = {}
    origins: dict[tuple[str, str], str] = {}
    for origin, section in layers:
        for key, text in section.items():
            where = f"{origin} [{name}] {key}"
            if key not in fields:
                complaints.append(f"{where}: no such setting{hint(key, fields)}")
                continue
            try:
                values[key] = kind_of(fields[key]).parse(text)
                origins[name, key] = origin
            except ValueError as error:
                complaints.append(f"{where} = {text}: {error}{comment_hint(text)}")
    return declaration(**values), origins
