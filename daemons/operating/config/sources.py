"""One layer of settings, as it was written: an ini file, or an option of the command line."""

from __future__ import annotations

import configparser
import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from daemons.settings.complaints import ConfigurationError


@dataclass(frozen=True)
class Layer:
    """From section and key to the text, and where that stands."""

    origin: str
    values: Mapping[str, Mapping[str, str]]


def shown(path: Path) -> str:
    """``conf/launcelot.ini``: the file and its folder are enough to know which is meant."""
    return f"{path.parent.name}/{path.name}"


def read_text(path: Path) -> str | None:
    """Return the text of a file that people write: UTF-8, with or without the byte order mark that some editors begin
    a file with.  None if there is no such file.  Raises `ConfigurationError`, which names the file and the line."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        if path.is_symlink():
            reason = f"a symbolic link to {os.readlink(path)}, which is missing"
            raise ConfigurationError([f"{shown(path)}: {reason}"]) from None
        return None
    except OSError as error:
        raise ConfigurationError([f"{shown(path)}: {(error.strerror or str(error)).lower()}"]) from error
    text = decode(data, shown(path))
    refuse_nul(text, shown(path))
    return text


def read_bytes(path: Path) -> bytes:
    """Return what is in the file at `path`, a regular one or /dev/null: others may have no end, or make a reader wait.
    Raises `OSError`."""
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) and not os.path.samestat(status, os.stat(os.devnull)):
            code = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
            raise OSError(code, os.strerror(code) if code == errno.EISDIR else "not a regular file")
        return file.read()


def decode(data: bytes, origin: str) -> str:
    """Return the text of a file, with newlines as its line ends.  Raises `ConfigurationError` where it is not UTF-8."""
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError([f"{origin} line {line}: not UTF-8 (byte 0x{byte:02x}); save it as UTF-8"]) from error


def refuse_nul(text: str, origin: str) -> None:
    """Raise `ConfigurationError` where the text of a file has a NUL character in it."""
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise ConfigurationError([f"{origin} line {line}: a NUL character; not a text file"])


def _key(written: str) -> str:
    return written if written.startswith("/") else written.lower()


def of_file(path: Path) -> Layer | None:
    """What an ini file says; None if there is no such file.  Raises `ConfigurationError` if it cannot be read."""
    parser = configparser.ConfigParser(interpolation=None, default_section="", delimiters=("=",))
    # Keys are words, in any case; but for paths, in which small letters and capitals differ.
    parser.optionxform = _key  # type: ignore[assignment]
    origin = shown(path)
    text = read_text(path)
    if text is None:
        return None
    try:
        parser.read_string(text, origin)
    except configparser.DuplicateOptionError as error:
        reasons = [f" [{error.section}] {error.option}: stands here twice, again in line {error.lineno}"]
    except configparser.DuplicateSectionError as error:
        reasons = [f" [{error.section}]: stands here twice, again in line {error.lineno}"]
    except configparser.MissingSectionHeaderError as error:
        reasons = [f" line {error.lineno}: before any section; write [daemon] above it"]
    except configparser.ParsingError as error:
        reasons = [f" line {number}: neither [section] nor key = value" for number, _ in error.errors]
    else:
        return Layer(origin, {name: dict(parser[name]) for name in parser.sections()})
    raise ConfigurationError(origin + reason for reason in reasons)
