"""SIGHUP: read the settings again, and take up what has changed.

One process takes up in place what can be: limits, access rules, the access log and everything else of ``logging.ini``;
the rest is named in the log, to be had with a restart.  Several processes are replaced one by one
(`daemons.serving.engines.prefork`), and the new ones take up everything but where the daemon listens.
A configuration that is wrong changes nothing, and the log says what is wrong with it.
"""

from __future__ import annotations

import dataclasses
import logging

from daemons.operating.ini import ConfigurationError
from daemons.operating.settings import SECTIONS, Settings

log = logging.getLogger(__name__)

#: Sections that one process takes up in place.
IN_PLACE = ("limits", "access", "tls")

#: Keys of [daemon] that belong to the listeners and the parent process: new workers do not change them.
LASTING = ("host", "port", "listen", "public", "processes", "backlog", "socket_mode", "idle_exit")

#: Sections of which the same is true.
LASTING_SECTIONS = ("drop", "metrics", "log")


def reread(settings: Settings) -> Settings | None:
    """The settings as the files and the command line say now; None if they are wrong, which is logged."""
    try:
        return settings.again()
    except ConfigurationError as error:
        refuse(error)
        return None


def refuse(error: ConfigurationError) -> None:
    """Say in the log why the old settings stay."""
    for complaint in error.complaints:
        log.error("not reloaded: %s", complaint)


def changed(old: Settings, new: Settings) -> list[tuple[str, str]]:
    """The settings that differ, as (section, key)."""
    differing = [
        (section, field.name)
        for section, declaration in SECTIONS.items()
        for field in dataclasses.fields(declaration)
        if getattr(getattr(old, section), field.name) != getattr(getattr(new, section), field.name)
    ]
    return differing + [
        (new.own_section, key)
        for key in sorted({*old.own, *new.own})
        if old.own.get(key) != new.own.get(key) or old.own_section != new.own_section
    ]


def report(old: Settings, new: Settings, *, in_place: bool) -> None:
    """Say in the log what was taken up, and what was not."""
    taken: list[str] = []
    left: list[str] = []
    for section, key in changed(old, new):
        if in_place:
            here = section in IN_PLACE
        else:
            here = section not in LASTING_SECTIONS and not (section == "daemon" and key in LASTING)
        (taken if here else left).append(f"{section}.{key}")
    log.info("reloaded; changed: %s", ", ".join(taken) or "nothing")
    if left:
        log.warning("these need a restart: %s", ", ".join(left))
