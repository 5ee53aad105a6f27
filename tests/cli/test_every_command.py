"""Every command of the parser under adverse conditions: one line of error and an exit code.

The command lines are generated: a value for each positional argument, by its metavar.  A new command is covered as soon
as the parser has it; one with a metavar that has no value here fails the test."""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# Before any test: `_as_found` would have each import the packages of others anew, which know each other's classes.
import daemons.clients.web.cache
import daemons.clients.web.pages
import daemons.clients.web.robots  # noqa: F401
from daemons.cli.command import main
from daemons.cli.parser import parser
from daemons.clients.tools import CommandParser
from tests.operating.folder import GOOD, Folder
from tests.operating.live import BIN, end_all, environment, is_waiting, open_files, until
from tests.operating.live import daemons as daemons_command

#: Exit codes that the help names, and those of `daemons call` (docs/rpc.md).
DOCUMENTED = {0, 1, 2, 3, 4, 100, 111}


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (each for each in parser()._actions if isinstance(each, argparse._SubParsersAction))
    for command in found.choices.values():
        if isinstance(command, CommandParser):
            command.complete()
    return dict(found.choices)


COMMANDS = commands()

#: Those that look for the ini files, in the folder of the project or where DAEMONS_CONF says.
OF_A_PROJECT = [
    name for name, each in COMMANDS.items() if any("--conf" in action.option_strings for action in each._actions)
]


class Silent(NamedTuple):
    """A peer that never says anything, and a project."""

    port: int
    folder: Folder

    def words(self, command: str, timeout: str = "0.3") -> list[str]:
        """Return a command line of `command` with all its positional arguments, at this peer."""
        words = [command]
        if command == "ask":
            return ["ask", "launcelot", "127.0.0.1", "-p", str(self.port), "-t", timeout, "word"]
        for action in COMMANDS[command]._actions:
            if "--server" in action.option_strings:
                words += ["--server", f"127.0.0.1:{self.port}"]
            elif "-t" in action.option_strings:
                words += ["-t", timeout]
            elif "--requests" in action.option_strings:
                words += ["--requests", "3"]
            elif "--out" in action.option_strings:
                words += ["--force", "--out", str(self.folder.path / "made")]
            elif not action.option_strings:
                words.append(self.value(str(action.metavar)))
        return words

    def value(self, metavar: str) -> str:
        url = f"http://127.0.0.1:{self.port}/"
        file = self.folder.path / "file"
        file.write_text("a line\n")
        return {
            "ACTION": "set",
            "BASE": url,
            "DOMAIN": "example.com",
            "FILE": str(file),
            "HOST": "127.0.0.1",
            "HOST[:PORT]": f"127.0.0.1:{self.port}",
            "KEY": "key",
            "METHOD VALUES": "method",
            "NAME": "launcelot",
            "NAME|URL": url,
            "PORT": str(self.port),
            "SERVICE": str(self.port),
            "URL": url,
            "VALUE": "value",
            "WORDS": "word",
        }[metavar]


@pytest.fixture
def silent(folder: Folder) -> Iterator[Silent]:
    folder.write("launcelot", GOOD.replace("1060", "0"))
    while True:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            datagrams.bind(("127.0.0.1", port))
            break
        except OSError as error:  # another process has this port over UDP
            listener.close()
            datagrams.close()
            if error.errno != errno.EADDRINUSE:
                raise
    with closing(listener), closing(datagrams):
        yield Silent(port, folder)
    end_all(folder.path)


def ended(silent: Silent, command: str, *, shell: str = 'exec daemons "$@"', **options: Any) -> tuple[int, str]:
    """Run a command in a shell until it ends; return its exit code and standard error.  A daemon is stopped once it
    serves."""
    words = silent.words(command)
    if command == "run":
        words += ["--set", "limits.drain_timeout=1ms"]
    with subprocess.Popen(
        ["bash", "-c", shell, "-", *words],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdout=options.pop("stdout", subprocess.DEVNULL),
        cwd=options.pop("cwd", silent.folder.path),
        env={**environment(), **options.pop("env", {})},
        **options,
    ) as process:
        try:
            if command == "run":
                until(lambda: process.poll() is not None or serves(process.pid), "a daemon that serves")
                process.terminate()
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, err.decode("utf-8", "backslashreplace")


def serves(pid: int) -> bool:
    """Return whether a process listens, and has nothing else to do."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return is_waiting(pid) and any(file.startswith("socket:") for file in open_files(pid))
    return False


def assert_in_order(code: int, err: str) -> None:
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert "a bug" not in err
    assert code in DOCUMENTED, err


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_is_130_and_prints_nothing(command: str, silent: Silent) -> None:
    # Standard input says nothing, and standard output is a pipe that is full: a command that does not wait for the
    # network or for input waits there.
    hear, full = os.pipe()
    read, write = os.pipe()
    fcntl.fcntl(full, fcntl.F_SETPIPE_SZ, 4096)
    os.write(full, b"x" * fcntl.fcntl(full, fcntl.F_GETPIPE_SZ))
    words = silent.words(command, timeout="60")
    process = subprocess.Popen(
        [str(BIN / "daemons"), *words],
        cwd=silent.folder.path,
        env=environment(),
        stdin=read,
        stdout=full,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: process.poll() is not None or is_waiting(process.pid), "the command waits")
        waited = process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
        for descriptor in (hear, full, read, write):
            os.close(descriptor)
    if command == "run":  # there it is a signal to stop
        assert process.returncode == 0
    elif waited:
        assert (process.returncode, err) == (130, "")
    else:
        assert_in_order(process.returncode, err)


def test_ctrl_c_while_a_daemon_is_being_detached_is_130(silent: Silent) -> None:
    silent.folder.module("slow", "import time\ntime.sleep(60)")
    silent.folder.write("slow", "[daemon]\nservice = slow:Slow\nport = 0\n")
    with subprocess.Popen(
        [str(BIN / "daemons"), "run", "slow", "--detach"],
        cwd=silent.folder.path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            until(lambda: is_waiting(process.pid), "the command waits")
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            assert process.communicate(timeout=20)[1] == ""
            assert process.returncode == 130
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_line(command: str, silent: Silent) -> None:
    with open("/dev/full", "wb") as full:
        code, err = ended(silent, command, stdout=full)
    assert_in_order(code, err)
    assert "no space left on device" in err or not says_something(silent, command)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_standard_output_is_one_line(command: str, silent: Silent) -> None:
    code, err = ended(silent, command, shell='exec daemons "$@" >&-')
    assert_in_order(code, err)
    if command not in ("run", "stop") and says_something(silent, command):
        assert code == 1
        assert err.endswith("standard output: bad file descriptor\n")


#: How each command ended that was run in good circumstances.
UNDISTURBED: dict[str, subprocess.CompletedProcess[str]] = {}


def undisturbed(silent: Silent, command: str) -> subprocess.CompletedProcess[str]:
    """Return how a command other than `run` ends in good circumstances; it is run once."""
    if command not in UNDISTURBED:
        UNDISTURBED[command] = daemons_command(silent.folder.path, *silent.words(command))
    return UNDISTURBED[command]


def says_something(silent: Silent, command: str) -> bool:
    """Return whether a command prints to standard output, apart from the log of `run`."""
    return command != "run" and bool(undisturbed(silent, command).stdout)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>/dev/full"])
def test_a_closed_standard_error_leaves_the_exit_code(command: str, closed: str, silent: Silent) -> None:
    code, err = ended(silent, command, shell=f'exec daemons "$@" {closed}')
    assert err == ""
    assert_in_order(code, err)
    if closed == "2>&-":
        assert code == (0 if command == "run" else undisturbed(silent, command).returncode)


@pytest.mark.parametrize("command", COMMANDS)
def test_closed_pipe_is_no_error(command: str, silent: Silent) -> None:
    hear, tell = os.pipe()
    os.close(hear)
    try:
        code, err = ended(silent, command, stdout=tell)
    finally:
        os.close(tell)
    assert_in_order(code, err)
    assert "roken pipe" not in err
    assert "BrokenPipe" not in err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_locale_without_letters_is_no_traceback(command: str, silent: Silent) -> None:
    silent.folder.write("launcelot", GOOD.replace("1060", "0") + "# Künstler\n")
    assert_in_order(*ended(silent, command, env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}))


@pytest.mark.parametrize(
    ("command", "absolute"), [*((each, False) for each in COMMANDS), *((each, True) for each in OF_A_PROJECT)]
)
def test_a_deleted_working_directory_is_one_line(command: str, absolute: bool, silent: Silent, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    shell = f'cd {gone} && rmdir {gone} && exec daemons "$@"'
    conf = {"DAEMONS_CONF": str(silent.folder.conf)} if absolute else {}
    code, err = ended(silent, command, shell=shell, env=conf)
    assert_in_order(code, err)
    assert len(err.splitlines()) <= 4


@pytest.mark.parametrize("command", OF_A_PROJECT)
def test_a_folder_whose_name_is_not_utf8_is_no_traceback(command: str, silent: Silent, tmp_path: Path) -> None:
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    shutil.copytree(silent.folder.conf, strange / "conf")
    assert_in_order(*ended(silent, command, cwd=strange))
    end_all(strange)


#: Options that start something which does not end by itself.
ENDLESS = {"--inetd", "--detach", "--stdin"}


@pytest.mark.parametrize("command", [each for each in COMMANDS if each not in ("run", "cgi")])
@pytest.mark.parametrize(
    "value", ["\udcff\udcfe", "ä\u202e😀", "\x1b[31m", "x" * 5000, ""], ids=lambda value: ascii(value[:9])
)
def test_any_value_of_any_argument_is_no_traceback(
    command: str, value: str, silent: Silent, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, where an exception that gets through fails the test."""
    monkeypatch.chdir(silent.folder.path)
    monkeypatch.setenv("DAEMONS_CONF", str(silent.folder.conf))
    monkeypatch.setattr("getpass.getpass", lambda *_: "")
    lines = []
    for action in COMMANDS[command]._actions:
        words = silent.words(command, timeout="0.05")
        if action.option_strings and action.nargs != 0 and not ENDLESS & set(action.option_strings):
            lines.append([*words, action.option_strings[0], value])
        elif not action.option_strings:
            given = silent.value(str(action.metavar))
            lines.append([value if word == given else word for word in words])
    for line in lines:
        try:
            code: Any = main(line)
        except SystemExit as ending:
            code = ending.code
        assert_in_order(code, capsys.readouterr().err)
