"""Field types of settings, which convert between text and value, and the declaration of settings.

A setting is declared once, as a field of a frozen dataclass:

    port: int = setting(COUNT, 1060, "the port to listen on")

The ini reader, ``daemons check``, ``daemons show`` and the table in the documentation use this declaration.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class FieldType(Generic[T]):
    """Text format of a value.  `parse` raises `ValueError` with the expected form."""

    parse: Callable[[str], T]
    show: Callable[[T], str]
    #: Name of the format in the documentation.
    form: str


def setting(kind: FieldType[T], default: T, text: str) -> Any:
    """Declare one setting: its type, its default, and its effect in one sentence."""
    return dataclasses.field(default=default, metadata={"kind": kind, "text": text})


def table(
    key: FieldType[str], kind: FieldType[T], text: str, resolve: Callable[[T, Callable[[str], Path]], T] | None = None
) -> Any:
    """Declare a table: a section with keys of the user's own, such as paths.  Its value is a dict.

    The section has the name of the field, which must be in `daemons.operating.config.sections.TABLES`.

    Args:
        key: the type of the keys
        kind: the type of the values
        text: the purpose of the section, in one sentence
        resolve: for values that contain paths: called with a value and `Settings.resolve_path`, returns the value with
            absolute paths; may raise `ValueError`
    """
    metadata = {"kind": kind, "text": text, "key": key, "resolve": resolve}
    return dataclasses.field(default_factory=dict, metadata=metadata)


def kind_of(field: dataclasses.Field[Any]) -> FieldType[Any]:
    """Return the `FieldType` of a declared field."""
    kind = field.metadata["kind"]
    assert isinstance(kind, FieldType)
    return kind


_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


#: Longest duration, in seconds: poll(2) takes its timeout as an int of milliseconds, at most 24.8 days.
MAX_DURATION = 24 * 86400.0


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)", text)
    if match is None or float(match[1]) == 0:
        raise ValueError("not a duration; write 10s, 5m or 1h")
    seconds = round(float(match[1]) * _SECONDS[match[2]], 9)  # 1.1h is 3960 s, not 3960.0000000000005
    if seconds > MAX_DURATION:
        raise ValueError("longer than the maximum of 24d")
    return seconds


def _show_duration(seconds: float) -> str:
    for unit in ("d", "h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{_plain(seconds * 1000, 6)}ms" if seconds < 1 else f"{_plain(seconds, 6)}s"


def _plain(number: float, decimals: int) -> str:
    """Return `number` without an exponent and without trailing zeros."""
    return f"{number:.{decimals}f}".rstrip("0").rstrip(".")


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})(B|KiB|MiB|GiB)", text)
    if match is None or int(match[1]) == 0:
        raise ValueError("not a size; write 512B, 64KiB or 10MiB")
    return int(match[1]) * _BYTES[match[2]]


def _show_size(size: int) -> str:
    unit = next(unit for unit in reversed(_BYTES) if size % _BYTES[unit] == 0)
    return f"{size // _BYTES[unit]}{unit}"


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise ValueError("not a count; write a whole number above 0")
    return int(text)


def _rate(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,2})?)/(s|m|h)", text)
    if match is None or float(match[1]) == 0:
        raise ValueError("not a rate; write 50/s or 100/m")
    return float(match[1]) / _SECONDS[match[2]]


def _show_rate(rate: float) -> str:
    """Return the rate per second, minute or hour: in the shortest unit with at most two decimals."""
    for unit in ("s", "m"):
        if math.isclose(rate * _SECONDS[unit], round(rate * _SECONDS[unit], 2)):
            return f"{_plain(rate * _SECONDS[unit], 2)}/{unit}"
    return f"{_plain(rate * _SECONDS['h'], 2)}/h"


def _factor(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]{1,3})?", text):
        raise ValueError("not a factor; write 1, 1.5 or 10")
    return float(text)


def _fraction(text: str) -> float:
    if not re.fullmatch(r"[01](?:\.[0-9]{1,6})?", text) or float(text) > 1:
        raise ValueError("not a fraction; write a number from 0 to 1, such as 0.5")
    return float(text)


def _yes_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError("neither yes nor no")
    return text == "yes"


def parse_port(text: str, protocol: str = "tcp") -> int:
    """Parse a port number, or a service name from /etc/services.  Raises `ValueError`."""
    if re.fullmatch(r"[0-9]{1,5}", text):
        if int(text) <= 65535:
            return int(text)
    elif text:
        try:
            # /etc/services may have different ports for TCP and UDP, or only one of them.
            return socket.getservbyname(text, protocol)
        except OSError:
            pass
    raise ValueError("not a port; write a number from 0 to 65535 or a name from /etc/services")


def _path(text: str) -> str:
    if not text or "\0" in text or text.endswith("/"):
        raise ValueError("not a file; write run/NAME, or a path relative to the project's folder")
    return text


def _octal(text: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError("not a mode; write three octal digits, such as 0660 or 0600")
    return int(text, 8)


def choice(*choices: str) -> FieldType[str]:
    """Return the type of a setting that is one of `choices`."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"write {either(choices)}" + hint(text, choices))
        return text

    return FieldType(parse, str, " | ".join(choices))


def optional(name: str, kind: FieldType[T]) -> FieldType[T | None]:
    """Return the type of a setting that is a `kind`, or None, written as the word `name`."""

    def parse(text: str) -> T | None:
        if text == name:
            return None
        try:
            return kind.parse(text)
        except ValueError as error:
            raise ValueError(f"{error}, or {name}") from None

    return FieldType(parse, lambda value: name if value is None else kind.show(value), f"{kind.form} | {name}")


def either(choices: tuple[str, ...]) -> str:
    """Return the choices as prose: ``one, threads or forks``."""
    return ", ".join(choices[:-1]) + " or " + choices[-1] if len(choices) > 1 else choices[0]


def hint(wrong: str, known: Any) -> str:
    """Return ``; did you mean engine?`` for the most similar known name; "" if none is similar."""
    near = difflib.get_close_matches(wrong, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def comment_hint(text: str) -> str:
    """Return advice if a refused value seems to end in a comment; "" otherwise."""
    return "; a comment needs a line of its own" if re.search(r"\s[;#]", text) else ""


TEXT: FieldType[str] = FieldType(str, str, "text")
#: A file that a daemon creates.  Options of this type are made absolute, with ``run/…`` in the run folder.
PATH: FieldType[str] = FieldType(_path, str, "path")
COUNT: FieldType[int] = FieldType(_count, str, "count")
DURATION: FieldType[float] = FieldType(_duration, _show_duration, "duration")
SIZE: FieldType[int] = FieldType(_size, _show_size, "size")
RATE: FieldType[float] = FieldType(_rate, _show_rate, "rate")
FACTOR: FieldType[float] = FieldType(_factor, lambda factor: _plain(factor, 3), "factor")
FRACTION: FieldType[float] = FieldType(_fraction, lambda fraction: _plain(fraction, 6), "fraction")
YES_NO: FieldType[bool] = FieldType(_yes_no, lambda yes: "yes" if yes else "no", "yes | no")
OCTAL: FieldType[int] = FieldType(_octal, lambda mode: f"{mode:04o}", "mode")
PORT: FieldType[int] = FieldType(parse_port, str, "port")
