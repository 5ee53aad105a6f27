"""Check of supervisord.conf, beyond the checks of supervisord itself."""

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
from daemons.operating.config.ini import absolute
from daemons.operating.config.sections import Settings
from daemons.serving import signals
from daemons.serving.listening.address import UNIX_PATH_LIMIT
from daemons.settings.values import DURATION, hint

#: Maximum bytes of the path of supervisord's socket.  supervisord first binds the path with a dot and its pid appended,
#: of up to seven digits, proc(5); sockaddr_un has space for 107 bytes, unix(7).
SOCKET_LIMIT = UNIX_PATH_LIMIT - len(".4194304")

#: The setting that an option of the command line in [program:x] may override.
_DRAIN = ("limits", "drain_timeout")

#: Pattern of sections of programs.
_PROGRAM = re.compile(r"(?:fcgi-)?program:|eventlistener:")

#: Maximum seconds after drain_timeout until a busy daemon ends: `worker.KILL_DELAY`, and a margin.
END_DELAY = 2


@dataclass(frozen=True)
class _Program:
    """A program that runs a daemon."""

    where: str
    config: ProcessConfig
    #: The daemon; "" if unknown.
    name: str = ""
    #: The parsed command line, if the command is `daemons`.
    options: argparse.Namespace | None = None
    #: The complaint about an invalid command.
    complaint: str = ""


def complaints(path: Path, names: list[str], daemons: list[Settings]) -> list[str]:
    """Return the complaints about the file at `path`, given the daemons that have an ini, and their settings."""
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
    """Return the complaints that prevent supervisord, and so every daemon, from starting."""
    if "%" in str(path.parent):
        return [
            f"{path.name}: supervisord interprets the % in {path.parent} as the start of a format; "
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
    """Return notes about daemons without a program; systemd or inetd may run them."""
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
        number = program.config.stopsignal
        word = signal.Signals(number).name.removeprefix("SIG") if number in set(signal.Signals) else number
        yield f"stopsignal = {word}: no daemon ends at this signal; write TERM"
    options = program.options
    if options is not None and (conf := absolute(directory / _conf_of(program))) != base / "conf":
        # The ini is in another folder.
        if directory.is_dir() and not (conf / f"{program.name}.ini").is_file():
            yield f"command: there is no {conf}/{program.name}.ini; the daemon starts in {directory}"
        return
    if program.name and program.name not in names:
        yield f"command: there is no conf/{program.name}.ini{hint(program.name, names)}"
    elif settings is not None:
        drain = _drain_timeout(settings, options)
        if (least := math.ceil(drain + END_DELAY)) > program.config.stopwaitsecs:
            yield (
                f"stopwaitsecs = {program.config.stopwaitsecs}: must be {least} or more: drain_timeout is {drain:g} s, "
                f"and closing the remaining connections takes up to {END_DELAY} s; supervisord would kill the daemon "
                "first"
            )
    if "--detach" in program.config.command:
        yield "command: a program under supervisord must not detach; remove --detach"


def _conf_of(program: _Program) -> str:
    """Return the folder of the inis, relative to the folder in which the daemon starts."""
    conf = getattr(program.options, "conf", None) or (program.config.environment or {}).get("DAEMONS_CONF")
    return str(conf or "conf")


def _drain_timeout(settings: Settings, options: argparse.Namespace | None) -> float:
    drain = settings.limits.drain_timeout
    for each in options.overrides if options is not None else ():
        if (each.section, each.key) == _DRAIN:
            with suppress(ValueError):  # the daemon reports the wrong value
                drain = DURATION.parse(each.value)
    return drain


def _missing(command: str) -> str:
    """Return why the command cannot be started; "" if it can.

    A bare name is not checked: supervisord looks it up in its own PATH."""
    program = shlex.split(command)[0]
    if not program.startswith("/") or os.access(program, os.X_OK):
        return ""
    if os.path.exists(program):
        return f"{program} is not executable"
    return f"there is no {program}" + ("; `make run` makes .venv" if "/.venv/" in program else "")


def _realized(path: Path) -> ServerOptions:
    """Return the options that supervisord reads from the file.  Raises `BrokenError`."""
    options = ServerOptions()
    # supervisor sets these attributes when it is imported, so redirecting sys.stderr has no effect.
    options.stdout = options.stderr = output = io.StringIO()
    try:
        options.realize(["-c", str(path)])
    except SystemExit:
        reason = re.sub(r"^Error: ", "", output.getvalue().strip().partition("\n")[0])
        raise BrokenError(f"{path.name}: {reason}") from None
    return options


def _programs(path: Path, places: dict[str, str]) -> list[_Program]:
    """Return the programs that run daemons; `places` names the file of each section.  Raises `BrokenError`."""
    sections = {section.partition(":")[2].strip(): section for section in places if _PROGRAM.match(section)}
    found: list[_Program | None] = []
    for group in _realized(path).process_group_configs:
        for config in group.process_configs:
            section = sections.get(config.name) or sections.get(group.name) or f"program:{config.name}"
            found.append(_parse_program(f"{places.get(section, path.name)} [{section}]", config))
    return [program for program in found if program is not None]


def _parse_program(where: str, config: ProcessConfig) -> _Program | None:
    try:
        parts = shlex.split(config.command)
    except ValueError as error:
        return _Program(where, config, complaint=str(error)) if "daemons" in config.command else None
    if not parts or not parts[0]:
        return _Program(where, config, complaint="empty; write `daemons run NAME`")
    first, *words = parts
    if os.path.basename(first) == "daemons":
        output = io.StringIO()
        try:
            with redirect_stderr(output), redirect_stdout(output):
                options = parser().parse_args(words)
        except SystemExit:
            reason = output.getvalue().strip().rpartition("error: ")[2].partition("\n")[0]
            return _Program(where, config, complaint=f"`daemons run NAME` is expected; {reason}")
        if options.command != "run":
            return _Program(where, config, complaint=f"`daemons run NAME` is expected, not {options.command}")
        return _Program(where, config, options.name, options)
    # A shell or wrapper that runs `daemons run NAME`.
    match = re.search(r"\bdaemons[\"']? run[\"']? (\w[\w-]*)", config.command)
    return _Program(where, config, match[1]) if match else None
