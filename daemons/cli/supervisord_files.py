"""Files of supervisord: supervisord.conf, and the files that its [include] names."""

from __future__ import annotations

import codecs
import configparser
import glob
import os
from collections.abc import Iterator
from pathlib import Path

from daemons.operating.config.sources import decode, refuse_nul
from daemons.settings.complaints import ConfigurationError
from daemons.settings.regular_file import read_bytes
from daemons.settings.values import hint

_PROGRAM = frozenset(
    (
        *("autorestart", "autostart", "command", "directory", "environment", "exitcodes", "killasgroup", "numprocs"),
        *("numprocs_start", "priority", "process_name", "redirect_stderr", "serverurl", "startretries", "startsecs"),
        *("stderr_capture_maxbytes", "stderr_events_enabled", "stderr_logfile", "stderr_logfile_backups"),
        *("stderr_logfile_maxbytes", "stderr_syslog", "stdout_capture_maxbytes", "stdout_events_enabled"),
        *("stdout_logfile", "stdout_logfile_backups", "stdout_logfile_maxbytes", "stdout_syslog", "stopasgroup"),
        *("stopsignal", "stopwaitsecs", "umask", "user"),
    )
)

#: Section type → its keys in supervisor 4.3, which silently ignores unknown keys; None: any key.
KEYS: dict[str, frozenset[str] | None] = {
    "program": _PROGRAM,
    "fcgi-program": _PROGRAM | {"socket", "socket_backlog", "socket_mode", "socket_owner"},
    "eventlistener": _PROGRAM | {"buffer_size", "events", "result_handler"},
    "group": frozenset(("priority", "programs")),
    "include": frozenset(("files",)),
    "inet_http_server": frozenset(("password", "port", "username")),
    "unix_http_server": frozenset(("chmod", "chown", "file", "password", "username")),
    "supervisorctl": frozenset(("history_file", "password", "prompt", "serverurl", "username")),
    "supervisord": frozenset(
        (
            *("childlogdir", "directory", "environment", "identifier", "logfile", "logfile_backups"),
            *("logfile_maxbytes", "loglevel", "minfds", "minprocs", "nocleanup", "nodaemon", "pidfile", "silent"),
            *("strip_ansi", "umask", "user"),
        )
    ),
    "rpcinterface": None,
    "ctlplugin": None,
}

#: Section types followed by a colon and a name.
_NAMED = frozenset(("program", "fcgi-program", "eventlistener", "group", "rpcinterface", "ctlplugin"))


class BrokenError(Exception):
    """supervisord cannot read the file.  The text names the file and the reason."""


class File:
    """One file of supervisord.

    name
        The path, relative to the project folder.
    complaints
        Faults that do not prevent supervisord from starting: it skips the file, or uses the last of two values.
    """

    def __init__(self, path: Path, name: str, *, included: bool) -> None:
        """Raises `BrokenError`."""
        self.name = name
        self.complaints: list[str] = []
        self.parser = _parser(strict=False)
        try:
            data = read_bytes(path)
        except OSError as error:
            reason = f"{name}: {(error.strerror or str(error)).lower()}"
            if not included:
                raise BrokenError(reason) from None
            self.complaints.append(f"{reason}; supervisord skips it")
            return
        if data.startswith(codecs.BOM_UTF8):
            raise BrokenError(f"{name}: begins with a byte order mark, which supervisord cannot read; save it without")
        try:
            text = decode(data, name)
            self.parser.read_string(text, name)
        except (ConfigurationError, configparser.Error) as error:
            raise BrokenError(_one_line(name, error)) from None
        try:
            refuse_nul(text, name)
            _parser(strict=True).read_string(text, name)
        except (ConfigurationError, configparser.Error) as error:
            self.complaints.append(_one_line(name, error))


def read(path: Path) -> list[File]:
    """Return the file and the files that its [include] names.  Raises `BrokenError`."""
    main = File(path, path.name, included=False)
    patterns = main.parser.get("include", "files", fallback="").replace("%(here)s", str(path.parent)).split()
    # supervisord does not escape special characters of glob(7) in the path of the folder.
    if patterns and (folder := str(path.parent)) != glob.escape(folder):
        reason = f"[include] files: supervisord interprets {folder} as a pattern, and finds no files"
        raise BrokenError(f"{path.name} {reason}; give the folder a name without any of * ? [")
    included = [each for pattern in patterns for each in sorted(glob.glob(os.path.join(path.parent, pattern)))]
    return [main, *(File(Path(each), os.path.relpath(each, path.parent), included=True) for each in included)]


def complaints(files: list[File]) -> list[str]:
    """Return the faults that supervisord itself does not report: unknown sections and keys, and duplicate sections."""
    found = [complaint for file in files for complaint in file.complaints]
    found += [complaint for file in files for complaint in _unknown(file)]
    return [*found, *_duplicates(files)]


def _parser(*, strict: bool) -> configparser.RawConfigParser:
    return configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=strict)


def _one_line(name: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if text.startswith(name) else f"{name}: {text}"


def _unknown(file: File) -> Iterator[str]:
    for section in file.parser.sections():
        kind, colon, own = section.partition(":")
        if kind not in KEYS or bool(colon) != (kind in _NAMED):
            expected = [f"{each}:{own or 'NAME'}" if each in _NAMED else each for each in KEYS]
            yield f"{file.name} [{section}]: no such section{hint(section.lower(), expected)}"
        elif (known := KEYS[kind]) is not None:
            for key in file.parser[section]:
                if key not in known:
                    yield f"{file.name} [{section}] {key}: no such setting{hint(key, known)}"


def _duplicates(files: list[File]) -> Iterator[str]:
    """Yield complaints about sections in two files, which supervisord merges silently."""
    seen: dict[str, str] = {}
    for file in files:
        for section in file.parser.sections():
            if section in seen:
                yield f"{file.name} [{section}]: also in {seen[section]}"
            seen.setdefault(section, file.name)
