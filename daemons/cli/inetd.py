"""``daemons run NAME --inetd wait`` or ``nowait``: run under inetd(8), systemd, socat or another super-server.

    zen stream tcp wait    zen /srv/camelot/.venv/bin/daemons daemons run zen --conf /srv/camelot/conf --inetd wait
    zen stream tcp nowait  zen /srv/camelot/.venv/bin/daemons daemons run zen --conf /srv/camelot/conf --inetd nowait

With ``wait``, descriptor 0 is the listening socket: the daemon serves it until it has been idle for ``idle_exit``.
With ``nowait``, it is one connection: the daemon serves it and exits.

inetd also connects descriptors 1 and 2 to the socket, so that log lines would reach the peer.  They are redirected to
``logs/NAME.inetd.log`` first, which logrotate(8) can rotate with SIGUSR1.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import socket
import stat
import sys
from functools import partial
from pathlib import Path
from typing import Any

from daemons.operating import lifecycle
from daemons.operating.config import ini
from daemons.operating.config.ini import Override
from daemons.operating.config.sections import Settings
from daemons.operating.loading.targets import target_of
from daemons.operating.logging import logs
from daemons.operating.logging.access_log import AccessLog
from daemons.operating.logging.log_file import open_log
from daemons.operating.reload import handle_signal
from daemons.serving.daemon import Daemon
from daemons.serving.engines import Threads
from daemons.serving.listening.address import Address
from daemons.serving.listening.inherited import InheritanceError, listens, take_socket
from daemons.serving.listening.listen import ListenError
from daemons.serving.stream import StreamServer
from daemons.settings.complaints import ConfigurationError

#: Default of idle_exit in seconds with ``--inetd wait``.
IDLE_EXIT = 8.0


class _SingleConnection(Threads, StreamServer):
    """Server of one accepted connection, without a listener."""

    accepted: tuple[Any, Any]

    def get_request(self) -> tuple[Any, Any]:
        return self.accepted


def run(conf: Path, options: argparse.Namespace) -> int:
    """Serve the socket on descriptor 0; return the exit code."""
    _redirect_output(ini.absolute(conf).parent / "logs" / f"{options.name}.inetd.log")
    overrides = [*options.overrides]
    if options.inetd == "wait":
        overrides.append(Override("--inetd", "daemon", "listen", "fd://0"))

    def serve() -> int:
        settings = ini.read(conf, options.name, overrides, options.run)
        if options.inetd == "wait":
            return _serve_listener(settings)
        # The connection is not encrypted, so a service that requires TLS is refused.
        return _serve_connection(dataclasses.replace(settings, addresses=(Address("fd", path="0"),)))

    return lifecycle.exit_code_of(options.name, serve)


def _serve_listener(settings: Settings) -> int:
    if ("daemon", "idle_exit") not in settings.origins:
        settings = dataclasses.replace(settings, daemon=dataclasses.replace(settings.daemon, idle_exit=IDLE_EXIT))
    return lifecycle.run(settings)


def _serve_connection(settings: Settings) -> int:
    try:
        connection = take_socket(0)
    except InheritanceError as error:
        raise ListenError(str(error)) from error
    if listens(connection) or connection.type == socket.SOCK_DGRAM:
        kind = "a listening" if connection.type == socket.SOCK_STREAM else "a datagram"
        connection.close()
        raise ListenError(f"descriptor 0 is {kind} socket; use --inetd wait")
    # Reset options that inetd may have set.
    connection.setblocking(True)
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    os.chdir(settings.base)
    logs.configure(settings.logging_ini)
    if complaints := settings.drop.complaints(f"conf/{settings.name}.ini"):
        connection.close()
        raise ConfigurationError(complaints)
    settings.drop.become()
    handlers = target_of(settings).request_handlers()
    server_class: type[_SingleConnection] = type("_Server", (_SingleConnection, handlers.server_class), {})
    server = server_class(("", 0), handlers.stream, bind_and_activate=False)
    server.stop_listening()
    server.apply(settings.limits)
    server.access = settings.access
    access_log = AccessLog(settings.name, requests=settings.log.requests)
    server.log_to(access_log)
    try:
        server.accepted = connection, connection.getpeername()
    except OSError:
        connection.close()
        return lifecycle.ENDED  # the peer has disconnected already
    daemon = Daemon([server])
    daemon.on_signal = partial(handle_signal, access_log=access_log)
    daemon.install_handlers()
    server.accept()
    daemon.drain()
    return lifecycle.ENDED


def _redirect_output(path: Path) -> None:
    """Redirect descriptors 1 and 2 to the file at `path` if they are the same socket as descriptor 0."""
    connection = os.fstat(0)
    if not stat.S_ISSOCK(connection.st_mode):
        return
    descriptors = [
        stream.fileno() for stream in (sys.__stdout__, sys.__stderr__) if stream and _same(stream.fileno(), connection)
    ]
    if not descriptors:
        return

    def redirect() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open_log(path)
        for descriptor in descriptors:
            os.dup2(file, descriptor)
        os.close(file)

    try:
        redirect()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)  # log lines must not reach the peer
        for descriptor in descriptors:
            os.dup2(null, descriptor)
        os.close(null)
    logs.on_reopen.append(redirect)


def _same(descriptor: int, other: os.stat_result) -> bool:
    found = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (other.st_dev, other.st_ino)
