"""Complaints about an ini: file, section, key, expected form and nearest key, all at once."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemons.operating.config import ini
from daemons.settings.complaints import ConfigurationError
from tests.operating.folder import GOOD, Folder

DAEMON = "[daemon]\nservice = launcelot\nport = 1060\n"

#: (ini, complaints)
WRONG: list[tuple[str, list[str]]] = [
    (DAEMON + "prot = 1\n", ["[daemon] prot: no such setting; did you mean port?"]),
    (DAEMON + "colour = blue\n", ["[daemon] colour: no such setting"]),
    (DAEMON + "[limts]\n", ["[limts]: no such section; did you mean limits?"]),
    (DAEMON + "[DEFAULT]\na = 1\n", ["[DEFAULT]: no such section"]),
    (DAEMON + "[zen]\na = 1\n", ["[zen]: no such section"]),
    (
        DAEMON + "[limits]\nmax_conections = 9\nmessage_timeout = 10 minutes\nidle_timeout =\n",
        [
            "[limits] max_conections: no such setting; did you mean max_connections?",
            "[limits] message_timeout = 10 minutes: not a duration; write 10s, 5m or 1h",
            "[limits] idle_timeout = : not a duration; write 10s, 5m or 1h",
        ],
    ),
    (
        "[daemon]\nservice = launcelot\nport = 70000\nengine = thread\nprocesses = 0\npublic = maybe\nbacklog = many\n",
        [
            "[daemon] port = 70000: not a port; write a number from 0 to 65535 or a name from /etc/services",
            "[daemon] engine = thread: write one, threads, forks, pool or loop; did you mean threads?",
            "[daemon] processes = 0: not a count; write a whole number above 0, or auto",
            "[daemon] public = maybe: neither yes nor no",
            "[daemon] backlog = many: not a count; write a whole number above 0",
        ],
    ),
    (
        DAEMON.replace("1060", "1060 # the book's"),
        [
            "[daemon] port = 1060 # the book's: not a port; write a number from 0 to 65535 or a name from "
            "/etc/services; a comment needs a line of its own"
        ],
    ),
    (
        "",
        [
            "[daemon] service: missing; write service = NAME or module:Class",
            "[daemon] port: missing; write port = N, or listen = ADDRESS",
        ],
    ),
    ("[daemon]\nservice =\nport = 1\n", ["[daemon] service: missing; write service = NAME or module:Class"]),
    ("[daemon]\nservice = zen\nlisten =\n", ["[daemon] port: missing; write port = N, or listen = ADDRESS"]),
    (
        "[daemon]\nservice = my.module\nport = 1\n",
        ["[daemon] service = my.module: write NAME, for the Service in daemons.NAME, or module:Class"],
    ),
    ("[daemon]\nhandler = Handler\nport = 1\n", ["[daemon] handler = Handler: write module:Class"]),
    ("[daemon]\nhandler = a:b:C\nport = 1\n", ["[daemon] handler = a:b:C: write module:Class"]),
    (DAEMON + "handler = a:B\n", ["[daemon] handler: there is a service too; write only one of the two"]),
    (
        DAEMON + "listen = unix:x\n",
        ["[daemon] listen: there is a port or host too; write listen alone, or host and port"],
    ),
    (
        "[daemon]\nservice = zen\nlisten = unix:x\nhost = ::1\n",
        ["[daemon] listen: there is a port or host too; write listen alone, or host and port"],
    ),
    (
        "[daemon]\nservice = zen\nlisten = http://localhost:80\n",
        [
            "[daemon] listen = http://localhost:80: http://localhost:80 is not an address; "
            "write tcp://127.0.0.1:1060, tcp://[::1]:1060, tls://127.0.0.1:1060, udp://127.0.0.1:1060, "
            "unix:run/name.sock, fd://0 or systemd:"
        ],
    ),
    (
        "[daemon]\nservice = zen\nlisten = unix:/" + "x" * 107 + "\n",
        [
            f"[daemon] listen: /{'x' * 107} is longer than 107 bytes, the maximum for the path of a Unix socket",
        ],
    ),
    (
        "[daemon]\nservice = zen\nlisten = unix:/a tcp://localhost:1 tcp://127.0.0.1:1\n",
        ["[daemon] listen: tcp://localhost:1 and tcp://127.0.0.1:1 overlap"],
    ),
    (
        DAEMON + "host = 192.0.2.1\n",
        ["[daemon] host: tcp://192.0.2.1:1060 can be reached from other machines; to allow that, write public = yes"],
    ),
    (
        "[daemon]\nservice = zen\nlisten = tcp://127.0.0.1:1 tcp://[::]:1 tcp://example.org:2\n",
        [
            "[daemon] listen: tcp://[::]:1 can be reached from other machines; to allow that, write public = yes",
            "[daemon] listen: tcp://example.org:2 can be reached from other machines; "
            "to allow that, write public = yes",
        ],
    ),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=map(str, range(len(WRONG))))
def test_each_complaint_names_file_section_key_and_expected_form(folder: Folder, text: str, said: list[str]) -> None:
    folder.write("x", text)
    assert folder.complaints() == [f"conf/x.ini {each}" for each in said]


#: (text with a syntax error, complaint): a syntax error is the only complaint about a file.
BROKEN: list[tuple[bytes, str]] = [
    (b"port = 1\n" + DAEMON.encode(), " line 1: before any section; write [daemon] above it"),
    (DAEMON.encode() + b"host\n]\n", " line 4: neither [section] nor key = value"),
    (b"[daemon]\nport: 1\n", " line 2: neither [section] nor key = value"),
    (b"[daemon]\nport = 1\nPort = 2\n", " [daemon] port: duplicate, again in line 3"),
    (b"[daemon]\nport = 1\n[daemon]\n", " [daemon]: duplicate, again in line 3"),
    ("[daemon]\nservice = künstler".encode("latin-1"), " line 2: not UTF-8 (byte 0xfc); save it as UTF-8"),
    (b"[daemon]\nservice = a\0b", " line 2: a NUL character; not a text file"),
]


@pytest.mark.parametrize(("text", "said"), BROKEN, ids=map(str, range(len(BROKEN))))
def test_broken_file_is_one_complaint(folder: Folder, text: bytes, said: str) -> None:
    (folder.conf / "x.ini").write_bytes(text)
    assert folder.complaints()[0] == f"conf/x.ini{said}"
    assert all("line" in each or len(folder.complaints()) == 1 for each in folder.complaints())
    # And so for the file that all share; the daemon's own is still looked at.
    folder.write("x", GOOD + "engine = fast\n")
    (folder.conf / "defaults.ini").write_bytes(text)
    complaints = folder.complaints()
    assert complaints[0] == f"conf/defaults.ini{said}"
    assert complaints[-1].startswith("conf/x.ini [daemon] engine = fast: write one, threads, forks, pool or loop")


def test_faults_of_all_files_and_options_are_reported_at_once(folder: Folder) -> None:
    folder.write("defaults", "[limits]\nidle_timout = 5m\n")
    folder.write("x", GOOD + "[limits]\ndrain_timeout = soon\n")
    assert folder.complaints("limits.max_rate=fast", "nowhere.key=1", "daemon.host=0.0.0.0") == [
        "conf/defaults.ini [limits] idle_timout: no such setting; did you mean idle_timeout?",
        "conf/x.ini [limits] drain_timeout = soon: not a duration; write 10s, 5m or 1h",
        "--set [limits] max_rate = fast: not a rate; write 50/s or 100/m, or off",
        "--set [nowhere]: no such section",
        "--set [daemon] host: tcp://0.0.0.0:1060 can be reached from other machines; to allow that, write public = yes",
    ]


def test_option_that_opens_a_public_port_is_named(folder: Folder) -> None:
    folder.write("x", "[daemon]\nservice = zen\nlisten = tcp://127.0.0.1:1\n")
    assert folder.complaints("daemon.host=::") == [
        "--set [daemon] host: tcp://[::]:1 can be reached from other machines; to allow that, write public = yes"
    ]


def test_missing_ini_is_reported_with_the_nearest_name(folder: Folder) -> None:
    folder.write("launcelot", GOOD)
    assert folder.complaints(name="lancelot") == ["conf/lancelot.ini: no such file; did you mean launcelot?"]
    assert folder.complaints(name="zen") == ["conf/zen.ini: no such file"]
    folder.write("defaults", "")
    assert folder.complaints(name="defaults") == ["conf/defaults.ini: no such file"]
    (folder.conf / "dir.ini").mkdir()
    assert folder.complaints(name="dir") == ["conf/dir.ini: no such file"]


def test_the_folder_is_named_even_where_it_is_this_one(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.conf)
    with pytest.raises(ConfigurationError, match=r"^conf/x\.ini: no such file$"):
        ini.read(Path(), "x")


def test_missing_conf_folder_is_reported_with_the_option(folder: Folder) -> None:
    folder.conf.rmdir()
    assert folder.complaints() == [f"{folder.conf}: no such folder; name the folder of the ini files with --conf DIR"]


def test_unreadable_file_is_reported_with_the_reason(folder: Folder) -> None:
    folder.write("x", GOOD)
    defaults = folder.conf / "defaults.ini"
    defaults.mkdir()
    assert folder.complaints() == ["conf/defaults.ini: is a directory"]
    defaults.rmdir()
    defaults.symlink_to(defaults)
    assert folder.complaints() == ["conf/defaults.ini: too many levels of symbolic links"]
    defaults.unlink()
    if os.geteuid() != 0:  # root may read everything
        folder.write("x", GOOD).chmod(0)
        assert folder.complaints() == ["conf/x.ini: permission denied"]


_LINE = st.one_of(
    st.sampled_from(
        ["[daemon]", "[limits]", "[log]", "[launcelot]", "[]", "[", "=", "#", ";", " x", "\t= y", "service"]
    ),
    st.sampled_from(
        ["service = launcelot", "handler = a:B", "port = 1", "host = ::", "public = yes", "listen = unix:x"]
    ),
    st.builds(
        "{} = {}".format,
        st.sampled_from(["port", "listen", "host", "engine", "idle_timeout", "max_rate", "size", "service", "handler"]),
        st.text(st.characters(codec="utf-8"), max_size=20),
    ),
    st.text(st.characters(codec="utf-8"), max_size=40),
)


@given(lines=st.lists(_LINE, max_size=12), override=st.text(st.characters(codec="utf-8"), max_size=20))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_gives_settings_or_complaints_and_nothing_else(
    folder: Folder, lines: list[str], override: str
) -> None:
    (folder.conf / "x.ini").write_text("\n".join(lines), "utf-8", newline="")
    complaints = folder.complaints(f"daemon.host={override}")
    assert all(complaint.startswith(("conf/x.ini", "--set")) for complaint in complaints)
    assert complaints or folder.read(f"daemon.host={override}").addresses


@given(data=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_settings_or_complaints_and_nothing_else(folder: Folder, data: bytes) -> None:
    folder.write("x", GOOD)
    (folder.conf / "defaults.ini").write_bytes(data)
    assert all(complaint.startswith("conf/defaults.ini") for complaint in folder.complaints())


def test_the_same_complaint_is_made_once(folder: Folder) -> None:
    folder.write("x", dedent(GOOD))
    assert folder.complaints("daemon.prt=1", "daemon.prt=1") == [
        "--set [daemon] prt: no such setting; did you mean port?"
    ]
