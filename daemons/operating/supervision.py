"""What is wrong with supervisord.conf, beyond what supervisord itself would say."""

from __future__ import annotations

import configparser
import io
import re
from pathlib import Path

from supervisor.options import ServerOptions

from daemons.operating.settings import Settings
from daemons.operating.values import hint

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


def complaints(path: Path, names: list[str], daemons: list[Settings]) -> list[str]:
    """What is wrong with the file at `path`, given the daemons that have an ini, and their settings."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=True)
    try:
        parser.read_string(path.read_text("utf-8"), path.name)
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        return [f"{path.name}: {' '.join(str(error).split())}"]
    found = [complaint for section in parser.sections() for complaint in _unknown_keys(path, parser, section)]
    options = ServerOptions()
    # Its own attributes, set when its module was imported: redirecting sys.stderr would not reach them.
    options.stdout = options.stderr = said = io.StringIO()
    try:
        options.realize(["-c", str(path)])
    except SystemExit:
        reason = re.sub(r"^Error: ", "", said.getvalue().strip().partition("\n")[0])
        return [*found, f"{path.name}: {reason}"]
    limits = {settings.name: settings.limits for settings in daemons}
    for group in options.process_group_configs:
        for program in group.process_configs:
            match = re.search(r"\bdaemons[\"']? run[\"']? ([\w-]+)", program.command)
            if match is None:
                continue
            where = f"{path.name} [program:{program.name}]"
            name = match[1]
            if name not in names:
                found.append(f"{where} command: there is no conf/{name}.ini{hint(name, names)}")
            elif name in limits and program.stopwaitsecs <= limits[name].drain_timeout:
                found.append(
                    f"{where} stopwaitsecs = {program.stopwaitsecs}: must be more than the daemon's drain_timeout, "
                    f"{limits[name].drain_timeout:g} s, or supervisord kills it while it drains"
                )
            if "--detach" in program.command:
                found.append(f"{where} command: a program under supervisord must not detach; take --detach away")
    return found


def _unknown_keys(path: Path, parser: configparser.RawConfigParser, section: str) -> list[str]:
    if not section.startswith("program:"):
        return []
    return [
        f"{path.name} [{section}] {key}: no such setting{hint(key, PROGRAM_KEYS)}"
        for key in parser[section]
        if key not in PROGRAM_KEYS
    ]
