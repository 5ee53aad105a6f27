"""Errors of a configuration, reported together."""

from __future__ import annotations

from collections.abc import Iterable

from daemons.printable import escape


class ConfigurationError(Exception):
    """The configuration is wrong.  The text has one complaint a line."""

    def __init__(self, complaints: Iterable[str]) -> None:
        self.complaints = list(map(escape, complaints))
        super().__init__("\n".join(self.complaints))
