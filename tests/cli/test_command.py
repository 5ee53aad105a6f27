"""The command line: folders, arguments, exit codes."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from daemons.cli.command import main
from daemons.cli.parser import parser
from tests.operating.folder import GOOD, Folder
from tests.operating.live import GRAIL, Live, children, daemons, environment, refused, talk, type_in, until

LAUNCELOT = GOOD.replace("1060", "0")


@pytest.fixture
def suite(folder: Folder) -> Folder:
    folder.write("launcelot", LAUNCELOT)
    return folder


# --- exit codes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_as_asked_is_0(suite: Folder, number: signal.Signals) -> None:
    with Live(suite.path, "launcelot") as daemon:
        assert talk(daemon.port) == GRAIL
        assert daemon.stop(number) == 0
        assert refused(daemon.port)


@pytest.mark.parametrize("engine", ["threads", "forks"])
def test_cut_at_the_drain_limit_is_0_too(suite: Folder, engine: str) -> None:
    options = ("--engine", engine, "--set", "limits.drain_timeout=300ms")
    with (
        Live(suite.path, "launcelot", *options) as daemon,
        socket.create_connection(("127.0.0.1", daemon.port)) as peer,
    ):
        peer.sendall(b"What is your name?What")
        assert peer.recv(100)
        assert daemon.stop() == 0
        assert " stopped messages=1 received=22 " in daemon.out


@pytest.mark.parametrize("processes", ["1", "2"])
def test_module_that_fails_is_100_and_one_line(suite: Folder, processes: str) -> None:
    suite.module("angry", "raise RuntimeError('on purpose')")
    suite.write("angry", "[daemon]\nservice = angry:Angry\nport = 0\n")
    ended = daemons(suite.path, "run", "angry", "--processes", processes)
    assert ended.returncode == 100
    assert ended.stderr == (
        "angry: conf/angry.ini [daemon] service = angry:Angry: angry.py line 1: RuntimeError: on purpose\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("dance",), "daemons: error: argument COMMAND: invalid choice: 'dance'"),
        (("run",), "daemons run: error: the following arguments are required: NAME"),
        (("run", "launcelot", "--prot", "1"), "daemons: error: unrecognized arguments: --prot 1"),
        (("run", "launcelot", "--port"), "daemons run: error: argument --port: expected one argument"),
        (
            ("run", "launcelot", "--set", "idle=1s"),
            "daemons run: error: --set idle=1s: not a setting; write SECTION.KEY",
        ),
        (("ask", "launcelot", "-t", "soon"), "daemons ask: error: argument -t: not a number of seconds above 0"),
        # Empty arguments come from unset shell variables.
        (("list", "--conf", ""), "daemons list: error: argument --conf: empty argument; expected a value"),
        (("stats", "--run", ""), "daemons stats: error: argument --run: empty argument; expected a value"),
        (("cert", "--out", ""), "daemons cert: error: argument --out: empty argument; expected a value"),
        (("call", "x", "--cafile", ""), "daemons call: error: argument --cafile: empty argument; expected a value"),
    ],
)
def test_a_wrong_command_line_is_2(suite: Folder, words: tuple[str, ...], said: str) -> None:
    ended = daemons(suite.path, *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.splitlines()[-1].startswith(said)
    assert ended.stderr.startswith("usage: daemons")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lancelot",), "lancelot: conf/lancelot.ini: no such file; did you mean launcelot?"),
        (
            ("launcelot", "--engine", "thread"),
            "launcelot: --engine [daemon] engine = thread: write one, threads, forks, pool or loop",
        ),
        (
            ("launcelot", "--host", "0.0.0.0"),
            "launcelot: --host [daemon] host: tcp://0.0.0.0:0 can be reached from other",
        ),
        (
            ("launcelot", "--set", "limits.idl_timeout=1s"),
            "launcelot: --set [limits] idl_timeout: no such setting; did you mean idle_timeout?",
        ),
        (
            ("launcelot", "--set", "daemon.service=no"),
            "launcelot: --set [daemon] service = no: there is no module daemons",
        ),
        (("launcelot", "--set", "launcelot.a=1"), "launcelot: --set [launcelot] a: Launcelot has no options"),
        (
            ("launcelot", "--processes", "2", "--set", "launcelot.a=1"),
            "launcelot: --set [launcelot] a: Launcelot has no",
        ),
    ],
)
def test_a_wrong_configuration_is_100_in_one_line(suite: Folder, words: tuple[str, ...], said: str) -> None:
    ended = daemons(suite.path, "run", *words)
    assert (ended.returncode, ended.stdout) == (100, "")
    assert ended.stderr.startswith(said)
    assert ended.stderr.count("\n") == 1


def test_a_wrong_logging_ini_is_100_too(suite: Folder) -> None:
    suite.write("logging", "[loggers]\n")
    ended = daemons(suite.path, "run", "launcelot")
    assert (ended.returncode, ended.stderr) == (100, "launcelot: conf/logging.ini: KeyError: 'formatters'\n")


def test_a_port_that_is_taken_is_111_in_one_line(suite: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = daemons(suite.path, "run", "launcelot", "--port", str(port))
    assert (ended.returncode, ended.stdout) == (111, "")
    assert ended.stderr == (
        f"launcelot: tcp://127.0.0.1:{port}: address already in use; `ss -ltnp sport = :{port}` shows the process\n"
    )


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (
            "tcp://192.0.2.1:0",
            "tcp://192.0.2.1:0: cannot assign requested address; no interface of this machine has it",
        ),
        ("tcp://no-such-host.invalid:0", "tcp://no-such-host.invalid:0: "),
        ("unix:conf/launcelot.ini", "a file that is not a socket is in the way"),
        ("unix:conf/launcelot.ini/x", "launcelot.ini is not a directory"),
    ],
)
def test_other_refusals_of_the_system_are_111(suite: Folder, where: str, said: str) -> None:
    ended = daemons(suite.path, "run", "launcelot", "--set", f"daemon.listen={where}", "--set", "daemon.public=yes")
    assert ended.returncode == 111
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may have every port")
def test_a_port_below_1024_needs_root(suite: Folder) -> None:
    ended = daemons(suite.path, "run", "launcelot", "--port", "13")
    if ended.returncode != 0:
        assert ended.returncode == 111
        assert "ports below 1024 need root or CAP_NET_BIND_SERVICE" in ended.stderr


# --- folders -----------------------------------------------------------------------------------------


def test_conf_beats_daemons_conf_beats_the_folder_conf(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        Folder(tmp_path / name).write(
            "x", f"[daemon]\nservice = zen\nport = 1\n[limits]\nidle_timeout = {ord(name)}s\n"
        )

    def seen(*words: str, **variables: str) -> str:
        ended = type_in(
            tmp_path / "c", sys.executable, "-m", "daemons", "show", "x", *words, env=environment(**variables)
        )
        return next(line.split()[1] for line in ended.stdout.splitlines() if line.startswith("idle_timeout"))

    b = str(tmp_path / "b" / "conf")
    assert seen("--conf", "../a/conf", DAEMONS_CONF=b) == "97s"
    assert seen(DAEMONS_CONF=b) == "98s"
    assert seen() == "99s"
    assert seen(DAEMONS_CONF="") == "99s"


def test_relative_paths_and_imports_start_beside_the_conf_folder(
    suite: Folder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    suite.module(
        "local",
        """
        import os
        import daemons

        class Where(daemons.Service):
            framing = daemons.Until(b"?", limit=64)

            def respond(self, message):
                return os.getcwd().encode()
        """,
    )
    suite.write("where", "[daemon]\nservice = local:Where\nlisten = unix:x.sock unix:run/y.sock tcp://127.0.0.1:0\n")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with Live(elsewhere, "where", "--conf", str(suite.conf)) as daemon:
        base = suite.path
        assert daemon.addresses[:2] == [f"unix:{base}/x.sock", f"unix:{base}/run/y.sock"]
        assert talk(f"{base}/x.sock") == talk(f"{base}/run/y.sock") == str(base).encode()
        assert list(elsewhere.iterdir()) == []
    assert not (suite.path / "x.sock").exists()
    assert not (suite.path / "run" / "y.sock").exists()


def test_python_m_daemons_is_the_same_command(suite: Folder) -> None:
    with Live(suite.path, "launcelot", command=(sys.executable, "-m", "daemons")) as daemon:
        assert talk(daemon.port) == GRAIL
        assert children(daemon.process.pid) == []


def test_without_defaults_and_logging_ini_all_is_built_in(suite: Folder) -> None:
    assert [path.name for path in suite.conf.iterdir()] == ["launcelot.ini"]
    with Live(suite.path, "launcelot") as daemon:
        assert talk(daemon.port) == GRAIL
        until(lambda: " done messages=1 received=19 sent=23 " in daemon.out, "the access line")
        assert " INFO daemons.launcelot.access[" in daemon.out


def test_there_are_never_more_connections_than_descriptors(suite: Folder) -> None:
    with Live(suite.path, "launcelot", command=("bash", "-c", 'ulimit -n 100; exec daemons "$@"', "-")) as daemon:
        assert "WARNING daemons.operating.fd_limit" in daemon.out
        assert "max_connections reduced to 50 from 1000: the limit of file descriptors is 100\n" in daemon.out
        assert talk(daemon.port) == GRAIL


def test_check_reports_how_many_connections_the_descriptors_allow(suite: Folder) -> None:
    command = ["bash", "-c", 'ulimit -n 64; exec daemons "$@"', "-", "check", "launcelot"]
    checked = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=suite.path, env=environment(), check=False
    )
    assert checked.stderr == (
        "note: the limit of 64 file descriptors (ulimit -n) leaves 32 connections for each process; "
        "max_connections is reduced to it for launcelot\n"
    )


# --- words -------------------------------------------------------------------------------------------


def test_the_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for word in ("run", "stop", "ask", "check", "list", "show"):
        assert f"\n    {word} " in text
    for code in (0, 1, 2, 100, 111):
        assert f" {code} " in text


def test_without_words_the_help_is_printed_and_the_exit_code_is_2(suite: Folder) -> None:
    ended = daemons(suite.path)
    assert (ended.returncode, ended.stderr) == (2, "")
    assert ended.stdout == daemons(suite.path, "--help").stdout


def test_version_names_the_suite_and_python(suite: Folder) -> None:
    ended = daemons(suite.path, "--version")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"daemons {version('camelot-daemons')}, Python {platform.python_version()}\n"


def test_options_keep_the_order_in_which_they_were_given() -> None:
    options = parser().parse_args(["run", "x", "--port", "1", "--set", "daemon.port=2", "--engine", "one"])
    assert [(each.origin, each.key, each.value) for each in options.overrides] == [
        ("--port", "port", "1"),
        ("--set", "port", "2"),
        ("--engine", "engine", "one"),
    ]
    assert parser().parse_args(["run", "x"]).overrides == []
