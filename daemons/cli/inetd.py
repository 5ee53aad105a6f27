"""``daemons run NAME --inetd wait`` or ``nowait``: life under inetd(8), or whatever else starts a daemon for
its visitors, systemd and socat among them.

    zen stream tcp wait    zen /srv/camelot/.venv/bin/daemons daemons run zen --conf /srv/camelot/conf --inetd wait
    zen stream tcp nowait  zen /srv/camelot/.venv/bin/daemons daemons run zen --conf /srv/camelot/conf --inetd nowait

With ``wait``, descriptor 0 is the listening socket: the daemon serves as ever, until nobody has been there for
``idle_exit``.  With ``nowait`` it is one connection: the daemon serves that, and ends with it.

inetd makes 1 and 2 the same socket, where a word of the log would be a word to the visitor.  So before
anything is said they are turned into ``logs/NAME.inetd.log``; nobody rotates it but logrotate(8), which sends SIGUSR1.
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
from daemons.operating.reload import handle_signal
from daemons.serving.daemon import Daemon
from daemons.serving.engines import Threads
from daemons.serving.listening.address import Address
from daemons.serving.listening.inherited import InheritanceError, listens, take_socket
from daemons.serving.listening.listen import ListenError
from daemons.serving.stream import StreamServer

#: Seconds without a conversation, unless the ini says otherwise.
IDLE_EXIT = 8.0


class _ForOne(Threads, StreamServer):
    """Serves one connection, and has no listener."""

    guest: tuple[Any, Any]

    def get_request(self) -> tuple[Any, Any]:
        return self.guest


def run(conf: Path, options: argparse.Namespace) -> int:
    """Serve what is on descriptor 0; returns the exit code."""
    _spare_the_visitor(ini.placed(conf).parent / "logs" / f"{options.name}.inetd.log")
    overrides = [*options.overrides]
    if options.inetd == "wait":
        overrides.append(Override("--inetd", "daemon", "listen", "fd://0"))

    def serve() -> int:
        settings = ini.read(conf, options.name, overrides, options.run)
        if options.inetd == "wait":
            return _serve_listener(settings)
        # What is for TLS alone must not be said here, whatever the listeners of the ini would be.
        return _serve_connection(dataclasses.replace(settings, addresses=(Address("fd", path="0"),)))

    return lifecycle.reported(options.name, serve)


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
        raise ListenError(f"descriptor 0 is {kind} socket; it is served with --inetd wait")
    # The visitor's own, whatever inetd has set.
    connection.setblocking(True)
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    os.chdir(settings.base)
    logs.configure(settings.logging_ini)
    settings.drop.become()
    handlers = target_of(settings).request_handlers()
    server_class: type[_ForOne] = type("_Server", (_ForOne, handlers.server_class), {})
    server = server_class(("", 0), handlers.stream, bind_and_activate=False)
    server.stop_listening()
    server.apply(settings.limits)
    server.access = settings.access
    access_log = AccessLog(settings.name, requests=settings.log.requests)
    server.log_to(access_log)
    try:
        server.guest = connection, connection.getpeername()
    except OSError:
        connection.close()
        return lifecycle.ENDED  # gone before it began
    daemon = Daemon([server])
    daemon.on_signal = partial(handle_signal, access_log=access_log)
    daemon.hear_signals()
    server.accept()
    daemon.see_out()
    return lifecycle.ENDED


def _spare_the_visitor(path: Path) -> None:
    """Turn those of 1 and 2 that are the same socket as 0 into the file at `path`."""
    visited = os.fstat(0)
    if not stat.S_ISSOCK(visited.st_mode):
        return
    ours = [
        stream.fileno() for stream in (sys.__stdout__, sys.__stderr__) if stream and _same(stream.fileno(), visited)
    ]
    if not ours:
        return

    def redirect() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Of a FIFO without a reader, open(2) would wait for one; this is an error.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        file = os.open(path, flags, 0o644)
        for descriptor in ours:
            os.dup2(file, descriptor)
        os.close(file)

    try:
        redirect()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)  # silence is better than to say it to the peer
        for descriptor in ours:
            os.dup2(null, descriptor)
        os.close(null)
    logs.on_reopen.append(redirect)


def _same(descriptor: int, visited: os.stat_result) -> bool:
    found = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (visited.st_dev, visited.st_ino)
