"""The shipped files conf/ and supervisord.conf agree with the code."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons.operating.config import ini
from daemons.operating.config.sections import SECTIONS
from daemons.operating.loading.targets import target_of
from daemons.serving.engines import stream_server
from daemons.serving.guards.limits import Limits
from tests.operating.folder import GOOD, Folder
from tests.shipped import SHIPPED

PROJECT = Path(__file__).resolve().parents[2]
CONF = PROJECT / "conf"


def _uncommented(text: str) -> str:
    return re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE)


def _shown() -> Iterator[tuple[str, str, str]]:
    """(section, key, value) that defaults.ini shows commented out."""
    section = ""
    for line in (CONF / "defaults.ini").read_text("utf-8").splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
        elif match := re.fullmatch(r"#(\w+) = (.+)", line):
            yield section, match[1], match[2]


@pytest.mark.parametrize(("section", "key", "text"), list(_shown()), ids=lambda part: part)
def test_defaults_ini_shows_the_built_in_value(section: str, key: str, text: str) -> None:
    field = SECTIONS[section].__dataclass_fields__[key]
    value = field.metadata["kind"].parse(text)
    # An automatic setting is shown with its value under the default engine.
    capacity = stream_server(SECTIONS["daemon"].engine).capacity
    automatic = {"max_connections": capacity, "max_per_peer": capacity // 2}
    assert value == (field.default if field.default is not None else automatic[key])


def test_defaults_ini_has_something_to_show_and_sets_nothing(folder: Folder) -> None:
    shown = list(_shown())
    assert len(shown) >= 11
    folder.write("x", GOOD)
    folder.write("defaults", (CONF / "defaults.ini").read_text("utf-8"))
    assert set(folder.read().origins.values()) == {"conf/x.ini"}
    folder.write("defaults", _uncommented((CONF / "defaults.ini").read_text("utf-8")))
    settings = folder.read()
    assert {key for key, origin in settings.origins.items() if origin == "conf/defaults.ini"} == {
        (section, key) for section, key, _ in shown
    }
    assert settings.limits.drain_timeout == Limits.drain_timeout


def test_the_capacities_named_in_defaults_ini_are_those_of_the_engines() -> None:
    assert "1000, and 200 with engine = forks" in (CONF / "defaults.ini").read_text("utf-8")
    assert stream_server("threads").capacity == 1000
    assert stream_server("forks").capacity == 200


#: Those that are another daemon once more.
AGAIN = {"httpsd": "httpd", "front": "httpd"}


def test_the_list_of_shipped_daemons_is_complete() -> None:
    tracked = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "conf/*.ini"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if tracked.returncode:
        pytest.skip("no git here, or no repository")
    assert sorted(Path(line).stem for line in tracked.stdout.splitlines()) == sorted([*SHIPPED, *ini.SHARED])


@pytest.mark.parametrize("name", SHIPPED)
def test_every_daemon_shipped_has_its_program_its_port_and_its_docstring(name: str) -> None:
    settings = ini.read(CONF, name)
    kind = target_of(settings).served_class
    file = AGAIN.get(name, name)
    assert kind.__module__ == f"daemons.{file}"
    assert f"[program:{name}]" in (PROJECT / "supervisord.conf").read_text("utf-8")
    # The module's docstring shows an ini that works: the one that is shipped.
    lines = [line.strip() for line in (CONF / f"{file}.ini").read_text("utf-8").splitlines()]
    shown = [line.strip() for line in (sys.modules[kind.__module__].__doc__ or "").splitlines() if " = " in line]
    assert shown
    assert set(shown) <= set(lines)


def test_launcelot_listens_on_port_1060() -> None:
    assert [str(address) for address in ini.read(CONF, "launcelot").addresses] == ["tcp://127.0.0.1:1060"]
    assert [str(address) for address in ini.read(CONF, "zen").addresses] == ["tcp://127.0.0.1:1070"]


def test_the_programs_of_supervisord_conf_differ_in_their_names_alone() -> None:
    text = (PROJECT / "supervisord.conf").read_text("utf-8")
    programs = dict(re.findall(r"^\[program:(\w+)\]\n((?:\w.*\n)*)", text, re.MULTILINE))
    assert sorted(programs) == sorted(SHIPPED)
    assert len({body.strip() for body in programs.values()}) == 1
    assert "\n[group:" not in text
    assert "inet_http_server" not in text


def test_nothing_uses_syslog() -> None:
    for path in (PROJECT / "daemons").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) syslog|SysLogHandler", path.read_text("utf-8"), re.MULTILINE), path


def test_loggers_are_named_after_their_modules() -> None:
    """So that [logger_x] qualname = daemons.x in logging.ini reaches them."""
    for path in (PROJECT / "daemons").rglob("*.py"):
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("log = "):
                assert re.fullmatch(r"log = [\w.]+\(__name__\)", line), path
    assert logging.getLogger("daemons.launcelot.access").parent is not None


def test_ports_of_daemons_are_distinct_and_outside_the_ephemeral_range() -> None:
    """Of the notes' ports several programs have the same: 1060, 8000, 8080."""
    taken: dict[tuple[str, int], str] = {}
    for name in SHIPPED:
        for address in ini.read(CONF, name).addresses:
            if address.port:
                kind = "udp" if address.scheme == "udp" else "tcp"
                assert taken.setdefault((kind, address.port), name) == name
                assert 1023 < address.port < 32768
    assert len(taken) >= 25
