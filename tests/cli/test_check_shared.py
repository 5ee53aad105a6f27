"""`daemons check --shared`: faults that prevent every daemon from starting, in shared files and the folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from daemons.cli import inspection, supervisord_check
from tests.operating.folder import GOOD, Folder
from tests.operating.live import BIN, GRAIL, Live, daemons, talk

PROJECT = Path(__file__).resolve().parents[2]

#: As it is shipped, without its programs.
SUPERVISORD = (PROJECT / "supervisord.conf").read_text("utf-8").partition("[program:")[0]

#: In the manner of conf.d/example.conf.
PROGRAM = re.sub(
    "(?m)^; ", "", (PROJECT / "conf.d" / "example.conf").read_text("utf-8").partition("; [program:NAME]")[2]
)


def project_in(path: Path) -> Folder:
    """A project with two daemons and a supervisord.conf, at `path`."""
    path.mkdir(parents=True)
    folder = Folder(path)
    for each in ("logs", "run", ".venv", "conf.d"):
        (path / each).mkdir()
    (path / ".venv" / "bin").symlink_to(BIN)
    for name, port in (("launcelot", "1060"), ("zen", "1070")):
        folder.write(name, GOOD.replace("1060", port).replace("launcelot", name))
    (path / "supervisord.conf").write_text(SUPERVISORD)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Folder:
    return project_in(tmp_path / "p")


def program(name: str, more: str = "") -> str:
    return f"[program:{name}]{PROGRAM}{more}"


def shared(project: Folder) -> list[str]:
    ended = daemons(project.path, "check", "--shared")
    assert (ended.returncode == 0) == (ended.stderr == "")
    return ended.stderr.splitlines()


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("defaults", "[limits]\nidle_timeot = 5m\n", "conf/defaults.ini [limits] idle_timeot: no such setting"),
        ("defaults", "idle_timeout = 5m\n", "conf/defaults.ini line 1: before any section"),
        ("defaults", "[daemon]\n\0", "conf/defaults.ini line 2: a NUL character"),
        ("logging", "[loggers]\nkeys = \n", "conf/logging.ini: "),
        (
            "logging",
            "[loggers]\nkeys = exit(0)\n[formatters]\nkeys=\n[handlers]\nkeys=a\n[handler_a]\nclass=exit\nargs=(0,)\n",
            "conf/logging.ini: SystemExit",
        ),
        ("logging", "[loggers]\nkeys = root\0", "conf/logging.ini line 2: a NUL character"),
    ],
)
def test_fault_of_a_shared_file_is_one_line(project: Folder, name: str, text: str, complaint: str) -> None:
    (project.conf / f"{name}.ini").write_text(text)
    (said,) = shared(project)
    assert said.startswith(complaint)


def test_fault_of_one_daemon_is_none_of_all(project: Folder) -> None:
    project.write("zen", "[daemon]\nprot = 1\n")
    project.write("own", "no section\n")
    (project.path / "conf.d" / "own.conf").write_text(program("own", "colour = blue\n"))
    assert shared(project) == []
    (project.conf / "launcelot.ini").unlink()
    assert shared(project) == []


def test_defaults_that_only_some_daemons_refuse_are_no_fault_of_all(project: Folder) -> None:
    project.write("defaults", "[zen]\nseed = 1\n")
    assert len(daemons(project.path, "check").stderr.splitlines()) > 0
    assert shared(project) == []


@pytest.mark.parametrize("name", ["100% sure", "50%d", "%(here)s", "a%%b"])
def test_folder_with_a_percent_sign_is_named(tmp_path: Path, name: str) -> None:
    project = project_in(tmp_path / name)
    (said,) = shared(project)
    assert said.startswith(f"supervisord.conf: supervisord interprets the % in {project.path} as the start of a format")
    # Without supervisord such a folder will do.
    project.write("launcelot", GOOD.replace("1060", "0"))
    with Live(project.path, "launcelot") as daemon:
        assert talk(daemon.port) == GRAIL


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("a[b]", "supervisord.conf [include] files: supervisord interprets {} as a pattern, and finds no files; "),
        ("what?", "supervisord.conf [include] files: supervisord interprets {} as a pattern, and finds no files; "),
        ('a"b', 'supervisord.conf: the " in {} ends the quoted path of each command; '),
    ],
)
def test_folder_that_supervisord_would_misread_is_named(tmp_path: Path, name: str, complaint: str) -> None:
    project = project_in(tmp_path / name)
    (said,) = shared(project)
    assert said.startswith(complaint.format(project.path))


@pytest.mark.parametrize("name", ["defaults.ini", "logging.ini"])
@pytest.mark.parametrize("command", [("check", "--shared"), ("check",), ("run", "launcelot")])
def test_shared_file_that_is_a_folder_or_a_dangling_link_is_named(
    project: Folder, name: str, command: tuple[str, ...]
) -> None:
    (project.conf / name).mkdir()
    ended = daemons(project.path, *command)
    assert (ended.returncode, f"conf/{name}: is a directory\n" in ended.stderr) == (100, True), ended.stderr
    (project.conf / name).rmdir()
    (project.conf / name).symlink_to("../elsewhere")
    ended = daemons(project.path, *command)
    assert ended.returncode == 100
    assert f"conf/{name}: a symbolic link to ../elsewhere, which is missing\n" in ended.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root can become anybody")
def test_user_that_only_root_can_become_is_a_note(project: Folder) -> None:
    project.write("launcelot", GOOD + "[drop]\nuser = root\n")
    ended = daemons(project.path, "check", "launcelot")
    assert ended.returncode == 0
    assert "note: conf/launcelot.ini [drop] user = root: only root can change its user" in ended.stderr
    project.write("launcelot", GOOD + "[drop]\ngroup = root\n")
    ended = daemons(project.path, "check", "launcelot")
    assert ended.returncode == 100
    assert "conf/launcelot.ini [drop] group = root: needs a user; write user = NAME too" in ended.stderr


def test_socket_of_supervisord_with_too_long_a_path_is_named(tmp_path: Path) -> None:
    length = supervisord_check.SOCKET_LIMIT - len(str(tmp_path)) - len("//run/supervisor.sock")
    assert shared(project_in(tmp_path / ("x" * length))) == []
    project = project_in(tmp_path / ("x" * (length + 1)))
    (said,) = shared(project)
    path = project.path / "run" / "supervisor.sock"
    assert said.startswith(
        f"supervisord.conf [unix_http_server] file: {path} is longer than 99 bytes, which supervisord"
    )


def test_byte_order_mark_that_supervisord_cannot_read_is_named(project: Folder) -> None:
    (project.path / "supervisord.conf").write_text("\ufeff" + SUPERVISORD, "utf-8")
    (said,) = shared(project)
    assert said.startswith("supervisord.conf: begins with a byte order mark")


def test_included_programs_are_checked_as_the_others(project: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    own = project.path / "conf.d" / "own.conf"
    own.write_text(program("launcelot") + program("zen"))
    assert inspection.check(project.conf) == 0
    assert capsys.readouterr().err == ""
    own.write_text(program("launcelot", "colour = blue\nstopwaitsecs2 = 1\n") + program("lancelot"))
    (project.path / "conf.d" / "two.conf").write_text(program("launcelot"))
    assert inspection.check(project.conf) == 100
    assert [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")] == [
        "conf.d/own.conf [program:launcelot] colour: no such setting",
        "conf.d/own.conf [program:launcelot] stopwaitsecs2: no such setting; did you mean stopwaitsecs?",
        "conf.d/two.conf [program:launcelot]: also in conf.d/own.conf",
        "conf.d/own.conf [program:lancelot] command: there is no conf/lancelot.ini; did you mean launcelot?",
    ]


def test_included_file_that_is_broken_is_named(project: Folder) -> None:
    (project.path / "conf.d" / "own.conf").write_text("colour = blue\n")
    (said,) = shared(project)
    assert said.startswith("conf.d/own.conf: File contains no section headers")


@pytest.mark.parametrize("folder", ["elsewhere", "elsewhere/deep"])
def test_conf_that_is_a_link_leaves_the_project_where_it_is(project: Folder, folder: str) -> None:
    target = project.path.parent / folder / "etc"
    target.parent.mkdir(parents=True)
    project.conf.rename(target)
    project.conf.symlink_to(target)
    project.write("launcelot", GOOD.replace("port = 1060", "listen = unix:run/l.sock"))
    settings = project.read(name="launcelot")
    assert (settings.base, settings.run) == (project.path, project.path / "run")
    with Live(project.path, "launcelot") as daemon:
        assert daemon.addresses == [f"unix:{project.path}/run/l.sock"]
    assert daemons(project.path, "check").stdout.endswith("; supervisord.conf\n")


@pytest.mark.parametrize("kind", ["folder", "dangling link", "key twice", "NUL", "unknown section"])
def test_included_file_that_supervisord_ignores_is_a_fault_of_its_own_alone(project: Folder, kind: str) -> None:
    own = project.path / "conf.d" / "own.conf"
    if kind == "folder":
        own.mkdir()
    elif kind == "dangling link":
        own.symlink_to("nowhere")
    else:
        more = {"key twice": "umask = 022\numask = 022\n", "NUL": "; \0\n", "unknown section": "[progam:x]\n"}[kind]
        own.write_text(program("zen", more))
    assert shared(project) == []
    ended = daemons(project.path, "check")
    assert ended.returncode == 100
    (found,) = [line for line in ended.stderr.splitlines() if not line.startswith("note: ")]
    assert found.startswith("conf.d/own.conf")


@pytest.mark.parametrize(("encoding", "byte"), [("latin-1", "e9"), ("utf-16", "ff")])
def test_included_file_of_another_encoding_is_named_with_its_line(project: Folder, encoding: str, byte: str) -> None:
    (project.path / "conf.d" / "own.conf").write_text(f"; caf\u00e9\n{program('zen')}", encoding)
    assert shared(project) == [f"conf.d/own.conf line 1: not UTF-8 (byte 0x{byte}); save it as UTF-8"]
