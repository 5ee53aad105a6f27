"""What is wrong with a configuration: all of it at once."""

from __future__ import annotations

from collections.abc import Iterable

from daemons.printable import escape


class ConfigurationError(Exception):
    """What is wrong with the configuration, one complaint a line."""

    def __init__(self, complaints: Iterable[str]) -> None:
        self.complaints = list(map(escape, complaints))
        super().__init__("\n".join(self.complaints))
