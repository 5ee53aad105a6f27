"""Complaints of `daemons check` about supervisord.conf."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from daemons.cli import supervisord_check, supervisord_files
from tests.operating.folder import GOOD, Folder
from tests.operating.live import BIN

PROJECT = Path(__file__).resolve().parents[2]
#: As it is shipped, with two of its daemons, which are as good as all.
SHIPPED = re.sub(
    r"(?ms)^\[program:(?!launcelot|zen).*?(?=^\[|\Z)", "", (PROJECT / "supervisord.conf").read_text("utf-8")
)


@pytest.fixture
def supervised(folder: Folder) -> Folder:
    """A project with the shipped supervisord.conf and its two daemons."""
    for each in ("logs", "run", ".venv"):
        (folder.path / each).mkdir()
    (folder.path / ".venv" / "bin").symlink_to(BIN)
    for name in ("launcelot", "zen"):
        folder.write(name, GOOD)
    return folder


def said(folder: Folder, text: str) -> list[str]:
    path = folder.path / "supervisord.conf"
    path.write_text(text, "utf-8")
    daemons = [folder.read(name=name) for name in ("launcelot", "zen")]
    return supervisord_check.complaints(path, ["launcelot", "zen"], daemons)


def changed(old: str, new: str) -> str:
    """The shipped file with one thing in [program:launcelot] changed."""
    assert old in SHIPPED
    return SHIPPED.replace(old, new, 1)


def test_shipped_file_has_no_complaints(supervised: Folder) -> None:
    assert said(supervised, SHIPPED) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("startsecs = 2", "startsec = 2", " startsec: no such setting; did you mean startsecs?"),
        ("startsecs = 2", "colour = blue", " colour: no such setting"),
        (
            "startsecs = 2",
            "stopwaitsecs = 9",
            " stopwaitsecs = 9: must be 10 or more: drain_timeout is 8 s, and "
            "closing the remaining connections takes up to 2 s; supervisord would kill the daemon first",
        ),
        (" run %(program_name)s", " run lancelot", " command: there is no conf/lancelot.ini; did you mean launcelot?"),
        (" run %(program_name)s", " run xyzzy", " command: there is no conf/xyzzy.ini"),
        (
            " run %(program_name)s",
            " run %(program_name)s --detach",
            " command: a program under supervisord must not detach; remove --detach",
        ),
        (
            " run %(program_name)s",
            " run --port 0 --set limits.drain_timeout=13500ms %(program_name)s",
            " stopwaitsecs = 10: must be 16 or more: drain_timeout is 13.5 s, and "
            "closing the remaining connections takes up to 2 s; supervisord would kill the daemon first",
        ),
        (" run %(program_name)s", " list", " command: `daemons run NAME` is expected, not list"),
        (
            " run %(program_name)s",
            " run",
            " command: `daemons run NAME` is expected; the following arguments are required: NAME",
        ),
        (
            " run %(program_name)s",
            " run %(program_name)s --prot 1",
            " command: `daemons run NAME` is expected; unrecognized arguments: --prot 1",
        ),
        ('"%(here)s/.venv/bin/daemons"', "/nowhere/daemons", " command: there is no /nowhere/daemons"),
        (
            '"%(here)s/.venv/bin/daemons"',
            "/nowhere/.venv/bin/daemons",
            " command: there is no /nowhere/.venv/bin/daemons; `make run` makes .venv",
        ),
        ('"%(here)s/.venv/bin/daemons"', "/dev/null/daemons", " command: there is no /dev/null/daemons"),
        (
            'command = "%(here)s/.venv/bin/daemons"',
            "command = /etc/passwd -c daemons",
            " command: /etc/passwd is not executable",
        ),
        ('"%(here)s/.venv/bin/daemons"', '"%(here)s/.venv/bin/daemons', " command: No closing quotation"),
        (
            'command = "%(here)s/.venv/bin/daemons" run %(program_name)s',
            "command =",
            " command: empty; write `daemons run NAME`",
        ),
    ],
)
def test_fault_of_a_program_is_a_complaint(supervised: Folder, old: str, new: str, complaint: str) -> None:
    assert said(supervised, changed(old, new)) == [f"supervisord.conf [program:launcelot]{complaint}"]


def test_all_complaints_are_reported_at_once(supervised: Folder) -> None:
    text = changed("startsecs = 2", "stopwaitsecs = 9\nautorestrat = yes")
    assert [complaint.partition(":launcelot] ")[2].split()[0] for complaint in said(supervised, text)] == [
        "autorestrat:",
        "stopwaitsecs",
    ]


def test_a_longer_drain_timeout_needs_a_longer_stopwaitsecs(supervised: Folder) -> None:
    supervised.write("zen", GOOD + "[limits]\ndrain_timeout = 15s\n")
    (complaint,) = said(supervised, SHIPPED)
    assert complaint.startswith("supervisord.conf [program:zen] stopwaitsecs = 10: must be 17 or more: ")


@pytest.mark.parametrize(
    "command",
    [
        "daemons run %(program_name)s --port 0",
        "%(here)s/.venv/bin/daemons run %(program_name)s --set limits.drain_timeout=7s",
        "daemons run --conf etc other",
        "daemons run --conf %(here)s/conf %(program_name)s",
        "bash -c 'sleep 1; exec daemons run launcelot'",
        "%(here)s/.venv/bin/python -m daemons run %(program_name)s",
    ],
)
def test_wrapper_that_starts_a_daemon_is_accepted(supervised: Folder, command: str) -> None:
    (supervised.path / "etc").mkdir()
    (supervised.path / "etc" / "other.ini").touch()
    text = changed('command = "%(here)s/.venv/bin/daemons" run %(program_name)s', f"command = {command}")
    assert said(supervised, text) == []
    noted = supervisord_check.notes(supervised.path / "supervisord.conf", ["launcelot", "zen"])
    assert noted == (["conf/launcelot.ini: no [program:x] of supervisord.conf runs it"] if "other" in command else [])


def test_daemon_without_a_program_is_a_note(supervised: Folder) -> None:
    text = re.sub(r"(?ms)^\[program:zen\].*\Z", "", SHIPPED)
    assert said(supervised, text) == []
    noted = supervisord_check.notes(supervised.path / "supervisord.conf", ["launcelot", "zen"])
    assert noted == ["conf/zen.ini: no [program:x] of supervisord.conf runs it"]


def test_of_a_file_that_supervisord_cannot_read_there_are_no_notes(supervised: Folder) -> None:
    assert said(supervised, "") != []
    assert supervisord_check.notes(supervised.path / "supervisord.conf", ["launcelot", "zen"]) == []


def test_programs_that_are_no_daemons_of_ours_are_left_alone(supervised: Folder) -> None:
    assert said(supervised, SHIPPED + "\n[program:other]\ncommand = /bin/cat --detach\nstopwaitsecs = 1\n") == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (SHIPPED + "[program:zen]\ncommand = /bin/cat\n", "section 'program:zen' already exists"),
        (SHIPPED + "autostart = no\nautostart = no\n", "option 'autostart' in section 'program:zen' already exists"),
        ("command = x\n" + SHIPPED, "File contains no section headers"),
        (changed("autorestart = true", "autorestart = perhaps"), "invalid 'autorestart' value"),
        (changed("startsecs = 2", "stopwaitsecs = long"), "invalid literal for int() with base 10: 'long'"),
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
    (found,) = supervisord_check.complaints(path, [], [])
    assert re.fullmatch(r"supervisord\.conf line \d+: not UTF-8 \(byte 0xfc\); save it as UTF-8", found)


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
    assert frozenset(asked) == supervisord_files.KEYS["program"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("[program:launcelot]", "[progam:launcelot]", "{new}: no such section; did you mean program:launcelot?"),
        ("[program:launcelot]", "[Program:launcelot]", "{new}: no such section; did you mean program:launcelot?"),
        ("[program:launcelot]", "[program]", "{new}: no such section; did you mean program:NAME?"),
        ("[include]", "[includes]", "{new}: no such section; did you mean include?"),
        ("minfds", "minfd", "[supervisord] minfd: no such setting; did you mean minfds?"),
        ("chmod = ", "mode = ", "[unix_http_server] mode: no such setting; did you mean chmod?"),
        ("directory = %(here)s", "directory = /no/such", "[program:launcelot] directory: there is no folder /no/such"),
        (
            "startsecs = 2",
            "stopsignal = HUP",
            "[program:launcelot] {new}: no daemon ends at this signal; write TERM",
        ),
        (
            "startsecs = 2",
            "stopsignal = 0",
            "[program:launcelot] {new}: no daemon ends at this signal; write TERM",
        ),
    ],
)
def test_ignored_keys_and_impossible_settings_are_complaints(
    supervised: Folder, old: str, new: str, complaint: str
) -> None:
    shipped = SHIPPED.replace("[supervisord]\n", "[supervisord]\nminfds = 1024\n")
    assert said(supervised, shipped.replace(old, new, 1)) == [f"supervisord.conf {complaint.format(new=new)}"]


def test_folder_without_the_ini_of_its_daemon_is_named(supervised: Folder) -> None:
    text = changed("directory = %(here)s", "directory = %(here)s/logs")
    logs = supervised.path / "logs"
    (complaint,) = said(supervised, text)
    assert complaint == (
        "supervisord.conf [program:launcelot] command: "
        f"there is no {logs}/conf/launcelot.ini; the daemon starts in {logs}"
    )
    elsewhere = text.replace("startsecs = 2", 'environment = DAEMONS_CONF="%(here)s/conf"', 1)
    assert said(supervised, elsewhere) == []
