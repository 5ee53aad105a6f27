"""What is wrong with a configuration: all of it at once."""

from __future__ import annotations

from collections.abc import Iterable


def one_line(complaint: str) -> str:
    r"""`complaint`, with what is not printable in it, such as the line ends of a long value, written as ``\n``."""
    return complaint if complaint.isprintable() else "".join(_shown(each) for each in complaint)


def _shown(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


class ConfigurationError(Exception):
    """What is wrong with the configuration, one complaint a line."""

    def __init__(self, complaints: Iterable[str]) -> None:
        self.complaints = list(map(one_line, complaints))
        super().__init__("\n".join(self.complaints))
