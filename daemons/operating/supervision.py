"""What is wrong with supervisord.conf, beyond what supervisord itself would say."""

from __future__ import annotations

import argparse
import configparser
import io
import math
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

from supervisor.options import ProcessConfig, ServerOptions

from daemons.operating.settings import Settings
from daemons.operating.values import DURATION, hint

#: The keys of [program:x], as of supervisor 4.3; supervisord ignores any other without a word.
PROGRAM_KEYS = frozenset(
    (
        *("autorestart", "autostart", "command", "directory", "environment", "exitcodes", "killasgroup", "numprocs"),
        *("numprocs_start", "priority", "process_name", "redirect_stderr", "serverurl", "startretries", "startsecs"),
        *("stderr_capture_maxbytes", "stderr_events_enabled", "stderr_logfile", "stderr_logfile_backups"),
        *("stderr_logfile_maxbytes", "stderr_syslog", "stdout_capture_maxbytes", "stdout_events_enabled"),
        *("stdout_logfile", "stdout_logfile_backups", "stdout_logfile_maxbytes", "stdout_syslog", "stopasgroup"),
        *("stopsignal", "stopwaitsecs", "umask", "user"),
    )
)


#: What an option of the command line in [program:x] sets: the drain_timeout that counts.
_DRAIN = ("limits", "drain_timeout")

#: Seconds beyond drain_timeout within which a daemon ends, however busy it is: `prefork.GRACE`, and some of its own.
GRACE = 2


class _BrokenError(Exception):
    """supervisord could not read the file."""


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
    """What is wrong with the file at `path`, given the daemons that have an ini, and their settings."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=True)
    try:
        parser.read_string(path.read_text("utf-8"), path.name)
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        return [f"{path.name}: {' '.join(str(error).split())}"]
    found = [complaint for section in parser.sections() for complaint in _unknown_keys(path, parser, section)]
    try:
        programs = _programs(path)
    except _BrokenError as error:
        return [*found, f"{path.name}: {error}"]
    by_name = {settings.name: settings for settings in daemons}
    for program in programs:
        reasons = _complaints_of(program, path.parent, names, by_name.get(program.name))
        found += [f"{program.where} {reason}" for reason in reasons]
    return found


def notes(path: Path, names: list[str]) -> list[str]:
    """Which daemons no program runs: systemd or inetd may."""
    try:
        run = {program.name for program in _programs(path)}
    except _BrokenError:
        return []
    return [f"conf/{name}.ini: no [program:x] of {path.name} runs it" for name in names if name not in run]


def _complaints_of(program: _Program, base: Path, names: list[str], settings: Settings | None) -> Iterator[str]:
    if program.complaint:
        yield f"command: {program.complaint}"
        return
    if reason := _missing(program.config.command):
        yield f"command: {reason}"
    options = program.options
    if options is not None and options.conf is not None and (base / options.conf).resolve() != base / "conf":
        return  # its ini is in another folder
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


def _programs(path: Path) -> list[_Program]:
    """The programs that run daemons, as supervisord itself understands them.  Raises `_BrokenError`."""
    options = ServerOptions()
    # Its own attributes, set when its module was imported: redirecting sys.stderr would not reach them.
    options.stdout = options.stderr = said = io.StringIO()
    try:
        options.realize(["-c", str(path)])
    except SystemExit:
        raise _BrokenError(re.sub(r"^Error: ", "", said.getvalue().strip().partition("\n")[0])) from None
    found = [
        _understood(f"{path.name} [program:{config.name}]", config)
        for group in options.process_group_configs
        for config in group.process_configs
    ]
    return [program for program in found if program is not None]


def _understood(where: str, config: ProcessConfig) -> _Program | None:
    try:
        first, *words = shlex.split(config.command)
    except ValueError as error:
        return _Program(where, config, complaint=str(error)) if "daemons" in config.command else None
    if os.path.basename(first) == "daemons":
        from daemons.operating import command  # which has imported us

        said = io.StringIO()
        try:
            with redirect_stderr(said), redirect_stdout(said):
                options = command.parser().parse_args(words)
        except SystemExit:
            reason = said.getvalue().strip().rpartition("error: ")[2].partition("\n")[0]
            return _Program(where, config, complaint=f"`daemons run NAME` is expected; {reason}")
        if options.command != "run":
            return _Program(where, config, complaint=f"`daemons run NAME` is expected, not {options.command}")
        return _Program(where, config, options.name, options)
    # A shell, or whatever else, that starts it.
    match = re.search(r"\bdaemons[\"']? run[\"']? (\w[\w-]*)", config.command)
    return _Program(where, config, match[1]) if match else None


def _unknown_keys(path: Path, parser: configparser.RawConfigParser, section: str) -> list[str]:
    if not section.startswith("program:"):
        return []
    return [
        f"{path.name} [{section}] {key}: no such setting{hint(key, PROGRAM_KEYS)}"
        for key in parser[section]
        if key not in PROGRAM_KEYS
    ]
