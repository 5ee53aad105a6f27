"""URL paths as tuples of names, and maps from path prefixes to values.

Paths are compared by their names, each percent-decoded once, as files are opened.  So ``/%70rivate`` is below
``/private``.  Paths that other software may interpret differently, with an empty name, a dot segment or an encoded
slash, match no prefix and no file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote

from daemons.settings.values import FieldType

T = TypeVar("T")

#: The names of a path, decoded; the last is empty if the path ends with a slash.
Names = tuple[bytes, ...]

#: Bytes that names must not have.  Browsers treat a backslash as a slash.
FORBIDDEN = re.compile(rb"[\0/\\]")

#: The same characters in a URL path, percent-encoded or not, without its separators.
_ENCODED = re.compile(r"%(?:00|2[Ff]|5[Cc])|[\0\\]")

#: Bytes by their two hexadecimal digits.
_DIGITS = "0123456789abcdefABCDEF"
_BYTES = {(a + b).encode("ascii"): bytes([int(a + b, 16)]) for a in _DIGITS for b in _DIGITS}

_AMBIGUOUS = re.compile(rb"[\0-\x1f\x7f%;?#]|\xc2[\x80-\x9f]")

#: Unicode's Default_Ignorable_Code_Point, as in a character set of `re`.  File systems that fold names (HFS+, ext4 with
#: casefold) ignore these characters.
IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)

_INVISIBLE = re.compile(f"[{IGNORABLE}]")

#: The whitespace characters of Unicode.
_BLANKS = "".join(blank for code in range(0x3001) if (blank := chr(code)).isspace())

#: Longest name, in bytes, that `folded` folds: 255 characters of 4 bytes, the limit of most file systems.
LONGEST_FOLDED = 1020

#: Maximum number of names in a path that are not ASCII.  Folding one takes some 10 µs, and a path of 8 KiB has room for
#: a thousand.
MOST_FOLDED = 100

_PATH = re.compile(r"/[!$-.0-;=@-\[\]_a-z~%&'()*+,/]*")


def names_of(path: str) -> Names | None:
    """Return the names of a URL path without query; None for a path that matches nothing."""
    if not path.startswith("/") or _ENCODED.search(path):
        return None
    # All at once, since a path of 8 KiB may have thousands of names.
    names = tuple(unquoted(path[1:]).split(b"/"))
    return None if b"" in names[:-1] or b"." in names or b".." in names else names


def unquoted(text: str) -> bytes:
    """Percent-decode `text`. A `%` that begins no escape is kept. Such a `%` takes no longer than an escape,
    unlike in `urllib.parse.unquote_to_bytes`."""
    return decoded(text.encode("utf-8"))


def decoded(text: bytes) -> bytes:
    """Percent-decode `text`, as `unquoted`."""
    first, *parts = text.split(b"%")
    find = _BYTES.get
    found = [
        b"%" if not part else b"%" + part if (byte := find(part[:2])) is None else byte + part[2:] for part in parts
    ]
    return first + b"".join(found)


def folded(name: bytes) -> bytes:
    """Return a canonical form of `name`, the same for all spellings that file systems or servers may treat as equal.

    It ignores case, Unicode forms (NFKC), invisible characters, surrounding whitespace and trailing dots. Names of more
    than `LONGEST_FOLDED` bytes are returned unchanged, since normalization takes quadratic time."""
    if name.isascii():
        return name.lower().lstrip(b" ").rstrip(b". ")
    if len(name) > LONGEST_FOLDED:
        return name
    text = unicodedata.normalize("NFKC", name.decode("utf-8", "surrogateescape")).casefold()
    text = _INVISIBLE.sub("", text)
    text = "".join(each for each in text if unicodedata.category(each) != "Cf")
    # Many case tables map the dotless i to I, and the dotted I to i.
    text = unicodedata.normalize("NFKC", text.replace("\u0131", "i").replace("i\u0307", "i"))
    return text.lstrip(_BLANKS).rstrip(_BLANKS + ".").encode("utf-8", "surrogateescape")


def is_ambiguous(names: Names) -> bool:
    """Return whether other software may interpret the path differently.

    Such a path has parameters (RFC 3986, section 3.3) or a control character, is encoded twice or not UTF-8, or has
    more than `MOST_FOLDED` names that are not ASCII.  Or one of its names is too long to be `folded`, or is empty or
    forbidden after folding."""
    if _AMBIGUOUS.search(b"/".join(names)):
        return True
    to_fold = [name for name in names if not name.isascii()]
    if len(to_fold) > MOST_FOLDED:
        return True
    for name in to_fold:
        try:
            name.decode("utf-8")
        except UnicodeDecodeError:
            return True
        same = folded(name)
        if len(name) > LONGEST_FOLDED or not same or FORBIDDEN.search(same) or _AMBIGUOUS.search(same):
            return True
    return False


def _prefix(text: str) -> str:
    names = names_of(text) if _PATH.fullmatch(text) else None
    if names is None:
        raise ValueError("not a path; write /name or /name/name, percent-encoded as in a URL")
    # In canonical form, so that duplicates are found.
    return "/" + "/".join(quote(name, safe="!$&'()*+,;=:@[]~") for name in names if name)


PREFIX: FieldType[str] = FieldType(_prefix, str, "path")


def bare(names: Names) -> Names:
    """Return `names` without the empty last name of a trailing slash."""
    return names[:-1] if names and not names[-1] else names


class Found(NamedTuple, Generic[T]):
    """The value of the longest prefix of a path."""

    prefix: str
    value: T
    #: The names after the prefix.
    rest: Names


class PrefixMap(Generic[T]):
    """Map from path prefixes to values; the longest matching prefix counts."""

    def __init__(self, values: Mapping[str, T]) -> None:
        self._values: dict[Names, tuple[str, T]] = {}
        for prefix, value in values.items():
            names = names_of(prefix)
            assert names is not None, "`PREFIX` allows no other paths"
            self._values[bare(names)] = (prefix, value)
        #: Number of names in the longest prefix; further names of a path are not compared.
        self.longest = max(map(len, self._values), default=0)

    @classmethod
    def by_names(cls, values: Iterable[tuple[Names, T]]) -> PrefixMap[T]:
        """Return a map from names, which need not be valid in a URL."""
        made = cls({})
        made._values = {names: ("", value) for names, value in values}
        made.longest = max(map(len, made._values), default=0)
        return made

    def __bool__(self) -> bool:
        return bool(self._values)

    def find(self, names: Names) -> Found[T] | None:
        """Return the longest prefix of `names` with its value; None if there is none."""
        for length in range(min(self.longest, len(names)), -1, -1):
            found = self._values.get(names[:length])
            if found is not None:
                return Found(*found, names[length:])
        return None
