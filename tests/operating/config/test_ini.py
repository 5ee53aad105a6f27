"""Ini files → settings: precedence of layers, listeners, and origins."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from daemons.operating.config import ini
from daemons.operating.config.ini import Override
from daemons.operating.config.sections import SECTIONS, DaemonSettings, LogSettings
from daemons.serving.guards.limits import Limits
from daemons.serving.listening.address import Address
from tests.operating.folder import GOOD, Folder


def test_an_ini_of_three_lines_gives_the_built_in_values(folder: Folder) -> None:
    folder.write("x", GOOD)
    settings = folder.read()
    assert settings.name == "x"
    assert settings.daemon == DaemonSettings(service="launcelot", port=1060)
    assert settings.limits == Limits()
    assert settings.log == LogSettings()
    assert settings.addresses == (Address("tcp", host="127.0.0.1", port=1060),)
    assert (settings.base, settings.run) == (folder.path, folder.path / "run")
    assert settings.logging_ini is None
    assert settings.origins == {("daemon", "service"): "conf/x.ini", ("daemon", "port"): "conf/x.ini"}


def test_later_layer_wins_and_origins_name_it(folder: Folder) -> None:
    folder.write(
        "defaults", "[limits]\nidle_timeout = 1m\ndrain_timeout = 2s\nwrite_timeout = 3s\n[daemon]\nengine = one\n"
    )
    folder.write("x", GOOD + "[limits]\ndrain_timeout = 4s\nwrite_timeout = 5s\n")
    settings = folder.read("limits.write_timeout=6s", "limits.write_timeout=7s")
    limits = settings.limits
    assert (limits.idle_timeout, limits.drain_timeout, limits.write_timeout) == (60.0, 4.0, 7.0)
    assert settings.daemon.engine == "one"
    origin = settings.origins
    assert origin["limits", "idle_timeout"] == origin["daemon", "engine"] == "conf/defaults.ini"
    assert origin["limits", "drain_timeout"] == "conf/x.ini"
    assert origin["limits", "write_timeout"] == "--set"
    assert ("limits", "message_timeout") not in origin


def test_of_options_that_mean_the_same_key_the_last_wins(folder: Folder) -> None:
    folder.write("x", GOOD)
    port = Override("--port", "daemon", "port", "1")
    assert folder.read(port, "daemon.port=2").daemon.port == 2
    settings = folder.read("daemon.port=2", port)
    assert settings.daemon.port == 1
    assert settings.addresses[0].port == 1
    assert settings.origins["daemon", "port"] == "--port"


def test_the_shipped_shared_files_are_used_where_they_are(folder: Folder) -> None:
    folder.write("x", GOOD)
    folder.write("logging", "anything: read elsewhere")
    assert folder.read().logging_ini == folder.conf / "logging.ini"


def test_the_run_folder_is_beside_conf_or_where_it_was_put(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write(
        "x", GOOD.replace("port = 1060", "listen = unix:run/a.sock unix:run/b/c.sock unix:d.sock unix:/e.sock")
    )
    monkeypatch.chdir(folder.path.parent)

    def paths(run: Path | None) -> list[str]:
        return [address.path for address in folder.read(run=run).addresses]

    base = folder.path
    assert paths(None) == [f"{base}/run/a.sock", f"{base}/run/b/c.sock", f"{base}/d.sock", "/e.sock"]
    assert paths(Path("/r")) == ["/r/a.sock", "/r/b/c.sock", f"{base}/d.sock", "/e.sock"]
    # --run is a path of the command line: it starts where that was typed.
    assert paths(Path("other"))[0] == f"{folder.path.parent}/other/a.sock"


def tcp(port: int, host: str = "127.0.0.1") -> Address:
    return Address("tcp", host=host, port=port)


#: ([daemon] of defaults.ini, [daemon] of the ini, options, resulting addresses)
PLACES: list[tuple[str, str, list[str], list[str]]] = [
    ("", "port = 1", [], ["tcp://127.0.0.1:1"]),
    ("", "host = ::1\nport = 1", [], ["tcp://[::1]:1"]),
    ("", "host = [::1]\nport = 1", [], ["tcp://[::1]:1"]),
    ("", "port = 1", ["port=0"], ["tcp://127.0.0.1:0"]),
    ("", "port = 1", ["host=127.0.0.2"], ["tcp://127.0.0.2:1"]),
    ("port = 1", "", [], ["tcp://127.0.0.1:1"]),
    ("host = 127.0.0.2", "port = 1", [], ["tcp://127.0.0.2:1"]),
    ("port = 1", "listen = unix:/x", [], ["unix:/x"]),
    ("listen = unix:/x", "port = 1", [], ["unix:/x"]),
    ("listen = tcp://127.0.0.2:2", "port = 1", [], ["tcp://127.0.0.2:1"]),
    ("", "listen = tcp://[::1]:1 unix:/x tcp://127.0.0.1:2", [], ["tcp://[::1]:1", "unix:/x", "tcp://127.0.0.1:2"]),
    (
        "",
        "listen = tcp://[::1]:1 unix:/x tcp://127.0.0.1:2",
        ["port=0"],
        ["tcp://[::1]:0", "unix:/x", "tcp://127.0.0.1:0"],
    ),
    ("", "listen = tcp://[::1]:1\n  unix:/x", ["listen=unix:/y"], ["unix:/y"]),
    ("", "listen = tcp://[::1]:1\n  unix:/x", ["listen=unix:/y", "port=5"], ["unix:/y"]),
    ("", "port = 1\npublic = yes", ["host=0.0.0.0"], ["tcp://0.0.0.0:1"]),
    ("", "port = 1\npublic = yes", ["host="], ["tcp://:1"]),
    ("public = yes", "listen = tcp://0.0.0.0:1 tcp://[::]:1", [], ["tcp://0.0.0.0:1", "tcp://[::]:1"]),
]


@pytest.mark.parametrize(("defaults", "own", "options", "expected"), PLACES, ids=map(str, range(len(PLACES))))
def test_listeners(folder: Folder, defaults: str, own: str, options: list[str], expected: list[str]) -> None:
    folder.write("defaults", f"[daemon]\n{defaults}\n")
    folder.write("x", f"[daemon]\nservice = launcelot\n{own}\n")
    assert [str(address) for address in folder.read(*(f"daemon.{each}" for each in options)).addresses] == expected


def test_a_handler_of_a_later_layer_replaces_a_service_and_the_other_way_round(folder: Folder) -> None:
    folder.write("x", GOOD)
    settings = folder.read("daemon.handler=mine:Handler")
    assert (settings.daemon.service, settings.daemon.handler) == ("", "mine:Handler")
    assert settings.own_section == "handler"
    settings = folder.read("daemon.handler=mine:Handler", "daemon.service=package.mine:Other")
    assert (settings.daemon.service, settings.daemon.handler) == ("package.mine:Other", "")
    assert settings.own_section == "other"


def test_own_section_is_kept_as_text(folder: Folder) -> None:
    folder.write("defaults", "[launcelot]\ncolour = blue\nquest = grail\n")
    folder.write("x", GOOD + "[launcelot]\nColour = %(red)s\n")
    settings = folder.read()
    assert settings.own == {"colour": "%(red)s", "quest": "grail"}
    assert settings.origins["launcelot", "colour"] == "conf/x.ini"
    assert settings.origins["launcelot", "quest"] == "conf/defaults.ini"


@pytest.mark.parametrize(
    "text", ["[daemon]\r\nservice = launcelot\r\nport = 1060\r\n", "\ufeff" + GOOD.replace("    ", "")]
)
def test_files_of_other_editors_are_read(folder: Folder, text: str) -> None:
    (folder.conf / "x.ini").write_bytes(text.encode())
    assert folder.read().daemon.port == 1060


def test_processes_are_counted_or_one_for_each_core(folder: Folder) -> None:
    folder.write("x", GOOD)
    assert folder.read("daemon.processes=3").processes == 3
    assert folder.read("daemon.processes=auto").processes == len(os.sched_getaffinity(0))


def test_the_daemons_are_those_with_an_ini(folder: Folder) -> None:
    for name in ("zen", "launcelot", "defaults", "logging"):
        folder.write(name, GOOD)
    (folder.conf / "launcelot.ini~").touch()
    (folder.conf / "notes.txt").touch()
    # What emacs puts beside a file that is being edited.
    (folder.conf / ".#launcelot.ini").symlink_to("king@camelot.1060")
    assert ini.names(folder.conf) == ["launcelot", "zen"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("limits.idle_timeout=2s", ("limits", "idle_timeout", "2s")),
        ("qa.text= a = b ", ("qa", "text", "a = b")),
        ("daemon.host=", ("daemon", "host", "")),
        ("a.b=line\nline", ("a", "b", "line\nline")),
    ],
)
def test_an_override_names_section_key_and_value(text: str, parts: tuple[str, str, str]) -> None:
    override = ini.parse_override(text)
    assert (override.origin, override.section, override.key, override.value) == ("--set", *parts)


@pytest.mark.parametrize(
    "text",
    ["", "idle_timeout=2s", "limits.idle_timeout = 2s", "limits.idle_timeout", "a.b.c=1", ".b=1", "a.=1", "a b.c=1"],
)
def test_invalid_override_is_refused_with_the_expected_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a setting; write SECTION\.KEY=VALUE, for example limits"):
        ini.parse_override(text)


def test_every_setting_of_every_section_is_declared_with_a_kind_and_a_text() -> None:
    for declaration in SECTIONS.values():
        for field in dataclasses.fields(declaration):
            kind = field.metadata["kind"]
            assert field.metadata["text"]
            assert kind.form
            shown = kind.show(field.default)
            assert not shown or kind.parse(shown) == field.default
