"""Argument types of the clients' command lines, for the parameter `type` of `argparse`."""

from __future__ import annotations

import argparse
from pathlib import Path

from daemons.settings.values import MAX_DURATION, parse_port


def nonempty(text: str) -> str:
    """Return a non-empty argument.  An unset shell variable gives an empty one, with which an option would be ignored
    and a host would mean this machine."""
    if not text:
        raise argparse.ArgumentTypeError("empty argument; expected a value")
    return text


def path(text: str) -> Path:
    """Return the path of a file or folder.  An empty one would be the working folder."""
    return Path(nonempty(text))


def port(text: str, protocol: str = "tcp") -> int:
    """Return the number of a port to connect to, given its number or its name in /etc/services."""
    try:
        number = parse_port(text, protocol)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error
    if not number:
        raise argparse.ArgumentTypeError("port 0 cannot be connected to; expected 1 to 65535")
    return number


def seconds(text: str) -> float:
    """Return a number of seconds that a socket accepts as its timeout."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= MAX_DURATION:
        raise argparse.ArgumentTypeError(f"not a number of seconds above 0: {text!r}")
    return number
