"""The settings of a daemon, each declared once, and what they come to."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemons.operating.drop import Drop
from daemons.operating.logging.request_log import FORMS
from daemons.serving.engines import ENGINES
from daemons.serving.guards.access import Access
from daemons.serving.guards.limits import Limits
from daemons.serving.listening.address import Address, parse_addresses
from daemons.settings.values import (
    COUNT,
    DURATION,
    OCTAL,
    PORT,
    SIZE,
    TEXT,
    YES_NO,
    FieldType,
    choice,
    optional,
    setting,
)

_LISTEN: FieldType[tuple[Address, ...]] = FieldType(
    parse_addresses, lambda addresses: " ".join(map(str, addresses)), "addresses, separated by blanks"
)
_PORT: FieldType[int | None] = FieldType(PORT.parse, lambda port: "" if port is None else str(port), PORT.form)


@dataclass(frozen=True)
class DaemonSettings:
    """The section [daemon]: what it says, where it listens, and who serves."""

    service: str = setting(TEXT, "", "what the daemon says: NAME is the Service in daemons.NAME; or module:Class")
    handler: str = setting(TEXT, "", "instead of a service, module:Class of any socketserver.BaseRequestHandler")
    wsgi: str = setting(TEXT, "", "instead of a service, module:NAME of any WSGI application")
    rpc: str = setting(
        TEXT, "", "instead of a service, a module whose __all__ is published; or module:NAME of an object in one"
    )
    jsonrpc: str = setting(TEXT, "", "as rpc, over JSON-RPC 2.0")
    description: str = setting(
        TEXT, "", "what it is, in one line, for `daemons list`; otherwise the first line of the module's docstring"
    )
    host: str = setting(TEXT, "127.0.0.1", "the address or name to listen at; 0.0.0.0 or :: for all of one kind")
    port: int | None = setting(_PORT, None, "the port to listen on, or its name in /etc/services")
    listen: tuple[Address, ...] = setting(
        _LISTEN,
        (),
        "instead of host and port: tcp://127.0.0.1:1060, tcp://[::1]:1060, unix:run/name.sock; or what others "
        "have bound: fd://0, systemd: or systemd:NAME",
    )
    public: bool = setting(YES_NO, False, "whether it may listen where other machines can reach it")
    engine: str = setting(choice(*ENGINES), "threads", "who runs a conversation, and when")
    processes: int | None = setting(optional("auto", COUNT), 1, "how many processes serve; auto: one for each core")
    threads: int = setting(COUNT, 16, "threads of engine = pool")
    socket_mode: int = setting(
        OCTAL, 0o660, "the mode of a Unix socket's file: who can write to it may connect; [drop] says whose it is"
    )
    idle_exit: float | None = setting(
        optional("off", DURATION),
        None,
        "leave after this time without a conversation, where inetd or systemd starts the daemon for the next one; "
        "8s with --inetd wait, unless it is set",
    )
    backlog: int = setting(COUNT, 1024, "connections that the kernel holds while the daemon is busy, listen(2)")


def _plain_addresses(text: str) -> tuple[Address, ...]:
    addresses = parse_addresses(text)
    for address in addresses:
        if address.scheme not in ("tcp", "unix"):
            raise ValueError(f"{address} is not for metrics; write tcp://127.0.0.1:9101 or unix:run/name.metrics.sock")
    return addresses


@dataclass(frozen=True)
class MetricsSettings:
    """The section [metrics]: the endpoint for Prometheus.  `daemons stats NAME` needs none of it."""

    listen: tuple[Address, ...] = setting(
        FieldType(_plain_addresses, _LISTEN.show, _LISTEN.form),
        (),
        "where Prometheus finds /metrics, over HTTP: tcp://127.0.0.1:9101 or unix:run/name.metrics.sock; by default "
        "nowhere",
    )


@dataclass(frozen=True)
class LogSettings:
    """The section [log]: what is written, and the file of a detached daemon.  Under supervisord, see supervisord.conf
    for that."""

    requests: str = setting(choice(*FORMS), "combined", "how a daemon that speaks HTTP writes a line for each request")
    size: int = setting(SIZE, 10 * 1024**2, "at this size the log file is rotated: NAME.detached.log.1 is the newest")
    backups: int = setting(COUNT, 5, "how many rotated files are kept")


@dataclass(frozen=True)
class TLSSettings:
    """The section [tls]: what tls:// listeners prove who they are with.  Paths start from the project's folder."""

    certificate: str = setting(TEXT, "", "the file of the certificate, with those that lead to its CA; PEM")
    key: str = setting(TEXT, "", "the file of its private key, PEM; by default the certificate's file")
    client_ca: str = setting(TEXT, "", "if set, clients must show a certificate signed by one in this file")
    minimum: str = setting(choice("1.2", "1.3"), "1.2", "the oldest TLS version that is spoken")


#: Sections with keys of the user's own, for the services that declare them with `values.table`.  They are named here
#: so that any other section is a mistake before the service is known.
TABLES = ("redirects", "protected", "documents", "proxy")

#: The sections that every daemon has.  One more is named after its service.
SECTIONS: dict[str, type[Any]] = {
    "daemon": DaemonSettings,
    "limits": Limits,
    "access": Access,
    "tls": TLSSettings,
    "metrics": MetricsSettings,
    "drop": Drop,
    "log": LogSettings,
}


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
    access: Access
    tls: TLSSettings
    metrics: MetricsSettings
    drop: Drop
    log: LogSettings
    #: Where it listens; paths of Unix sockets are absolute.
    addresses: tuple[Address, ...]
    #: The key of [daemon] that names what is served, one of `daemons.operating.loading.targets.TARGETS`.
    target: str
    #: The service's own section: its name, and its keys as they were written.
    own_section: str
    own: Mapping[str, str]
    #: Its tables: from section and key to the text.
    tables: Mapping[str, Mapping[str, str]]
    #: From (section, key) to the file or option that set it; a key not in here has its built-in value.
    origins: Mapping[tuple[str, str], str]
    #: Reads the same files and the same command line again; raises `ConfigurationError`.
    again: Callable[[], Settings]

    @property
    def over_tls(self) -> bool:
        """Whether one of its listeners speaks TLS."""
        return any(address.scheme == "tls" for address in self.addresses)

    def resolve_path(self, path: str) -> Path:
        """Return a path of the ini, made absolute from the project's folder; ``run/…`` is in the run folder."""
        parts = Path(path).parts
        return self.run.joinpath(*parts[1:]) if parts[:1] == ("run",) else self.base / path

    @property
    def processes(self) -> int:
        """How many processes serve."""
        return self.daemon.processes or len(os.sched_getaffinity(0))
