"""Layers of settings as text: an ini file, or an option of the command line."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from daemons.settings.complaints import ConfigurationError
from daemons.settings.regular_file import read_bytes


@dataclass(frozen=True)
class Layer:
    """Section → key → text, and the file or option that holds them."""

    origin: str
    values: Mapping[str, Mapping[str, str]]


def display_path(path: Path) -> str:
    """Return the path for messages, with one folder: ``conf/launcelot.ini``."""
    return f"{path.parent.name}/{path.name}"


def read_text(path: Path) -> str | None:
    """Return the text of a UTF-8 file, without a byte order mark; None if it does not exist.

    Raises `ConfigurationError`, which names the file and the line."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        if path.is_symlink():
            reason = f"a symbolic link to {os.readlink(path)}, which is missing"
            raise ConfigurationError([f"{display_path(path)}: {reason}"]) from None
        return None
    except OSError as error:
        raise ConfigurationError([f"{display_path(path)}: {(error.strerror or str(error)).lower()}"]) from error
    text = decode(data, display_path(path))
    refuse_nul(text, display_path(path))
    return text


def decode(data: bytes, origin: str) -> str:
    """Decode UTF-8, with newlines as line ends.  Raises `ConfigurationError` if it is not UTF-8."""
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError([f"{origin} line {line}: not UTF-8 (byte 0x{byte:02x}); save it as UTF-8"]) from error


def refuse_nul(text: str, origin: str) -> None:
    """Raise `ConfigurationError` if the text contains a NUL character."""
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise ConfigurationError([f"{origin} line {line}: a NUL character; not a text file"])


def _key(written: str) -> str:
    return written if written.startswith("/") else written.lower()


def of_file(path: Path) -> Layer | None:
    """Return the layer of an ini file; None if it does not exist.  Raises `ConfigurationError` if it cannot be read."""
    parser = configparser.ConfigParser(interpolation=None, default_section="", delimiters=("=",))
    # Keys are case-insensitive, except paths.
    parser.optionxform = _key  # type: ignore[assignment]
    origin = display_path(path)
    text = read_text(path)
    if text is None:
        return None
    try:
        parser.read_string(text, origin)
    except configparser.DuplicateOptionError as error:
        reasons = [f" [{error.section}] {error.option}: duplicate, again in line {error.lineno}"]
    except configparser.DuplicateSectionError as error:
        reasons = [f" [{error.section}]: duplicate, again in line {error.lineno}"]
    except configparser.MissingSectionHeaderError as error:
        reasons = [f" line {error.lineno}: before any section; write [daemon] above it"]
    except configparser.ParsingError as error:
        reasons = [f" line {number}: neither [section] nor key = value" for number, _ in error.errors]
    else:
        return Layer(origin, {name: dict(parser[name]) for name in parser.sections()})
    raise ConfigurationError(origin + reason for reason in reasons)
