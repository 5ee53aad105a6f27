"""``daemons check``, ``daemons list`` and ``daemons show``: inspect the settings without serving."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from daemons.cli import supervisord_check
from daemons.operating import fd_limit, lifecycle
from daemons.operating.config import ini, tables
from daemons.operating.config.sections import SECTIONS, Settings
from daemons.operating.loading.targets import target_of
from daemons.operating.logging import logs
from daemons.operating.metrics import prometheus
from daemons.printable import escape
from daemons.serving.engines import stream_server
from daemons.serving.listening.listen import ephemeral_port_warning
from daemons.settings.complaints import ConfigurationError
from daemons.settings.values import SIZE, kind_of

#: Maximum width of an aligned column of `daemons list`, enough for tcp://255.255.255.255:65535.
WIDE = 40


def check(conf: Path, run: Path | None = None, only: Sequence[str] = ()) -> int:
    """Check every ini, conflicts between daemons, and supervisord.conf; or only the inis of the daemons in `only`.

    Print OK or all complaints, and notes about unusual settings, which may be intended; return the exit code."""
    names = list(only) or ini.names(conf)
    shown, conf, run = (
        conf,
        ini.absolute(conf),
        run and run.absolute(),
    )  # an imported module may change the working folder
    complaints: list[str] = []
    notes: list[str] = []
    if not names:
        complaints.append(f"{shown}: no daemon's ini is in this folder; name another with --conf DIR")
    daemons: list[Settings] = []
    for name in names:
        try:
            settings = ini.read(conf, name, run=run)
            daemons.append(settings)
            complaints += _complaints_of_service(settings)
            complaints += prometheus.complaints(settings)
            where = f"conf/{settings.name}.ini"
            complaints += (impossible := settings.drop.contradictions(where))
            # Only notes, since root may start the daemon.
            notes += (reason for reason in settings.drop.complaints(where) if reason not in impossible)
            complaints += _complaints_of_certificates(settings)
        except ConfigurationError as error:
            complaints += error.complaints
    complaints += _complaints_of_logging(daemons)
    complaints += _collisions(daemons)
    supervised = ini.absolute(conf).parent / "supervisord.conf"
    supervised_too = supervised.is_file() and not only
    if supervised_too:
        complaints += supervisord_check.complaints(supervised, names, daemons)
        notes += supervisord_check.notes(supervised, names)
    for complaint in dict.fromkeys(complaints):
        print(escape(complaint), file=sys.stderr)
    for settings in daemons:
        notes += (
            f"conf/{settings.name}.ini [daemon] {note}"
            for note in map(ephemeral_port_warning, settings.addresses)
            if note
        )
    if reduced := fd_limit.note(daemons):
        notes.append(reduced)
    for note in notes:
        print(escape(f"note: {note}"), file=sys.stderr)
    if complaints:
        return lifecycle.WRONG_CONFIGURATION
    print(escape(f"OK: {', '.join(names)}" + (f"; {supervised.name}" if supervised_too else "")))
    return lifecycle.ENDED


def check_shared(conf: Path) -> int:
    """Check the shared files for faults that prevent every daemon from starting.

    Print the complaints; return the exit code."""
    complaints: list[str] = []
    by_daemon: list[set[str]] = []
    daemons: list[Settings] = []
    for name in ini.names(conf):
        try:
            daemons.append(ini.read(conf, name))
            by_daemon.append(set())
        except ConfigurationError as error:
            own = f"{ini.absolute(conf).name}/{name}.ini"
            by_daemon.append({complaint for complaint in error.complaints if not complaint.startswith(own)})
    if by_daemon:
        complaints += sorted(set.intersection(*by_daemon))
    complaints += _complaints_of_logging(daemons)
    supervised = ini.absolute(conf).parent / "supervisord.conf"
    if supervised.is_file():
        complaints += supervisord_check.complaints_for_all(supervised)
    for complaint in complaints:
        print(escape(complaint), file=sys.stderr)
    return lifecycle.WRONG_CONFIGURATION if complaints else lifecycle.ENDED


def show_all(conf: Path) -> int:
    """Print one line for each daemon, and complaints about wrong inis; return the exit code."""
    rows: list[tuple[str, str, str, str]] = []
    wrong: list[str] = []
    shown, conf = conf, ini.absolute(conf)  # an imported module may change the working folder
    for name in ini.names(conf):
        try:
            settings = ini.read(conf, name)
            text = target_of(settings).describe()
        except ConfigurationError as error:
            wrong += error.complaints
            continue
        except (Exception, SystemExit) as error:
            wrong.append(escape(f"conf/{name}.ini: its module cannot be imported: {type(error).__name__}: {error}"))
            continue
        engine = settings.daemon.engine
        if settings.processes > 1:
            engine += f" x {settings.processes}"
        rows.append((name, _listens(settings), engine, text))
    # Longer cells, of daemons with several listeners, are not aligned.
    widths = [max((len(row[column]) for row in rows if len(row[column]) <= WIDE), default=0) for column in range(3)]
    # Lines are truncated on a terminal only.
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip()
        print(escape(line)[:columns])
    for complaint in wrong:
        print(escape(complaint), file=sys.stderr)
    if not rows and not wrong:
        print(f"{shown}: no daemon's ini is in this folder; name another with --conf DIR", file=sys.stderr)
    return lifecycle.WRONG_CONFIGURATION if wrong or not rows else lifecycle.ENDED


def show(settings: Settings) -> int:
    """Print every setting of one daemon with its value and its origin; return the exit code."""
    try:
        target = target_of(settings)
        sections: dict[str, Any] = {name: getattr(settings, name) for name in SECTIONS}
        if target.options is not None:
            sections[settings.own_section] = target.options
    except ConfigurationError as error:
        for complaint in error.complaints:
            print(escape(f"{settings.name}: {complaint}"), file=sys.stderr)
        return lifecycle.WRONG_CONFIGURATION
    automatic = _automatic(settings, target.served_class)
    print(escape(f"{settings.name}: {target.describe()}"), escape(f"listens at {_listens(settings)}"), sep="\n")
    for section, values in sections.items():
        print(f"\n[{section}]")
        for name, text, origin in _rows(settings, section, values):
            if text == "auto" and (value := automatic.get((section, name))):
                text = f"auto ({value})"
            print(escape(f"{name:<21} {text:<24} {origin}".rstrip()))
    for section, rows in tables.rows(settings, target.options):
        print(f"\n[{section}]")
        for name, text, origin in rows:
            print(escape(f"{name:<21} {text:<24} {origin}".rstrip()))
    return lifecycle.ENDED


def _rows(settings: Settings, section: str, values: Any) -> Iterable[tuple[str, str, str]]:
    for field in dataclasses.fields(values):
        if "key" in field.metadata:
            continue  # a section of its own
        value = getattr(values, field.name)
        origin = settings.origins.get((section, field.name), "built in")
        if origin == "built in" and value in ("", (), None) and kind_of(field).show(value) == "":
            continue  # default without a text
        yield field.name, kind_of(field).show(value), origin


def _automatic(settings: Settings, kind: Any) -> dict[tuple[str, str], str]:
    """Return the values of ``auto`` settings by (section, key), if they are known before the start."""
    connections = settings.limits.max_connections or stream_server(settings.daemon.engine).capacity
    share = -(-connections // settings.processes)
    found = {
        ("daemon", "processes"): str(settings.processes),
        ("limits", "max_connections"): str(connections),
        ("limits", "max_per_peer"): str(max(1, share // 2)),
    }
    body = getattr(getattr(kind, "framing", None), "body", None)
    if isinstance(body, int):
        found["limits", "body"] = SIZE.show(body)
    return found


def _listens(settings: Settings) -> str:
    """Return the listeners; paths of Unix sockets are relative to the project folder if possible."""
    return " ".join(str(address).replace(f"unix:{settings.base}/", "unix:") for address in settings.addresses)


def _complaints_of_service(settings: Settings) -> list[str]:
    try:
        target_of(settings).request_handlers()
    except ConfigurationError as error:
        return error.complaints
    except (Exception, SystemExit) as error:  # sys.exit(0) would pass for a correct ini
        where = f"conf/{settings.name}.ini [daemon] {getattr(settings.daemon, settings.target)}"
        return [escape(f"{where}: cannot be imported: {type(error).__name__}: {error}")]
    return []


def _complaints_of_certificates(settings: Settings) -> list[str]:
    if not settings.over_tls:
        return []
    from daemons.operating import certificates  # importing ssl is slow, and most daemons do not need it

    try:
        certificates.context(settings)
    except ConfigurationError as error:
        return error.complaints
    return []


def _complaints_of_logging(daemons: list[Settings]) -> list[str]:
    if not daemons:
        return []
    try:
        logs.configure(daemons[0].logging_ini)
    except ConfigurationError as error:
        return error.complaints
    return []


def _collisions(daemons: list[Settings]) -> list[str]:
    """Return complaints about daemons with the same address."""
    return [
        f"conf/{other.name}.ini [{section}] {theirs}: conf/{one.name}.ini has {ours} already"
        for one, other in combinations(daemons, 2)
        for ours in (*one.addresses, *one.metrics.listen)
        for section, addresses in (("daemon", other.addresses), ("metrics", other.metrics.listen))
        for theirs in addresses
        if ours.conflicts_with(theirs)
    ]
