"""Language negotiation: Accept-Language (RFC 9110, section 12.5.4) and RFC 4647."""

from __future__ import annotations

import re
from typing import NamedTuple

from daemons.settings.values import FieldType
from daemons.web.field_cache import field_cache
from daemons.web.files.lookup import Folder
from daemons.web.files.media import media_type

_TAG = r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*"

_RANGE = re.compile(rf"(\*|{_TAG})(?:[ \t]*;[ \t]*[qQ]=(0(?:\.\d{{0,3}})?|1(?:\.0{{0,3}})?))?")

#: Maximum language ranges of one field that are considered.
MOST = 32


class Variant(NamedTuple):
    """A file selected by language."""

    name: bytes
    #: Its media type, from the name without the language's suffix.
    media: str
    #: The language tag, or empty.
    language: str
    #: Whether the choice depends on Accept-Language.
    chosen: bool


def _languages(text: str) -> tuple[str, ...]:
    tags = tuple(text.split())
    for tag in tags:
        if not re.fullmatch(_TAG, tag):
            raise ValueError(f"{tag}: not a language tag; write en fr de-CH, the default first")
    if len(set(map(str.lower, tags))) < len(tags):
        raise ValueError("a language is listed twice")
    return tags


LANGUAGES: FieldType[tuple[str, ...]] = FieldType(_languages, " ".join, "languages")


class Languages:
    """Selects files with the tag of a language as suffix, as ``index.html.en``; the first language is the default."""

    def __init__(self, tags: tuple[str, ...]) -> None:
        self._suffixes = {tag: f".{tag}".encode("ascii") for tag in tags}
        #: The suffixes of files in one of the languages.
        self.suffixes = tuple(self._suffixes.values())

    def bare(self, name: bytes) -> bytes:
        """Return a file name without its language suffix; empty if it has none."""
        return next((bare for suffix in self.suffixes if (bare := name.removesuffix(suffix)) != name), b"")

    def choose(self, folder: Folder, name: bytes, accepted: str | None) -> Variant:
        """Select the file in `folder` for `name` and the value of Accept-Language.  The file need not exist."""
        for tag, suffix in self._suffixes.items():
            if name.endswith(suffix) and name != suffix:
                return Variant(name, media_type(name.removesuffix(suffix)), tag, chosen=False)
        media = media_type(name)
        there = folder.kind(name)
        if there == "folder":
            return Variant(name, media, "", chosen=False)
        tags = tuple(tag for tag, suffix in self._suffixes.items() if folder.kind(name + suffix) == "file")
        if not tags:
            return Variant(name, media, "", chosen=False)
        wanted = best(accepted, tags)
        if wanted is None and there == "file":
            return Variant(name, media, "", chosen=True)
        tag = wanted or tags[0]  # an unacceptable language is better than 406: section 12.1
        return Variant(name + self._suffixes[tag], media, tag, chosen=True)


@field_cache
def best(value: str | None, tags: tuple[str, ...]) -> str | None:
    """Return the preferred one of `tags`, the first if several are equal; None if none is acceptable.

    A range matches the tags that begin with it, and the longest matching range counts (basic filtering, RFC 4647,
    section 3.3.1).  If no range matches a tag, a longer range that begins with the tag counts (section 3.4): fr-CH
    accepts fr."""
    ranges: dict[str, tuple[float, int]] = {}
    for place, part in enumerate((value or "*").split(",", MOST)[:MOST]):
        if match := _RANGE.fullmatch(part.strip(" \t")):
            ranges.setdefault(match[1].lower(), (float(match[2] or 1), -place))
    wanted = {tag: _weight(tag.lower(), ranges) for tag in tags}
    # max() returns the first of equal items.
    tag = max(tags, key=lambda tag: wanted[tag])
    return tag if wanted[tag][0] > 0 else None


def _weight(tag: str, ranges: dict[str, tuple[float, int]]) -> tuple[float, int]:
    parts = tag.split("-")
    for length in range(len(parts), 0, -1):
        if (weight := ranges.get("-".join(parts[:length]))) is not None:
            return weight
    longer = [weight for each, weight in ranges.items() if each.startswith(f"{tag}-")]
    if longer:
        return max(longer)
    return ranges.get("*", (0.0, 0))
