"""Lifecycle of a daemon: prepare, bind, serve, and return an exit code."""

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
from daemons.operating.diagnostics import report
from daemons.operating.fd_limit import connection_limit
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
from daemons.serving.engines.pool import WorkerPool
from daemons.serving.engines.prefork import Prefork
from daemons.serving.listening.address import Address
from daemons.serving.listening.listen import ListenError, ephemeral_port_warning, listen, name_of
from daemons.serving.server import Server
from daemons.serving.start_tls import StartTLSServer
from daemons.serving.stream import StreamServer
from daemons.settings.complaints import ConfigurationError

if TYPE_CHECKING:
    from daemons.serving.conversation.tls import TLS

log = logging.getLogger(__name__)

#: Exit codes; 100 (permanent failure) and 111 (temporary failure) as in daemontools and s6.
ENDED, BUG, USAGE, WRONG_CONFIGURATION, SYSTEM_REFUSED = 0, 1, 2, 100, 111


def run(settings: Settings) -> int:
    """Serve in the foreground until a stop signal; return the exit code.  Errors are printed on standard error."""

    def serve_in_foreground() -> int:
        before = threading.enumerate()
        code = exit_code_of(settings.name, lambda: serve(prepare(settings), announce))
        _end_in_time(before, settings.limits.drain_timeout, code)
        return code

    if os.getpid() != init.PID:
        return serve_in_foreground()
    return init.run_under_init(serve_in_foreground)


def _end_in_time(before: list[threading.Thread], drain_timeout: float, code: int) -> None:
    """Exit at `drain_timeout` after the stop signal, but not within half a second, even if threads of the service run.

    At exit, Python would wait without a limit for threads that are not daemon threads."""
    left = [thread for thread in threading.enumerate() if not thread.daemon and thread not in before]
    if not left:
        return
    now = time.monotonic()
    deadline = max(min(signals.stop_received, now) + drain_timeout, now + 0.5)

    def exit_at_deadline() -> None:
        time.sleep(deadline - now)
        names = ", ".join(thread.name for thread in left if thread.is_alive())
        log.error("exiting; threads of the service still run: %s", names)
        os._exit(code)

    threading.Thread(target=exit_at_deadline, daemon=True).start()


def announce(line: str) -> None:
    """Write the ready line to standard error."""
    report(line, logging.INFO)


def exit_code_of(name: str, action: Callable[[], int]) -> int:
    """Return the exit code of `action`; an exception is reported on standard error and mapped to an exit code."""
    try:
        return action()
    except ConfigurationError as error:
        for complaint in error.complaints:
            report(f"{name}: {complaint}")
        return WRONG_CONFIGURATION
    except ListenError as error:
        report(f"{name}: {error}")
        return SYSTEM_REFUSED
    except BrokenPipeError:  # the reader of standard output has exited
        raise
    except ChildError as error:  # the child has printed the traceback
        report(f"{name}: a bug: {error}")
        return BUG
    except Exception as error:
        report(f"{name}: a bug: {type(error).__name__}: {error}", failure=error)
        return BUG


def prepare(settings: Settings) -> Bound:
    """Set up logging, load the target and bind the listeners: all steps that can fail before detach or fork."""
    # The parent process may ignore SIGCHLD, which exec(2) keeps: then the kernel would reap the children.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(settings.base)
    logs.configure(settings.logging_ini)
    if complaints := settings.drop.complaints(f"conf/{settings.name}.ini"):
        raise ConfigurationError(complaints)
    handlers: RequestHandlers | None = None
    if settings.processes == 1:
        handlers = target_of(settings).request_handlers()
        if settings.drop.pending:
            handlers = None  # built again under the new user id
    else:
        # The parent of several workers does not import the service, so that new workers can import a newer version.
        try_in_child(target_of(settings).request_handlers)
    signals.defer_stop()  # after the bind, peers may be waiting
    beside_orphans = has_orphans(path_of(settings))
    limits = dataclasses.replace(settings.limits, max_connections=connection_limit(settings))
    bound = Bound(settings, limits, Metrics(settings), [], _tls(settings), handlers=handlers)
    try:
        bound.files.update(bound.metrics.bind())
        for address in settings.addresses:
            for listener in listen(
                address, settings.daemon.backlog, settings.daemon.socket_mode, beside_orphans=beside_orphans
            ):
                bound.listeners.append((name_of(listener, address.scheme), listener))
            if address.scheme == "unix":
                bound.files[address.path] = os.stat(address.path).st_ino
                settings.drop.chown(address.path)
            elif note := ephemeral_port_warning(address):
                log.warning("%s", note)
    except BaseException:
        bound.close()
        raise
    return bound


def serve(bound: Bound, announce: Callable[[str], None]) -> int:
    """Serve in the configured number of processes until a stop signal; return the exit code."""
    settings = bound.settings
    try:
        # supervisord sets the variable.  Exit when supervisord dies, even if it has died already.
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
            lambda ready, master: exit_code_of(
                settings.name, lambda: _work(renewal.bound, ready, master, prefork.lifeline)
            ),
            settings.processes,
            bound.limits.drain_timeout,
            parent,
        )
        renewal.join(prefork)
        # Otherwise the kernel would queue connections that no process accepts.
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
        signals.ignore_signals()


def _work(bound: Bound, ready: Callable[[], None], parent: int | None, lifeline: int | None = None) -> int:
    """Run one serving process.  It exits when the process `parent` dies; with `lifeline`, a descriptor that reports the
    death, it exits at once (`Daemon.watch_lifeline`)."""
    settings = bound.settings
    handlers = bound.request_handlers()
    servers = [_server(bound, address, listener, handlers) for address, listener in bound.listeners]
    batched = all(server.ends_in_one_thread for server in servers)
    access_log = AccessLog(settings.name, together=batched, requests=settings.log.requests)
    for server in servers:
        server.log_to(access_log)
    daemon = Daemon(servers, parent=parent)
    daemon.on_signal = partial(handle_signal, access_log=access_log)
    if settings.processes == 1:
        daemon.idle_exit = settings.daemon.idle_exit
        daemon.on_signal = InPlace(bound, servers, access_log).handle_signal
    bound.metrics.work(daemon, alone=settings.processes == 1)
    daemon.install_handlers()
    if lifeline is not None:
        daemon.watch_lifeline(lifeline)
        # The terminal sends Ctrl-C and Ctrl-\ to every process; only the parent acts, and signals its workers.
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
    stall_probes.watch(daemon)
    malloc.configure()
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
    elif address.scheme == "tcp" and isinstance(server, StartTLSServer):
        server.start_tls = bound.tls
    if isinstance(server, WorkerPool):
        server.threads = bound.settings.daemon.threads
    return server


def _tls(settings: Settings) -> TLS | None:
    """Load the certificate, before privileges are dropped: the key may be readable only for root."""
    if not settings.over_tls:
        return None
    from daemons.operating import certificates  # importing ssl is slow, and most daemons do not need it

    return certificates.shared_tls(settings)
