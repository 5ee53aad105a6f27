"""Parsers of request fields accept any value."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemons.web import basic
from daemons.web.files import conditions, languages, negotiation, ranges
from daemons.web.files.conditions import Validators
from daemons.web.site.prefix_map import FORBIDDEN, names_of

SIZE = 1000
HAVE = Validators('"a-b"', 1_760_256_000)
TAGS = ("en", "de-CH", "fr")


def _range(value: str) -> None:
    found = ranges.ranges_of(value, SIZE)
    if found is not None:
        assert len(found) <= ranges.MOST
        assert all(0 <= start < end <= SIZE for start, end in found)
        assert sum(end - start for start, end in found) <= SIZE
    assert ranges.ranges_of(value, 0) in (None, [])


def _encoding(value: str) -> None:
    assert negotiation.prefers_gzip(value) in (True, False)


def _language(value: str) -> None:
    assert languages.best(value, TAGS) in (None, *TAGS)


def _condition(value: str) -> None:
    for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"):
        fields = {name: value}
        assert conditions.evaluate_preconditions(fields, HAVE) in (200, 304, 412)
        assert conditions.evaluate_write_preconditions(fields, HAVE) in (0, 412)
        assert conditions.evaluate_write_preconditions(fields, None) in (0, 412)
    assert conditions.evaluate_if_range(value, HAVE, HAVE.modified) in (True, False)


def _date(value: str) -> None:
    found = conditions.date(value)
    assert found is None or -62_135_596_800 <= found < 253_402_300_800  # the years 1 to 9999


def _caller(value: str) -> None:
    found = basic.parse_credentials(value)
    assert found is None or ":" not in found[0]


def _path(value: str) -> None:
    names = names_of(value)
    assert names is None or (
        not {b".", b".."} & set(names) and b"" not in names[:-1] and not any(map(FORBIDDEN.search, names))
    )


READERS: dict[str, Callable[[str], None]] = {
    "Range": _range,
    "Accept-Encoding": _encoding,
    "Accept-Language": _language,
    "If-Match and its like": _condition,
    "a date": _date,
    "Authorization": _caller,
    "a path": _path,
}

#: Valid and almost valid fragments of field values, in Latin-1.
PIECES = st.one_of(
    st.sampled_from(
        [
            *(
                "bytes=",
                "BYTES=",
                "0-",
                "-",
                "-1",
                "999-",
                "9" * 19,
                "0",
                ",",
                ";q=",
                ";Q=1",
                "0.5",
                "1.000",
                "q",
                "*",
                '"',
            ),
            *(
                "W/",
                '"a-b"',
                "en",
                "de-ch",
                "de",
                "-",
                "x-",
                "gzip",
                "identity",
                "abcdefghi",
                " ",
                "\t",
                "\xb2",
                "\xff",
            ),
            *("Sun, ", "Sunday, ", "12 ", "Oct ", "31-Feb-", "2025 ", "0000", "08:00:00", "23:59:60", " GMT", "GMT"),
            *(
                "Basic ",
                base64.b64encode(b"arthur:x").decode(),
                "=",
                "/",
                "//",
                ".",
                "..",
                "%2e",
                "%2F",
                "%",
                "%zz",
                "%00",
            ),
        ]
    ),
    st.text(st.characters(max_codepoint=255), max_size=4),
)


@pytest.mark.parametrize("name", READERS)
@given(value=st.lists(PIECES, max_size=12).map("".join))
@settings(max_examples=60)
def test_any_field_value_is_parsed_within_bounds(name: str, value: str) -> None:
    """For any value the parser raises nothing, and its result is within the valid range."""
    READERS[name](value)


@pytest.mark.parametrize("name", READERS)
def test_long_field_value_is_parsed_in_linear_time(name: str) -> None:
    """Parse values eight times as long as a head may be.  Quadratic time would be 10**10 steps, and exceed the test's
    timeout."""
    for piece in (
        " ",
        ",",
        "0-,",
        "a",
        "a-",
        '"',
        '"a",',
        " ;q=",
        "gzip ",
        ",\t",
        "-",
        "bytes=",
        "/a",
        "%",
        "W/",
        "en,",
    ):
        for begin in ("", "bytes=", '"', "Basic ", "en;q=", "/"):
            READERS[name](begin + piece * (2**17 // len(piece)) + "\0")
