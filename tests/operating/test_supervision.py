"""What `daemons check` says of supervisord.conf."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from daemons.operating import supervision
from tests.operating.folder import GOOD, Folder

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED = (PROJECT / "supervisord.conf").read_text("utf-8")


@pytest.fixture
def supervised(folder: Folder) -> Folder:
    """A project with the shipped supervisord.conf and its two daemons."""
    for each in ("logs", "run"):
        (folder.path / each).mkdir()
    for name in ("launcelot", "zen"):
        folder.write(name, GOOD)
    return folder


def said(folder: Folder, text: str) -> list[str]:
    path = folder.path / "supervisord.conf"
    path.write_text(text, "utf-8")
    daemons = [folder.read(name=name) for name in ("launcelot", "zen")]
    return supervision.complaints(path, ["launcelot", "zen"], daemons)


def changed(old: str, new: str) -> str:
    """The shipped file with one thing in [program:launcelot] changed."""
    assert old in SHIPPED
    return SHIPPED.replace(old, new, 1)


def test_nothing_is_wrong_with_the_file_as_shipped(supervised: Folder) -> None:
    assert said(supervised, SHIPPED) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("startretries = 2", "startretry = 2", " startretry: no such setting; did you mean startretries?"),
        ("startretries = 2", "colour = blue", " colour: no such setting"),
        (
            "stopwaitsecs = 15",
            "stopwaitsecs = 10",
            " stopwaitsecs = 10: must be more than the daemon's drain_timeout, 10 s, "
            "or supervisord kills it while it drains",
        ),
        (" run %(program_name)s", " run lancelot", " command: there is no conf/lancelot.ini; did you mean launcelot?"),
        (" run %(program_name)s", " run xyzzy", " command: there is no conf/xyzzy.ini"),
        (
            " run %(program_name)s",
            " run %(program_name)s --detach",
            " command: a program under supervisord must not detach; take --detach away",
        ),
    ],
)
def test_a_program_is_told_what_is_wrong_with_it(supervised: Folder, old: str, new: str, complaint: str) -> None:
    assert said(supervised, changed(old, new)) == [f"supervisord.conf [program:launcelot]{complaint}"]


def test_all_that_is_wrong_is_told_at_once(supervised: Folder) -> None:
    text = changed("stopwaitsecs = 15", "stopwaitsecs = 9\nautorestrat = yes")
    assert [complaint.partition(":launcelot] ")[2].split()[0] for complaint in said(supervised, text)] == [
        "autorestrat:",
        "stopwaitsecs",
    ]


def test_a_longer_drain_timeout_needs_a_longer_stopwaitsecs(supervised: Folder) -> None:
    supervised.write("zen", GOOD + "[limits]\ndrain_timeout = 15s\n")
    (complaint,) = said(supervised, SHIPPED)
    assert complaint.startswith("supervisord.conf [program:zen] stopwaitsecs = 15: must be more than")


def test_programs_that_are_no_daemons_of_ours_are_left_alone(supervised: Folder) -> None:
    assert said(supervised, SHIPPED + "\n[program:other]\ncommand = /bin/cat --detach\nstopwaitsecs = 1\n") == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (SHIPPED + "[program:zen]\ncommand = /bin/cat\n", "section 'program:zen' already exists"),
        (SHIPPED + "autostart = no\nautostart = no\n", "option 'autostart' in section 'program:zen' already exists"),
        ("command = x\n" + SHIPPED, "File contains no section headers"),
        (changed("autorestart = true", "autorestart = perhaps"), "invalid 'autorestart' value"),
        (changed("stopwaitsecs = 15", "stopwaitsecs = long"), "invalid literal for int() with base 10: 'long'"),
        (changed(" run %(program_name)s", " run %(no_such_name)s"), "Format string"),
        (changed("command = ", "comand = "), "does not specify a command"),
        ("", "does not include supervisord section"),
    ],
)
def test_a_broken_file_is_one_line_with_supervisords_own_reason(supervised: Folder, text: str, complaint: str) -> None:
    found = said(supervised, text)
    assert all(re.match(r"supervisord\.conf( \[program:\w+\] \w+)?: ", line) for line in found)
    assert "\n" not in "".join(found)
    assert complaint in found[-1]


def test_a_file_that_is_not_utf8_is_one_line_too(supervised: Folder) -> None:
    path = supervised.path / "supervisord.conf"
    path.write_bytes(SHIPPED.encode() + b"; k\xfcnstler\n")
    (found,) = supervision.complaints(path, [], [])
    assert found.startswith("supervisord.conf: ")


def test_the_known_keys_are_those_that_supervisor_reads(monkeypatch: pytest.MonkeyPatch, supervised: Folder) -> None:
    """So that a supervisor which comes to know another does not have it called unknown."""
    asked: set[str] = set()
    get = ServerOptions.processes_from_section
    from supervisor.options import UnhosedConfigParser

    saneget = UnhosedConfigParser.saneget

    def spy(parser: object, section: str, option: str, *args: object, **kwargs: object) -> object:
        if section.startswith("program:"):
            asked.add(option)
        return saneget(parser, section, option, *args, **kwargs)

    monkeypatch.setattr(UnhosedConfigParser, "saneget", spy)
    assert said(supervised, SHIPPED) == []
    assert get is ServerOptions.processes_from_section
    assert asked == supervision.PROGRAM_KEYS
