"""Sections of a daemon's ini, each setting declared once, and the `Settings` read from them."""

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
    parse_addresses, lambda addresses: " ".join(map(str, addresses)), "addresses, separated by spaces"
)
_PORT: FieldType[int | None] = FieldType(PORT.parse, lambda port: "" if port is None else str(port), PORT.form)


@dataclass(frozen=True)
class DaemonSettings:
    """The section [daemon]: target, listeners and engine."""

    service: str = setting(TEXT, "", "the Service to run: NAME for the one in daemons.NAME, or module:Class")
    handler: str = setting(TEXT, "", "instead of a service, module:Class of any socketserver.BaseRequestHandler")
    wsgi: str = setting(TEXT, "", "instead of a service, module:NAME of any WSGI application")
    rpc: str = setting(
        TEXT, "", "instead of a service, a module whose __all__ is published; or module:NAME of an object in one"
    )
    jsonrpc: str = setting(TEXT, "", "as rpc, over JSON-RPC 2.0")
    description: str = setting(
        TEXT, "", "one line for `daemons list`; by default the first line of the module's docstring"
    )
    host: str = setting(
        TEXT, "127.0.0.1", "address or name to listen on; 0.0.0.0 for all IPv4 addresses, :: for all IPv6 addresses"
    )
    port: int | None = setting(_PORT, None, "port to listen on, or its name in /etc/services")
    listen: tuple[Address, ...] = setting(
        _LISTEN,
        (),
        "instead of host and port: tcp://127.0.0.1:1060, tcp://[::1]:1060, unix:run/name.sock; or sockets that are "
        "bound already: fd://0, systemd: or systemd:NAME",
    )
    public: bool = setting(YES_NO, False, "allow listeners that other machines can reach")
    engine: str = setting(choice(*ENGINES), "threads", "concurrency model of the conversations")
    processes: int | None = setting(optional("auto", COUNT), 1, "number of serving processes; auto: one for each core")
    threads: int = setting(COUNT, 16, "number of threads of engine = pool")
    socket_mode: int = setting(
        OCTAL,
        0o660,
        "mode of a Unix socket's file: users with write permission may connect; its owner is set by [drop]",
    )
    idle_exit: float | None = setting(
        optional("off", DURATION),
        None,
        "exit after this time without a connection, if inetd or systemd will start the daemon for the next connection; "
        "default with --inetd wait: 8s",
    )
    backlog: int = setting(COUNT, 1024, "maximum number of connections that the kernel queues for accept, listen(2)")


def _plain_addresses(text: str) -> tuple[Address, ...]:
    addresses = parse_addresses(text)
    for address in addresses:
        if address.scheme not in ("tcp", "unix"):
            raise ValueError(
                f"{address} cannot serve metrics; write tcp://127.0.0.1:9101 or unix:run/name.metrics.sock"
            )
    return addresses


@dataclass(frozen=True)
class MetricsSettings:
    """The section [metrics]: the endpoint for Prometheus.  `daemons stats NAME` works without it."""

    listen: tuple[Address, ...] = setting(
        FieldType(_plain_addresses, _LISTEN.show, _LISTEN.form),
        (),
        "address of /metrics for Prometheus, over HTTP: tcp://127.0.0.1:9101 or unix:run/name.metrics.sock; by default "
        "there is no endpoint",
    )


@dataclass(frozen=True)
class LogSettings:
    """The section [log]: request lines, and the log file of a detached daemon.  Under supervisord, the file is set in
    supervisord.conf."""

    requests: str = setting(choice(*FORMS), "combined", "format of the line for each HTTP request")
    size: int = setting(
        SIZE, 10 * 1024**2, "rotate the log file at this size; NAME.detached.log.1 is the newest old file"
    )
    backups: int = setting(COUNT, 5, "number of rotated files to keep")


#: Complaint about [tls] in the ini of a daemon without TLS.
NO_LISTENER = "no listener uses it; write listen = tls://HOST:PORT"


@dataclass(frozen=True)
class TLSSettings:
    """The section [tls]: certificate and key of tls:// listeners, and of services that begin TLS on tcp:// listeners.
    Paths are relative to the project's folder."""

    certificate: str = setting(TEXT, "", "certificate file, with the intermediate certificates; PEM")
    key: str = setting(TEXT, "", "private key file, PEM; by default the certificate file")
    client_ca: str = setting(TEXT, "", "if set, clients must present a certificate signed by a CA in this file")
    minimum: str = setting(choice("1.2", "1.3"), "1.2", "minimum TLS version")


#: Sections with keys of the user's own, for services that declare them with `values.table`.  They are listed here, so
#: that an unknown section is reported before the service is imported.
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
    """The settings of one daemon, before its service is imported."""

    name: str
    #: The project folder, from which relative paths and imports are resolved: the parent of the conf folder.
    base: Path
    #: Holds pidfiles and Unix sockets.
    run: Path
    #: ``conf/logging.ini``; None if it does not exist.
    logging_ini: Path | None
    daemon: DaemonSettings
    limits: Limits
    access: Access
    tls: TLSSettings
    metrics: MetricsSettings
    drop: Drop
    log: LogSettings
    #: The listeners; paths of Unix sockets are absolute.
    addresses: tuple[Address, ...]
    #: The key of [daemon] that names the code to serve: a key of `daemons.operating.loading.targets.TARGETS`.
    target: str
    #: The service's own section: its name, and its keys with their text.
    own_section: str
    own: Mapping[str, str]
    #: The service's tables: section → key → text.
    tables: Mapping[str, Mapping[str, str]]
    #: (section, key) → the file or option that set it.  Other keys have their default.
    origins: Mapping[tuple[str, str], str]
    #: Read the same files and the same command line again; raises `ConfigurationError`.
    reread: Callable[[], Settings]

    @property
    def over_tls(self) -> bool:
        """Whether a listener has TLS, or the service may begin it."""
        return bool(self.may_start_tls and self.tls.certificate) or any(
            address.scheme == "tls" for address in self.addresses
        )

    @property
    def may_start_tls(self) -> str:
        """The origin of this daemon's own [tls], if its service may begin TLS on a tcp:// listener; else empty.

        In defaults.ini, [tls] is for the daemons with a tls:// listener."""
        if self.target != "service" or not any(address.may_be_tcp for address in self.addresses):
            return ""
        own = [
            origin
            for (section, _), origin in self.origins.items()
            if section == "tls" and not origin.endswith("defaults.ini")
        ]
        return own[-1] if own else ""

    def resolve_path(self, path: str) -> Path:
        """Return a path of the ini, made absolute from the project's folder; ``run/…`` is in the run folder."""
        parts = Path(path).parts
        return self.run.joinpath(*parts[1:]) if parts[:1] == ("run",) else self.base / path

    @property
    def processes(self) -> int:
        """Number of serving processes."""
        return self.daemon.processes or len(os.sched_getaffinity(0))
