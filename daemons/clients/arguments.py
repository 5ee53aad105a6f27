"""Kinds of words on the command lines of the clients; `argparse` says what is wrong with one."""

from __future__ import annotations

import argparse

from daemons.settings.values import MAX_DURATION, parse_port


def filled(text: str) -> str:
    """A word that is not empty, as that of an unset variable of the shell is: an option would be ignored with it, and a
    host be this machine."""
    if not text:
        raise argparse.ArgumentTypeError("an empty word; a value is expected")
    return text


def port(text: str, protocol: str = "tcp") -> int:
    """A port that can be connected to: its number, or its name in /etc/services."""
    try:
        number = parse_port(text, protocol)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error
    if not number:
        raise argparse.ArgumentTypeError("nobody can be at port 0")
    return number


def seconds(text: str) -> float:
    """A number of seconds that a socket can wait."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= MAX_DURATION:
        raise argparse.ArgumentTypeError(f"not a number of seconds above 0: {text!r}")
    return number
