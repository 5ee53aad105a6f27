"""The settings of a daemon, each declared once, and what they come to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemons.operating.values import COUNT, PORT, SIZE, TEXT, YES_NO, Kind, or_word, setting, word
from daemons.serving.address import Address, parse_addresses
from daemons.serving.engines import ENGINES
from daemons.serving.guards.limits import Limits

_LISTEN: Kind[tuple[Address, ...]] = Kind(
    parse_addresses, lambda addresses: " ".join(map(str, addresses)), "addresses, separated by blanks"
)
_PORT: Kind[int | None] = Kind(PORT.parse, lambda port: "" if port is None else str(port), PORT.form)


@dataclass(frozen=True)
class DaemonSettings:
    """The section [daemon]: what it says, where it listens, and who serves."""

    service: str = setting(TEXT, "", "what the daemon says: NAME is the Service in daemons.NAME; or module:Class")
    handler: str = setting(TEXT, "", "instead of a service, module:Class of any socketserver.BaseRequestHandler")
    host: str = setting(TEXT, "127.0.0.1", "the address or name to listen at; 0.0.0.0 or :: for all of one kind")
    port: int | None = setting(_PORT, None, "the port to listen on, or its name in /etc/services")
    listen: tuple[Address, ...] = setting(
        _LISTEN, (), "instead of host and port: tcp://127.0.0.1:1060, tcp://[::1]:1060, unix:run/name.sock"
    )
    public: bool = setting(YES_NO, False, "whether it may listen where other machines can reach it")
    engine: str = setting(word(*ENGINES), "threads", "who runs a conversation, and when")
    processes: int | None = setting(or_word("auto", COUNT), 1, "how many processes serve; auto: one for each core")
    backlog: int = setting(COUNT, 1024, "connections that the kernel holds while the daemon is busy, listen(2)")


@dataclass(frozen=True)
class LogSettings:
    """The section [log]: the file of a detached daemon.  Under supervisord, see supervisord.conf instead."""

    size: int = setting(SIZE, 10 * 1024**2, "at this size the log file is rotated: NAME.detached.log.1 is the newest")
    backups: int = setting(COUNT, 5, "how many rotated files are kept")


#: The sections that every daemon has.  One more is named after its service.
SECTIONS: dict[str, type[Any]] = {"daemon": DaemonSettings, "limits": Limits, "log": LogSettings}


@dataclass(frozen=True)
class Settings:
    """All that is known of one daemon before its service is imported."""

    name: str
    #: The folder that relative paths and imports start from: the parent of the conf folder.
    base: Path
    #: Holds pidfiles and Unix sockets.
    run: Path
    #: ``conf/logging.ini``, where there is one.
    logging_ini: Path | None
    daemon: DaemonSettings
    limits: Limits
    log: LogSettings
    #: Where it listens; paths of Unix sockets are absolute.
    addresses: tuple[Address, ...]
    #: The service's own section: its name, and its keys as they were written.
    own_section: str
    own: Mapping[str, str]
    #: From (section, key) to the file or option that set it; a key not in here has its built-in value.
    origins: Mapping[tuple[str, str], str]

    @property
    def processes(self) -> int:
        """How many processes serve."""
        return self.daemon.processes or len(os.sched_getaffinity(0))
