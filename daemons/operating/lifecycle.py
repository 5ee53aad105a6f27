"""From settings to a served port, and to an exit code."""

from __future__ import annotations

import dataclasses
import logging
import os
import resource
import signal
import socket
import socketserver
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemons.operating import loading, logs, reload
from daemons.operating.access_log import AccessLog
from daemons.operating.ini import ConfigurationError
from daemons.operating.metrics import Metrics
from daemons.operating.settings import Settings
from daemons.serving.address import Address
from daemons.serving.daemon import Daemon
from daemons.serving.engines import Loop, Pool, server_class
from daemons.serving.engines.prefork import Prefork
from daemons.serving.guards.limits import Limits
from daemons.serving.listen import ListenError, clients_too, listen, name_of
from daemons.serving.server import StreamServer

if TYPE_CHECKING:
    from daemons.serving.tls import TLS

log = logging.getLogger(__name__)

#: Exit codes; 100 and 111 as in daemontools and s6: "you asked wrongly", "the system refused".
ENDED, BUG, USAGE, WRONG_CONFIGURATION, SYSTEM_REFUSED = 0, 1, 2, 100, 111

#: Descriptors kept back from connections: standard streams, listeners, selectors, wakers, a service's files.
RESERVED_DESCRIPTORS = 64


class ChildError(Exception):
    """What was tried in a child process has failed there, with a bug; the text is its name and reason."""


@dataclass(frozen=True)
class Bound:
    """A daemon that has its ports and is about to serve."""

    settings: Settings
    limits: Limits
    metrics: Metrics
    #: Where each listener came to be, port 0 resolved.
    listeners: list[tuple[Address, socket.socket]]
    #: What tls:// listeners share; None where there are none.
    tls: TLS | None = None
    #: The files of Unix sockets, with their inodes: by now the path may be somebody else's.
    files: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def ready_line(self) -> str:
        """``launcelot ready tcp://127.0.0.1:1060 engine=threads processes=1 pid=4242``"""
        addresses = " ".join(str(address) for address, _ in self.listeners)
        settings = self.settings
        return (
            f"{settings.name} ready {addresses} engine={settings.daemon.engine} "
            f"processes={settings.processes} pid={os.getpid()}"
        )

    @property
    def sockets(self) -> list[socket.socket]:
        """All that were bound."""
        return [*(listener for _, listener in self.listeners), *self.metrics.listeners]

    def close_listeners(self) -> None:
        """In a process that is not to serve."""
        for _, listener in self.listeners:
            listener.close()
        self.metrics.close_listeners()

    def close(self) -> None:
        """Close the listeners; remove the files of Unix sockets."""
        self.close_listeners()
        self.metrics.close()
        for path, inode in self.files.items():
            with suppress(OSError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)


def run(settings: Settings) -> int:
    """Serve in the foreground until told to stop.  Returns the exit code; what went wrong is on standard error."""
    return reported(settings.name, lambda: serve(prepare(settings), say))


def say(line: str) -> None:
    """One line on standard error, with its end in the same write(2): several processes speak at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def reported(name: str, action: Callable[[], int]) -> int:
    """The exit code of `action`; what it raises is told on standard error and becomes one too."""
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
        traceback.print_exc()
        say(f"{name}: a bug: {type(error).__name__}: {error}")
        return BUG


def prepare(settings: Settings) -> Bound:
    """All that can fail before the daemon detaches or forks: logging, the service, the ports."""
    # Whoever started us may ignore it, which outlives exec(2): then the kernel would bury our children.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(settings.base)
    configure_logging(settings)
    if complaints := settings.drop.complaints(f"conf/{settings.name}.ini"):
        raise ConfigurationError(complaints)
    if settings.processes == 1:
        loading.request_handler(settings)
    else:
        # The parent of several workers never imports a service: so they can be replaced by newer ones.
        try_in_child(lambda: loading.request_handler(settings))
    limits = dataclasses.replace(settings.limits, max_connections=_affordable(settings))
    bound = Bound(settings, limits, Metrics(settings), [], _tls(settings))
    try:
        bound.files.update(bound.metrics.bind())
        for address in settings.addresses:
            for listener in listen(address, settings.daemon.backlog, settings.daemon.socket_mode):
                bound.listeners.append((name_of(listener, address.scheme), listener))
            if address.scheme == "unix":
                bound.files[address.path] = os.stat(address.path).st_ino
                if not settings.drop.done:
                    os.chown(address.path, settings.drop.uid, settings.drop.gid)
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
        # supervisord sets this for what it starts: then leave with it, when it is killed.
        parent = os.getppid() if "SUPERVISOR_ENABLED" in os.environ else None
        bound.metrics.begin()
        settings.drop.become()
        if settings.processes == 1:
            code = _work(bound, lambda: announce(bound.ready_line), parent)
            bound.metrics.end()
            return code
        ready_line = bound.ready_line
        current = [bound]
        prefork = Prefork(
            lambda ready, master: reported(settings.name, lambda: _work(current[-1], ready, master)),
            settings.processes,
            bound.limits.drain_timeout,
            parent,
        )
        prefork.may_renew = lambda: _renew(current)
        bound.metrics.supervise(prefork)
        code = prefork.run(lambda: announce(ready_line))
        bound.metrics.end()
        return code
    finally:
        bound.close()


def configure_logging(settings: Settings) -> None:
    """Set up the shared logging; raises `ConfigurationError`."""
    try:
        logs.configure(settings.logging_ini)
    except Exception as error:  # fileConfig evaluates the file, so it can raise anything
        raise ConfigurationError([f"conf/logging.ini: {type(error).__name__}: {error}"]) from error


def try_in_child(action: Callable[[], object]) -> None:
    """Do `action` in a child process, for its errors alone; its complaints are raised here."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = BUG
        try:
            os.close(read)
            action()
            code = ENDED
        except ConfigurationError as error:
            os.write(write, str(error).encode())
            code = WRONG_CONFIGURATION
        except BaseException as error:
            traceback.print_exc()
            os.write(write, f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        text = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == WRONG_CONFIGURATION:
        raise ConfigurationError(text.splitlines())
    if code != ENDED:
        raise ChildError(text or f"the service could not be tried: exit code {code}")


def _work(bound: Bound, ready: Callable[[], None], parent: int | None) -> int:
    """One serving process, from the import of the service to the last reply."""
    settings = bound.settings
    handler = loading.request_handler(settings)
    # A raw handler ends its conversation in a thread of its own, so that no one thread could write them together.
    together = issubclass(server_class(settings.daemon.engine), Loop) and not settings.daemon.handler
    access_log = AccessLog(settings.name, together=together)
    servers = [_server(bound, address, listener, handler, access_log) for address, listener in bound.listeners]
    daemon = Daemon(servers, parent=parent)
    if settings.processes == 1:
        daemon.idle_exit = settings.daemon.idle_exit
        taken = [bound]
        daemon.on_signal = lambda number: _take_up(taken, servers, access_log)
    bound.metrics.work(daemon, alone=settings.processes == 1)
    daemon.hear_signals()
    if settings.processes > 1:
        # Ctrl-C goes to the parent and to us; the parent passes on what it means, once.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    ready()
    daemon.serve_forever()
    bound.metrics.leave()
    return ENDED


def _server(
    bound: Bound,
    address: Address,
    listener: socket.socket,
    handler: type[socketserver.BaseRequestHandler],
    access_log: AccessLog,
) -> StreamServer:
    server = server_class(bound.settings.daemon.engine).adopt(listener, handler)
    server.limits = bound.limits
    server.access = bound.settings.access
    if address.scheme == "tls":
        server.tls = bound.tls
    if isinstance(server, Pool):
        server.threads = bound.settings.daemon.threads
    server.access_log = access_log
    return server


def _tls(settings: Settings) -> TLS | None:
    """Before privileges are dropped: the key may be readable for root alone."""
    if not settings.over_tls:
        return None
    from daemons.operating import certificates  # ssl is dear, and most do without it

    return certificates.holder(settings)


def _take_up(taken: list[Bound], servers: list[StreamServer], access_log: AccessLog) -> None:
    """SIGHUP, with one process: take up in place what can be."""
    old = taken[-1].settings
    new = reload.reread(old)
    if new is None:
        return
    try:
        configure_logging(new)
    except ConfigurationError as error:
        reload.refuse(error)
        return
    access_log.configure()
    if not _fresh_certificates(taken[-1], new):
        return
    limits = dataclasses.replace(new.limits, max_connections=_affordable(new))
    for server in servers:
        server.limits = limits
        server.access = new.access
    reload.report(old, new, in_place=True)
    # What needs a restart is compared with what is in force, also the next time.
    in_force = dataclasses.replace(old, limits=new.limits, access=new.access, tls=new.tls)
    taken[-1] = dataclasses.replace(taken[-1], settings=in_force, limits=limits)


def _fresh_certificates(bound: Bound, new: Settings) -> bool:
    """Read the certificate again, even where its path is the same: the file may be new.  Returns whether
    that went well; otherwise the old one stays, and the log says why."""
    if bound.tls is None:
        return True
    from daemons.operating import certificates  # ssl is dear, and most do without it

    try:
        bound.tls.context = certificates.context(new)
    except ConfigurationError as error:
        reload.refuse(error)
        return False
    return True


def _renew(current: list[Bound]) -> bool:
    """SIGHUP, with several processes: whether the workers are to be replaced, by what `current` now holds."""
    old = current[-1].settings
    new = reload.reread(old)
    if new is None:
        return False
    # What the listeners and the parent are bound to stays as it is.
    lasting = {key: getattr(old.daemon, key) for key in reload.LASTING}
    in_force = dataclasses.replace(new, addresses=old.addresses, daemon=dataclasses.replace(new.daemon, **lasting))
    try:
        configure_logging(in_force)
        try_in_child(lambda: loading.request_handler(in_force))
        if not _fresh_certificates(current[-1], new):
            return False
    except ConfigurationError as error:
        reload.refuse(error)
        return False
    except ChildError as error:
        log.error("not reloaded: %s", error)
        return False
    reload.report(old, new, in_place=False)
    limits = dataclasses.replace(new.limits, max_connections=_affordable(in_force))
    current[-1] = dataclasses.replace(current[-1], settings=in_force, limits=limits)
    return True


def _affordable(settings: Settings) -> int:
    """max_connections of one process: its share, and no more than it has descriptors for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    most = settings.limits.max_connections or server_class(settings.daemon.engine).capacity
    share = -(-most // settings.processes)
    room = share if soft == resource.RLIM_INFINITY else soft - RESERVED_DESCRIPTORS
    if share > room:
        log.warning("max_connections = %d, not %d: the limit of descriptors is %d", max(1, room), share, soft)
    return max(1, min(share, room))
