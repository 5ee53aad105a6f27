"""How a setting is written: text ↔ value, and how one is declared.

A `FieldType` converts both ways.  A setting is declared once, as a field of a frozen dataclass:

    port: int = setting(COUNT, 1060, "the port to listen on")

The ini reader, ``daemons check``, ``daemons show`` and the table in the documentation are all made
from that declaration.
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
    """One way of writing a value.  `parse` raises `ValueError` saying what was expected."""

    parse: Callable[[str], T]
    show: Callable[[T], str]
    #: For the documentation: the unit or the form.
    form: str


def setting(kind: FieldType[T], default: T, text: str) -> Any:
    """Declare one setting: how it is written, its default, and what it does in one sentence."""
    return dataclasses.field(default=default, metadata={"kind": kind, "text": text})


def table(
    key: FieldType[str], kind: FieldType[T], text: str, placed: Callable[[T, Callable[[str], Path]], T] | None = None
) -> Any:
    """Declare a section of its own with keys that are the user's, such as paths: how a key and how a value is written,
    and what the section does.  It has the field's name, which must be in `settings.TABLES`; it comes as a dict.
    `placed`, where values have paths in them, is given a value and `Settings.placed`, which knows where a path leads;
    it may raise `ValueError`."""
    return dataclasses.field(default_factory=dict, metadata={"kind": kind, "text": text, "key": key, "placed": placed})


def kind_of(field: dataclasses.Field[Any]) -> FieldType[Any]:
    """The `FieldType` that a field was declared with."""
    kind = field.metadata["kind"]
    assert isinstance(kind, FieldType)
    return kind


_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


#: poll(2) takes its timeout as an int of milliseconds: no wait can be longer than 24.8 days.
LONGEST = 24 * 86400.0


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)", text)
    if match is None or float(match[1]) == 0:
        raise ValueError("not a duration; write 10s, 5m or 1h")
    seconds = round(float(match[1]) * _SECONDS[match[2]], 9)  # 1.1h is 3960 s, not 3960.0000000000005
    if seconds > LONGEST:
        raise ValueError("longer than 24d, the longest that can be waited for")
    return seconds


def _show_duration(seconds: float) -> str:
    for unit in ("d", "h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{_plain(seconds * 1000, 6)}ms" if seconds < 1 else f"{_plain(seconds, 6)}s"


def _plain(number: float, decimals: int) -> str:
    """`number` as it can be read back: no exponent, no zeros at the end."""
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
    """In the unit it was written in, or a shorter one: what is left over tells that it was not."""
    for unit in ("s", "m"):
        if math.isclose(rate * _SECONDS[unit], round(rate * _SECONDS[unit], 2)):
            return f"{_plain(rate * _SECONDS[unit], 2)}/{unit}"
    return f"{_plain(rate * _SECONDS['h'], 2)}/h"


def _factor(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]{1,3})?", text):
        raise ValueError("not a factor; write 1, 1.5 or 10")
    return float(text)


def _share(text: str) -> float:
    if not re.fullmatch(r"[01](?:\.[0-9]{1,6})?", text) or float(text) > 1:
        raise ValueError("not a share; write a number from 0 to 1, as 0.5")
    return float(text)


def _yes_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError("neither yes nor no")
    return text == "yes"


def parse_port(text: str, protocol: str = "tcp") -> int:
    """A port from its number, or its name in /etc/services.  Raises `ValueError`."""
    if re.fullmatch(r"[0-9]{1,5}", text):
        if int(text) <= 65535:
            return int(text)
    elif text:
        try:
            # The two protocols may have different services of one name; and some names only one of them.
            return socket.getservbyname(text, protocol)
        except OSError:
            pass
    raise ValueError("not a port; write a number from 0 to 65535 or a name from /etc/services")


def _place(text: str) -> str:
    if not text or "\0" in text or text.endswith("/"):
        raise ValueError("not a file; write run/NAME, or a path from the project's folder")
    return text


def _octal(text: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError("not a mode; write three octal digits, as 0660 or 0600")
    return int(text, 8)


def word(*choices: str) -> FieldType[str]:
    """One word out of `choices`."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"write {either(choices)}" + hint(text, choices))
        return text

    return FieldType(parse, str, " | ".join(choices))


def or_word(name: str, kind: FieldType[T]) -> FieldType[T | None]:
    """`kind`, or the word `name`, which means None."""

    def parse(text: str) -> T | None:
        if text == name:
            return None
        try:
            return kind.parse(text)
        except ValueError as error:
            raise ValueError(f"{error}, or {name}") from None

    return FieldType(parse, lambda value: name if value is None else kind.show(value), f"{kind.form} | {name}")


def either(choices: tuple[str, ...]) -> str:
    """``one, threads or forks``."""
    return ", ".join(choices[:-1]) + " or " + choices[-1] if len(choices) > 1 else choices[0]


def hint(wrong: str, known: Any) -> str:
    """``; did you mean engine?``, or nothing where nothing is near."""
    near = difflib.get_close_matches(wrong, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def comment_hint(text: str) -> str:
    """Return what to do about a value that was refused and seems to have a comment behind it; "" otherwise."""
    return "; a comment needs a line of its own" if re.search(r"\s[;#]", text) else ""


TEXT: FieldType[str] = FieldType(str, str, "text")
#: A file that a daemon creates.  `daemons.operating.loading.loading` places ``run/…`` in the run folder.
PATH: FieldType[str] = FieldType(_place, str, "path")
COUNT: FieldType[int] = FieldType(_count, str, "count")
DURATION: FieldType[float] = FieldType(_duration, _show_duration, "duration")
SIZE: FieldType[int] = FieldType(_size, _show_size, "size")
RATE: FieldType[float] = FieldType(_rate, _show_rate, "rate")
FACTOR: FieldType[float] = FieldType(_factor, lambda factor: _plain(factor, 3), "factor")
FRACTION: FieldType[float] = FieldType(_share, lambda share: _plain(share, 6), "share")
YES_NO: FieldType[bool] = FieldType(_yes_no, lambda yes: "yes" if yes else "no", "yes | no")
OCTAL: FieldType[int] = FieldType(_octal, lambda mode: f"{mode:04o}", "mode")
PORT: FieldType[int] = FieldType(parse_port, str, "port")
