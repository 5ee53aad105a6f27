"""Field types: text ↔ value."""

from __future__ import annotations

import math
import re
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.operating.config.sections import _LISTEN, _PORT
from daemons.settings import values
from daemons.settings.values import COUNT, DURATION, PORT, RATE, SIZE, TEXT, YES_NO, FieldType, choice, optional

ENGINE = choice("one", "threads", "forks")
MOST = optional("auto", COUNT)

GOOD: list[tuple[FieldType[Any], str, object, str]] = [
    (DURATION, "500ms", 0.5, "500ms"),
    (DURATION, "10s", 10.0, "10s"),
    (DURATION, "1.5s", 1.5, "1.5s"),
    (DURATION, "5m", 300.0, "5m"),
    (DURATION, "60s", 60.0, "1m"),
    (DURATION, "90s", 90.0, "90s"),
    (DURATION, "1h", 3600.0, "1h"),
    (DURATION, "1.1h", 3960.0, "66m"),
    (DURATION, "24d", 2073600.0, "24d"),
    (DURATION, "0.001ms", 1e-6, "0.001ms"),
    (SIZE, "512B", 512, "512B"),
    (SIZE, "64KiB", 65536, "64KiB"),
    (SIZE, "1024B", 1024, "1KiB"),
    (SIZE, "10MiB", 10 * 1024**2, "10MiB"),
    (SIZE, "1GiB", 1024**3, "1GiB"),
    (COUNT, "1", 1, "1"),
    (COUNT, "007", 7, "7"),
    (COUNT, "999999999", 999999999, "999999999"),
    (RATE, "50/s", 50.0, "50/s"),
    (RATE, "100/m", 100 / 60, "100/m"),
    (RATE, "60/m", 1.0, "1/s"),
    (RATE, "1/h", 1 / 3600, "1/h"),
    (RATE, "0.25/s", 0.25, "0.25/s"),
    (YES_NO, "yes", True, "yes"),
    (YES_NO, "no", False, "no"),
    (PORT, "0", 0, "0"),
    (PORT, "1060", 1060, "1060"),
    (PORT, "65535", 65535, "65535"),
    (_PORT, "1070", 1070, "1070"),
    (ENGINE, "forks", "forks", "forks"),
    (MOST, "auto", None, "auto"),
    (MOST, "10", 10, "10"),
    (TEXT, "any = text; at # all", "any = text; at # all", "any = text; at # all"),
]


@pytest.mark.parametrize(("kind", "text", "value", "shown"), GOOD, ids=[f"{row[0].form} {row[1]}" for row in GOOD])
def test_a_value_is_read_and_shown(kind: FieldType[Any], text: str, value: object, shown: str) -> None:
    assert kind.parse(text) == value
    assert kind.show(kind.parse(text)) == shown


BAD: list[tuple[FieldType[Any], list[str], str]] = [
    (
        DURATION,
        [
            "",
            "10",
            "s",
            "10 s",
            "10S",
            "-1s",
            "0s",
            "0ms",
            "1e3s",
            "10 minutes",
            "10s 5m",
            "inf",
            ".5s",
            "\u0661s",
            "9" * 10,
        ],
        "not a duration; write 10s, 5m or 1h",
    ),
    (DURATION, ["25d", "999999999h"], "longer than the maximum of 24d"),
    (
        SIZE,
        ["", "10", "64K", "64KB", "64kib", "0B", "-1B", "1.5MiB", "1 MiB", "9" * 5000 + "B"],
        "not a size; write 512B, 64KiB or 10MiB",
    ),
    (
        COUNT,
        ["", "0", "-1", "+1", "1.0", "1e3", " 1", "ten", "\u0661", "1_000", "9" * 10],
        "not a count; write a whole number",
    ),
    (
        RATE,
        ["", "50", "50/", "/s", "0/s", "50/d", "50 / s", "1e3/s", "0.001/h", "-1/s"],
        "not a rate; write 50/s or 100/m",
    ),
    (YES_NO, ["", "true", "1", "Yes", "on"], "neither yes nor no"),
    (
        PORT,
        ["", "65536", "-1", "1060 # the book's", "99999999", "no-such-service", "10.0", "\u0661"],
        "not a port; write a number from 0 to 65535 or a name from /etc/services",
    ),
    (ENGINE, ["", "Threads", "fast"], "write one, threads or forks"),
    (ENGINE, ["thread"], "write one, threads or forks; did you mean threads?"),
    (MOST, ["", "0", "Auto"], "not a count; write a whole number above 0, or auto"),
]


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [pytest.param(kind, text, said, id=f"{kind.form} {text!r}"[:40]) for kind, texts, said in BAD for text in texts],
)
def test_wrong_value_is_refused_with_the_expected_form(kind: FieldType[Any], text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        kind.parse(text)


def test_a_port_may_be_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getservbyname", lambda name, *protocol: {"launcelot": 1060}[name])
    assert PORT.parse("launcelot") == 1060


KINDS: dict[str, FieldType[Any]] = {
    "duration": DURATION,
    "size": SIZE,
    "count": COUNT,
    "rate": RATE,
    "yes or no": YES_NO,
    "port": PORT,
    "port or none": _PORT,
    "word": ENGINE,
    "count or word": MOST,
    "rate or word": optional("off", RATE),
    "addresses": _LISTEN,
    "text": TEXT,
}

_NUMBER = st.from_regex(r"[0-9]{1,9}(\.[0-9]{1,6})?", fullmatch=True)
_UNIT = st.sampled_from(["ms", "s", "m", "h", "d", "/s", "/m", "/h", "B", "KiB", "MiB", "GiB", ""])
_ADDRESS = st.sampled_from(["tcp://127.0.0.1:1060", "tcp://[::1]:0", "tcp://:80", "unix:run/x.sock", "unix:/tmp/a=b"])
_TEXTS = st.one_of(
    st.builds(str.__add__, _NUMBER, _UNIT),
    st.lists(_ADDRESS).map(" ".join),
    st.sampled_from(["yes", "no", "one", "threads", "auto", "off"]),
    st.text(),
)


@pytest.mark.parametrize("name", KINDS)
@given(text=_TEXTS)
def test_shown_value_can_be_parsed(name: str, text: str) -> None:
    kind = KINDS[name]
    try:
        value = kind.parse(text)
    except ValueError:
        return
    shown = kind.show(value)
    if name == "port or none" and not shown:
        return
    again = kind.parse(shown)
    assert again == value or math.isclose(again, value, rel_tol=1e-6)
    assert kind.show(again) == shown


def test_the_nearest_name_is_a_hint_and_a_distant_one_is_none() -> None:
    assert values.hint("max_conections", ["max_rate", "max_connections"]) == "; did you mean max_connections?"
    assert values.hint("colour", ["port", "host"]) == ""
    assert values.hint("x", []) == ""


def test_choices_are_listed_as_prose() -> None:
    assert values.either(("one",)) == "one"
    assert values.either(("one", "two")) == "one or two"
    assert values.either(("one", "two", "three")) == "one, two or three"


def test_setting_has_its_field_type() -> None:
    from dataclasses import dataclass, fields

    @dataclass(frozen=True)
    class Options:
        patience: float = values.setting(DURATION, 3.0, "how long")

    (field,) = fields(Options)
    assert values.kind_of(field) is DURATION
    assert field.metadata["text"] == "how long"
    assert Options().patience == 3.0
