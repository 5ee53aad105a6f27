"""One layer of settings, as it was written: an ini file, or an option of the command line."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from daemons.operating.complaints import ConfigurationError


@dataclass(frozen=True)
class Layer:
    """From section and key to the text, and where that stands."""

    origin: str
    values: Mapping[str, Mapping[str, str]]


def shown(path: Path) -> str:
    """``conf/launcelot.ini``: the file and its folder are enough to know which is meant."""
    return f"{path.parent.name}/{path.name}"


def _key(written: str) -> str:
    return written if written.startswith("/") else written.lower()


def of_file(path: Path) -> Layer | None:
    """What an ini file says; None if there is no such file.  Raises `ConfigurationError` if it cannot be read."""
    parser = configparser.ConfigParser(interpolation=None, default_section="", delimiters=("=",))
    # Keys are words, in any case; but for paths, in which small letters and capitals differ.
    parser.optionxform = _key  # type: ignore[assignment]
    origin = shown(path)
    try:
        # Some editors begin a file with a byte order mark, which utf-8-sig takes away.
        text = path.read_text("utf-8-sig")
        if "\0" in text:
            raise ConfigurationError(
                [f"{origin}: a NUL at octet {len(text.partition(chr(0))[0].encode())}; not a text"]
            )
        parser.read_string(text, origin)
    except FileNotFoundError:
        return None
    except OSError as error:
        reasons = [f": {(error.strerror or str(error)).lower()}"]
    except UnicodeDecodeError as error:
        reasons = [f": not UTF-8 at octet {error.start}"]
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
