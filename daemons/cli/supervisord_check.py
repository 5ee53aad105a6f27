"""What is wrong with supervisord.conf, beyond what supervisord itself would say."""

from __future__ import annotations

import argparse
import io
import math
import os
import re
import shlex
import signal
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

from supervisor.options import ProcessConfig, ServerOptions

from daemons.cli import supervisord_files
from daemons.cli.parser import parser
from daemons.cli.supervisord_files import BrokenError
from daemons.operating.config.ini import placed
from daemons.operating.config.sections import Settings
from daemons.serving import signals
from daemons.serving.listening.address import UNIX_PATH_LIMIT
from daemons.settings.values import DURATION, hint

#: supervisord binds the name with a dot and its pid behind it, of up to seven digits, proc(5); sockaddr_un has room
#: for 107 bytes, unix(7).
SOCKET_LIMIT = UNIX_PATH_LIMIT - len(".4194304")

#: What an option of the command line in [program:x] sets: the drain_timeout that counts.
_DRAIN = ("limits", "drain_timeout")

#: Sections of programs.
_PROGRAM = re.compile(r"(?:fcgi-)?program:|eventlistener:")

#: Seconds beyond drain_timeout within which a daemon ends, however busy it is: `prefork.GRACE`, and some of its own.
GRACE = 2


@dataclass(frozen=True)
class _Program:
    """A program that runs a daemon."""

    where: str
    config: ProcessConfig
    #: The daemon, or "" where the command does not say.
    name: str = ""
    #: Of a command that is `daemons` itself: the rest of its line, parsed.
    options: argparse.Namespace | None = None
    #: Why the command is none.
    complaint: str = ""


def complaints(path: Path, names: list[str], daemons: list[Settings]) -> list[str]:
    """Return the faults of the file at `path`, given the daemons that have an ini, and their settings."""
    if fatal := complaints_for_all(path):
        return fatal
    files = supervisord_files.read(path)
    places = {section: file.name for file in files for section in file.parser.sections()}
    found = supervisord_files.complaints(files)
    by_name = {settings.name: settings for settings in daemons}
    for program in _programs(path, places):
        reasons = _complaints_of(program, path.parent, names, by_name.get(program.name))
        found += [f"{program.where} {reason}" for reason in reasons]
    return found


def complaints_for_all(path: Path) -> list[str]:
    """Return the faults that keep supervisord itself from starting, and every daemon with it."""
    if "%" in str(path.parent):
        return [
            f"{path.name}: supervisord takes the % in {path.parent} for the beginning of a format; "
            "give the folder another name, or start the daemons without supervisord"
        ]
    if '"' in str(path.parent):
        return [
            f'{path.name}: the " in {path.parent} ends the quoted path of each command; '
            "give the folder another name, or start the daemons without supervisord"
        ]
    try:
        supervisord_files.read(path)
        options = _realized(path)
    except BrokenError as error:
        return [str(error)]
    return [
        f"{path.name} [unix_http_server] file: {config['file']} is longer than {SOCKET_LIMIT} bytes, which supervisord "
        "needs to bind it; move the project to a shorter path, or name a file in another folder"
        for config in options.server_configs
        if config["section"] == "unix_http_server" and len(os.fsencode(config["file"])) > SOCKET_LIMIT
    ]


def notes(path: Path, names: list[str]) -> list[str]:
    """Return which daemons no program runs: systemd or inetd may."""
    try:
        run = {program.name for program in _programs(path, {})}
    except BrokenError:
        return []
    return [f"conf/{name}.ini: no [program:x] of {path.name} runs it" for name in names if name not in run]


def _complaints_of(program: _Program, base: Path, names: list[str], settings: Settings | None) -> Iterator[str]:
    if program.complaint:
        yield f"command: {program.complaint}"
        return
    if reason := _missing(program.config.command):
        yield f"command: {reason}"
    directory = base / (program.config.directory or "")
    if not directory.is_dir():
        yield f"directory: there is no folder {directory}"
    if program.config.stopsignal not in (*signals.STOPPING, signals.CUT, signal.SIGKILL):
        word = signal.Signals(program.config.stopsignal).name.removeprefix("SIG")
        yield f"stopsignal = {word}: no daemon ends at this signal; write TERM"
    options = program.options
    if options is not None and (conf := placed(directory / _conf_of(program))) != base / "conf":
        # Its ini is in another folder.
        if directory.is_dir() and not (conf / f"{program.name}.ini").is_file():
            yield f"command: there is no {conf}/{program.name}.ini; the daemon starts in {directory}"
        return
    if program.name and program.name not in names:
        yield f"command: there is no conf/{program.name}.ini{hint(program.name, names)}"
    elif settings is not None:
        drain = _drain_timeout(settings, options)
        if (least := math.ceil(drain + GRACE)) > program.config.stopwaitsecs:
            yield (
                f"stopwaitsecs = {program.config.stopwaitsecs}: must be {least} or more: drain_timeout is {drain:g} s, "
                f"and to end who is left takes up to {GRACE} s; supervisord would kill the daemon meanwhile"
            )
    if "--detach" in program.config.command:
        yield "command: a program under supervisord must not detach; take --detach away"


def _conf_of(program: _Program) -> str:
    """Return the folder of the inis, from the folder in which the daemon starts."""
    conf = getattr(program.options, "conf", None) or (program.config.environment or {}).get("DAEMONS_CONF")
    return str(conf or "conf")


def _drain_timeout(settings: Settings, options: argparse.Namespace | None) -> float:
    drain = settings.limits.drain_timeout
    for each in options.overrides if options is not None else ():
        if (each.section, each.key) == _DRAIN:
            with suppress(ValueError):  # the daemon will say what is wrong with it
                drain = DURATION.parse(each.value)
    return drain


def _missing(command: str) -> str:
    """Why what the command names cannot be started.  A bare name is looked up in the PATH of supervisord, which may
    be another than ours."""
    program = shlex.split(command)[0]
    if not program.startswith("/") or os.access(program, os.X_OK):
        return ""
    if os.path.exists(program):
        return f"{program} is not executable"
    return f"there is no {program}" + ("; `make run` makes .venv" if "/.venv/" in program else "")


def _realized(path: Path) -> ServerOptions:
    """Return the file as supervisord itself understands it.  Raises `BrokenError`."""
    options = ServerOptions()
    # Its own attributes, set when its module was imported: redirecting sys.stderr would not reach them.
    options.stdout = options.stderr = said = io.StringIO()
    try:
        options.realize(["-c", str(path)])
    except SystemExit:
        reason = re.sub(r"^Error: ", "", said.getvalue().strip().partition("\n")[0])
        raise BrokenError(f"{path.name}: {reason}") from None
    return options


def _programs(path: Path, places: dict[str, str]) -> list[_Program]:
    """Return the programs that run daemons; `places` names the file of each section.  Raises `BrokenError`."""
    # An fcgi-program is a program too.
    sections = {section.partition(":")[2].strip(): section for section in places if _PROGRAM.match(section)}
    found: list[_Program | None] = []
    for group in _realized(path).process_group_configs:
        for config in group.process_configs:
            section = sections.get(config.name) or sections.get(group.name) or f"program:{config.name}"
            found.append(_understood(f"{places.get(section, path.name)} [{section}]", config))
    return [program for program in found if program is not None]


def _understood(where: str, config: ProcessConfig) -> _Program | None:
    try:
        parts = shlex.split(config.command)
    except ValueError as error:
        return _Program(where, config, complaint=str(error)) if "daemons" in config.command else None
    if not parts or not parts[0]:
        return _Program(where, config, complaint="empty; write `daemons run NAME`")
    first, *words = parts
    if os.path.basename(first) == "daemons":
        said = io.StringIO()
        try:
            with redirect_stderr(said), redirect_stdout(said):
                options = parser().parse_args(words)
        except SystemExit:
            reason = said.getvalue().strip().rpartition("error: ")[2].partition("\n")[0]
            return _Program(where, config, complaint=f"`daemons run NAME` is expected; {reason}")
        if options.command != "run":
            return _Program(where, config, complaint=f"`daemons run NAME` is expected, not {options.command}")
        return _Program(where, config, options.name, options)
    # A shell, or whatever else, that starts it.
    match = re.search(r"\bdaemons[\"']? run[\"']? (\w[\w-]*)", config.command)
    return _Program(where, config, match[1]) if match else None
