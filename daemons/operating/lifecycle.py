"""From settings to a served port, and to an exit code."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import camelot_start
from daemons.operating import init
from daemons.operating.bound import Bound
from daemons.operating.config.sections import Settings
from daemons.operating.diagnostics import say
from daemons.operating.fd_limit import affordable
from daemons.operating.loading.targets import RequestHandlers, target_of
from daemons.operating.logging import logs
from daemons.operating.logging.access_log import AccessLog
from daemons.operating.metrics.run import Metrics
from daemons.operating.metrics.scoreboard import has_orphans
from daemons.operating.metrics.stats import path_of
from daemons.operating.preflight import ChildError, try_in_child
from daemons.operating.reload import InPlace, Renewal, handle_signal
from daemons.serving import malloc, signals
from daemons.serving.daemon import Daemon
from daemons.serving.engines import adopt, stall_probes
from daemons.serving.engines.pool import ByThreads
from daemons.serving.engines.prefork import Prefork
from daemons.serving.listening.address import Address
from daemons.serving.listening.listen import ListenError, clients_too, listen, name_of
from daemons.serving.server import Server
from daemons.serving.stream import StreamServer
from daemons.settings.complaints import ConfigurationError

if TYPE_CHECKING:
    from daemons.serving.conversation.tls import TLS

log = logging.getLogger(__name__)

#: Exit codes; 100 and 111 as in daemontools and s6: "you asked wrongly", "the system refused".
ENDED, BUG, USAGE, WRONG_CONFIGURATION, SYSTEM_REFUSED = 0, 1, 2, 100, 111


def run(settings: Settings) -> int:
    """Serve in the foreground until told to stop.  Returns the exit code; what went wrong is on standard error."""

    def serve_in_foreground() -> int:
        before = threading.enumerate()
        code = reported(settings.name, lambda: serve(prepare(settings), announce))
        _end_in_time(before, settings.limits.drain_timeout, code)
        return code

    if os.getpid() != init.PID:
        return serve_in_foreground()
    return init.run_under_init(serve_in_foreground)


def _end_in_time(before: list[threading.Thread], drain_timeout: float, code: int) -> None:
    """Python waits at its end for threads of the service that are no daemon threads, for ever.  End the process
    without those that have not ended at `drain_timeout`, or half a second from now where that has passed."""
    left = [thread for thread in threading.enumerate() if not thread.daemon and thread not in before]
    if not left:
        return
    now = time.monotonic()
    deadline = max(min(signals.stop_received, now) + drain_timeout, now + 0.5)

    def insist() -> None:
        time.sleep(deadline - now)
        names = ", ".join(thread.name for thread in left if thread.is_alive())
        log.error("ending without threads of the service that did not end: %s", names)
        os._exit(code)

    threading.Thread(target=insist, daemon=True).start()


def announce(line: str) -> None:
    """Write the ready line to standard error."""
    say(line, logging.INFO)


def reported(name: str, action: Callable[[], int]) -> int:
    """Return the exit code of `action`; an exception of it is reported on standard error, and becomes one too."""
    try:
        return action()
    except ConfigurationError as error:
        for complaint in error.complaints:
            say(f"{name}: {complaint}")
        return WRONG_CONFIGURATION
    except ListenError as error:
        say(f"{name}: {error}")
        return SYSTEM_REFUSED
    except BrokenPipeError:  # nobody reads what we print any more
        raise
    except ChildError as error:  # it has printed the traceback
        say(f"{name}: a bug: {error}")
        return BUG
    except Exception as error:
        say(f"{name}: a bug: {type(error).__name__}: {error}", failure=error)
        return BUG


def prepare(settings: Settings) -> Bound:
    """All that can fail before the daemon detaches or forks: logging, the service, the ports."""
    # Whoever started us may ignore it, which outlives exec(2): then the kernel would bury our children.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(settings.base)
    logs.configure(settings.logging_ini)
    if complaints := settings.drop.complaints(f"conf/{settings.name}.ini"):
        raise ConfigurationError(complaints)
    if settings.processes == 1:
        target_of(settings).request_handlers()
    else:
        # The parent of several workers never imports a service: so they can be replaced by newer ones.
        try_in_child(target_of(settings).request_handlers)
    signals.keep()  # from the bind on, peers may be waiting
    beside_orphans = has_orphans(path_of(settings))
    limits = dataclasses.replace(settings.limits, max_connections=affordable(settings))
    bound = Bound(settings, limits, Metrics(settings), [], _tls(settings))
    try:
        bound.files.update(bound.metrics.bind())
        for address in settings.addresses:
            for listener in listen(
                address, settings.daemon.backlog, settings.daemon.socket_mode, beside=beside_orphans
            ):
                bound.listeners.append((name_of(listener, address.scheme), listener))
            if address.scheme == "unix":
                bound.files[address.path] = os.stat(address.path).st_ino
                settings.drop.hand_over(address.path)
            elif note := clients_too(address):
                log.warning("%s", note)
    except BaseException:
        bound.close()
        raise
    return bound


def serve(bound: Bound, announce: Callable[[str], None]) -> int:
    """Serve, in as many processes as the settings say, until told to stop; returns the exit code."""
    settings = bound.settings
    try:
        # supervisord sets this for what it starts: then leave with it, when it is killed, or was meanwhile.
        parent = camelot_start.PARENT if "SUPERVISOR_ENABLED" in os.environ else None
        bound.metrics.begin()
        settings.drop.become()
        if settings.processes == 1:
            code = _work(bound, lambda: announce(bound.ready_line), parent)
            bound.metrics.end()
            return code
        ready_line = bound.ready_line
        renewal = Renewal(bound)
        prefork = Prefork(
            lambda ready, master: reported(
                settings.name, lambda: _work(renewal.bound, ready, master, prefork.lifeline)
            ),
            settings.processes,
            bound.limits.drain_timeout,
            parent,
        )
        renewal.join(prefork)
        # Otherwise the kernel would go on to queue connections that nobody accepts.
        prefork.on_stop.append(bound.stop_listening)
        prefork.on_signal = handle_signal
        bound.metrics.supervise(prefork, [listener for _, listener in bound.listeners])
        try:
            code = prefork.run(lambda: announce(ready_line))
        finally:
            renewal.end()
        bound.metrics.end()
        return code
    finally:
        bound.close()
        signals.end()


def _work(bound: Bound, ready: Callable[[], None], parent: int | None, lifeline: int | None = None) -> int:
    """One serving process, from the import of the service to the last reply.  It leaves with `parent`, of whose end it
    learns at once by `lifeline`, as in `Daemon.leave_with`."""
    settings = bound.settings
    handlers = target_of(settings).request_handlers()
    servers = [_server(bound, address, listener, handlers) for address, listener in bound.listeners]
    together = all(server.ends_in_one_thread for server in servers)
    access_log = AccessLog(settings.name, together=together, requests=settings.log.requests)
    for server in servers:
        server.log_to(access_log)
    daemon = Daemon(servers, parent=parent)
    daemon.on_signal = partial(handle_signal, access_log=access_log)
    if settings.processes == 1:
        daemon.idle_exit = settings.daemon.idle_exit
        daemon.on_signal = InPlace(bound, servers, access_log).hear
    bound.metrics.work(daemon, alone=settings.processes == 1)
    daemon.hear_signals()
    if lifeline is not None:
        daemon.leave_with(lifeline)
        # Ctrl-C and Ctrl-\ go to the parent and to its workers; the parent passes on what they mean, once.
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
    stall_probes.watch(daemon)
    malloc.give_back()
    ready()
    daemon.serve_forever()
    bound.metrics.leave()
    return ENDED


def _server(bound: Bound, address: Address, listener: socket.socket, handlers: RequestHandlers) -> Server:
    handler = handlers.datagram if listener.type == socket.SOCK_DGRAM else handlers.stream
    server = adopt(bound.settings.daemon.engine, listener, handler, handlers.server_class)
    server.apply(bound.limits)
    server.access = bound.settings.access
    if address.scheme == "tls":
        assert isinstance(server, StreamServer)
        server.tls = bound.tls
    if isinstance(server, ByThreads):
        server.threads = bound.settings.daemon.threads
    return server


def _tls(settings: Settings) -> TLS | None:
    """Before privileges are dropped: the key may be readable for root alone."""
    if not settings.over_tls:
        return None
    from daemons.operating import certificates  # ssl is dear, and most do without it

    return certificates.holder(settings)
