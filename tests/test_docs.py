"""Checks of the pages: generated parts are up to date, links have targets, options and daemons exist.

``python -m tests.test_docs`` writes the generated parts again: the whole of ``docs/settings.md``, and the parts between
the marks in ``docs/operating.md``, ``README.md`` and ``supervisord.conf``.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from daemons.cli.parser import parser
from daemons.operating.config import ini
from daemons.operating.config.sections import SECTIONS
from daemons.operating.loading.targets import target_of
from daemons.serving.conversation.endings import Ending
from daemons.serving.listening.address import Address
from daemons.settings.values import kind_of
from tests.shipped import SHIPPED

PROJECT = Path(__file__).resolve().parents[1]
SETTINGS = PROJECT / "docs" / "settings.md"
OPERATING = PROJECT / "docs" / "operating.md"
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("benchmarks/*.md")])

README = PROJECT / "README.md"
SUPERVISORD = PROJECT / "supervisord.conf"

#: Generated parts, between their marks.
ENDINGS = re.compile(r"(<!-- endings: .*? -->\n)(.*)(<!-- end of endings -->)", re.DOTALL)
DAEMONS = re.compile(r"(<!-- daemons: .*? -->\n)(.*)(<!-- end of daemons -->)", re.DOTALL)
PROGRAMS = re.compile(r"(; Programs: .*?\n\n)(.*)(\n; End of the programs\.\n)", re.DOTALL)

#: Keys of a program in supervisord.conf, which explains them.
PROGRAM = """\
[program:{name}]
command = "%(here)s/.venv/bin/daemons" run %(program_name)s
directory = %(here)s
autorestart = true
startsecs = 2
killasgroup = true
redirect_stderr = true
stdout_logfile = %(here)s/logs/%(program_name)s.log
"""


def _shown(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=_shown)


# --- generated parts ------------------------------------------------------------------------------


def settings_page() -> str:
    """Return ``docs/settings.md``, generated from the declarations."""
    parts = [
        "<!-- Written by `python -m tests.test_docs` from the declarations in the code: do not edit. -->\n\n"
        "# Settings\n\n"
        "All settings of a daemon, by section. `conf/NAME.ini` overrides them for one daemon, `conf/defaults.ini` for\n"
        "all daemons. `daemons show NAME` prints the resulting values and their sources.\n"
    ]
    for name, declaration in SECTIONS.items():
        text = " ".join((inspect.getdoc(declaration) or "").split()).partition(". ")[0].partition(": ")[2]
        assert text, f"the docstring of [{name}] says nothing behind the colon"
        rows = [_row(field) for field in dataclasses.fields(declaration)]
        parts.append(
            f"## [{name}]\n\n{text[:1].upper()}{text[1:].rstrip('.')}.\n\n"
            + _table(("setting", "written as", "default", "meaning"), rows)
        )
    parts.append(
        "## [NAME]\n\nThe section named after the service, or the WSGI application, contains its own options, if it\n"
        "has any: see [Options of its own](writing-a-daemon.md#options-of-its-own) and\n"
        "[A WSGI application](wsgi.md#options-of-its-own).\n"
    )
    parts.append(
        "## Values\n\n"
        + _table(
            ("kind", "examples"),
            [
                ("count", "`1`, `200`: a whole number above 0"),
                ("duration", "`500ms`, `10s`, `5m`, `1h`, `2d`"),
                ("size", "`512B`, `64KiB`, `10MiB`, `1GiB`"),
                ("rate", "`50/s`, `100/m`, `5/h`"),
                ("port", "a number from 0 to 65535, 0 for any free one; or a name from `/etc/services`"),
            ],
        )
        + "\nEach line has one key and its value. A comment has a line of its own and begins with `#`.\n"
    )
    return "\n".join(parts)


def endings_table() -> str:
    """Return the table of endings."""
    rows = [(f"`{ending.value}`", _level(ending), ending.text) for ending in Ending]
    return _table(("ending", "level", "meaning"), rows)


def daemons_table() -> str:
    """Return the table of the shipped daemons, in the order of their ports."""
    rows = []
    for name in SHIPPED:
        settings = ini.read(PROJECT / "conf", name)
        target = target_of(settings)
        module = sys.modules[target.served_class.__module__]
        name_of_file = module.__name__.replace(".", "/")
        file = name_of_file if hasattr(module, "__path__") else f"{name_of_file}.py"
        first = min(address.port for address in settings.addresses if address.port)
        where = ", ".join(_where(address) for address in settings.addresses)
        rows.append((first, (f"[{name}]({file})", where, f"`{settings.daemon.engine}`", target.describe())))
    return _table(("daemon", "listens at", "engine", "purpose"), [row for _, row in sorted(rows)])


def programs(current: str) -> str:
    """Return the programs of supervisord.conf: one for each shipped daemon.

    supervisord starts them in the order of the file, so those of `current` keep their order; new ones come last.
    """
    before = re.findall(r"^\[program:(\w+)\]$", current, re.MULTILINE)
    names = [name for name in before if name in SHIPPED] + [name for name in SHIPPED if name not in before]
    return "\n".join(PROGRAM.format(name=name) for name in names)


def _where(address: Address) -> str:
    return "unix" if address.scheme == "unix" else f"{address.scheme} {address.port}"


def _row(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    kind = kind_of(field)
    default = kind.show(field.default)
    return f"`{field.name}`", kind.form, f"`{default}`" if default else "", field.metadata["text"]


def _level(ending: Ending) -> str:
    return {20: "INFO", 30: "WARNING", 40: "ERROR"}[ending.level]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def generate() -> None:
    """Write the generated parts."""
    SETTINGS.write_text(settings_page(), "utf-8")
    text = OPERATING.read_text("utf-8")
    OPERATING.write_text(ENDINGS.sub(lambda match: match[1] + endings_table() + match[3], text), "utf-8")
    text = README.read_text("utf-8")
    README.write_text(DAEMONS.sub(lambda match: match[1] + daemons_table() + match[3], text), "utf-8")
    text = SUPERVISORD.read_text("utf-8")
    SUPERVISORD.write_text(PROGRAMS.sub(lambda match: match[1] + programs(match[2]) + match[3], text), "utf-8")


def test_the_settings_page_is_up_to_date() -> None:
    assert SETTINGS.read_text("utf-8") == settings_page(), "run: python -m tests.test_docs"


def test_the_table_of_endings_is_up_to_date() -> None:
    match = ENDINGS.search(OPERATING.read_text("utf-8"))
    assert match is not None
    assert match[2] == endings_table(), "run: python -m tests.test_docs"


def test_the_readme_lists_the_daemons_that_are_configured() -> None:
    match = DAEMONS.search(README.read_text("utf-8"))
    assert match is not None
    assert match[2] == daemons_table(), "run: python -m tests.test_docs"


def test_supervisord_conf_has_a_program_for_each_shipped_daemon() -> None:
    match = PROGRAMS.search(SUPERVISORD.read_text("utf-8"))
    assert match is not None
    assert match[2] == programs(match[2]), "run: python -m tests.test_docs"


def test_programs_keep_their_order_and_new_ones_come_last() -> None:
    before = "".join(PROGRAM.format(name=name) for name in ("zen", "gone", *SHIPPED[2:-1]))
    names = re.findall(r"^\[program:(\w+)\]$", programs(before), re.MULTILINE)
    assert names == ["zen", *SHIPPED[2:-1], *SHIPPED[:2]]


def test_documented_programs_have_the_same_keys() -> None:
    """In conf.d, `%(here)s` is that folder."""
    body = PROGRAM.partition("\n")[2].replace("%(here)s", "%(here)s/..")
    example = (PROJECT / "conf.d" / "example.conf").read_text("utf-8")
    assert body in re.sub("(?m)^; ?", "", example) + "\n"
    assert body in (PROJECT / "docs" / "writing-a-daemon.md").read_text("utf-8")


# --- pages written by hand ------------------------------------------------------------------------


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the fragments of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", target):
            continue
        path, _, fragment = target.partition("#")
        other = page.parent / path if path else page
        if not other.exists() or (fragment and fragment not in anchors(other)):
            broken.append(target)
    assert broken == []


def code(page: Path) -> Iterator[str]:
    """Yield each command line and each piece of inline code."""
    for block in re.findall(r"^```console\n(.*?)^```$", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL):
        yield from re.findall(r"^\$ (.+)$", block, flags=re.MULTILINE)
    yield from re.findall(r"`([^`]+)`", prose(page))


@cache
def commands() -> dict[str, set[str]]:
    """Return the options of each command of ``daemons``."""
    (choices,) = (action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    for sub in choices.values():
        sub.complete()  # a tool's arguments are added when it is used
    return {word: set(sub._option_string_actions) for word, sub in choices.items()}


def wrong_options(line: str) -> list[str]:
    """Return the options in a piece of code that its ``daemons`` command does not have."""
    known = commands()
    if re.fullmatch(r"--[a-z-]+", line):
        return [] if any(line in options for options in known.values()) else [line]
    wrong = []
    for each in re.split(r"[|;&]|<\(", line):
        try:
            words = shlex.split(each)
        except ValueError:
            continue
        if words[:1] != ["daemons"] or len(words) < 2 or words[1] in ("-h", "--help", "--version"):
            continue
        command = words[1]
        if command not in known:
            wrong.append(command)
            continue
        options = [word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)]
        wrong += [f"{command} {option}" for option in options if option not in known[command]]
    return wrong


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "benchmarks"], ids=_shown)
def test_documented_options_exist(page: Path) -> None:
    assert [wrong for line in code(page) for wrong in wrong_options(line)] == []


def test_the_table_of_commands_names_every_command() -> None:
    section = OPERATING.read_text("utf-8").partition("## The command\n")[2].partition("\n## ")[0]
    table = section.lstrip().partition("\n\n")[0]
    named = {word.removeprefix("daemons ").split()[0] for word in re.findall(r"`([^`]+)`", table)}
    assert commands().keys() - named == set()


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("daemons run zen --detach", []),
        ("daemons run zen --daemonize", ["run --daemonize"]),
        ("sleep 1; daemons reload zen", ["reload"]),
        ("daemons ask zen -p 1070 -q", ["ask -q"]),
        ("--processes", []),
        ("--workers", ["--workers"]),
    ],
)
def test_an_option_that_does_not_exist_is_found(line: str, wrong: list[str]) -> None:
    assert wrong_options(line) == wrong


def test_tutorials_use_ports_of_their_own() -> None:
    """Several tutorials can be followed in one checkout, in which the shipped daemons run, too."""
    taken = {
        address.port: name for name in SHIPPED for address in ini.read(PROJECT / "conf", name).addresses if address.port
    }
    wrong = []
    for page in PAGES:
        inis = re.findall(
            r"^`conf/(\w+)\.ini`:\n\n```ini\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
        for name, text in inis:
            for port in map(int, re.findall(r"^port = (\d+)$", text, re.MULTILINE)):
                tutorial = f"{_shown(page)} {name}"
                if taken.setdefault(port, tutorial) != tutorial:
                    wrong.append(f"{tutorial}: {port} is the port of {taken[port]}")
    assert wrong == []
    assert len(taken) > len(SHIPPED) + 5


def test_the_tests_that_the_pages_name_exist() -> None:
    missing = []
    for path, function in re.findall(r"`(tests/\S+\.py)::(\w+)`", "".join(map(prose, PAGES))):
        file = PROJECT / path
        if not file.is_file() or not re.search(rf"def {function}\(", file.read_text("utf-8")):
            missing.append(f"{path}::{function}")
    assert missing == []


def test_the_files_and_identifiers_that_the_pages_name_exist() -> None:
    text = "".join(map(prose, PAGES))
    missing = [
        path
        for path in re.findall(r"`((?:daemons|docs|soak|benchmarks)/[\w./]+\.\w+)`", text)
        if not (PROJECT / path).exists() and "NAME" not in path
    ]
    for name, path in re.findall(r"`([\w.]+)` in `([\w/]+\.py)`", text):
        file = PROJECT / path
        if not file.is_file() or not re.search(rf"\b{name.rpartition('.')[2]}\b", file.read_text("utf-8")):
            missing.append(f"{name} in {path}")
    assert missing == []


if __name__ == "__main__":
    generate()
