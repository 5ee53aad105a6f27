"""``engine = forks``: a process for each conversation, as `socketserver.ForkingMixIn` has it."""

from __future__ import annotations

import math
import os
import signal
import socketserver
import threading
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

from daemons.serving import signals
from daemons.serving.connection import Connection
from daemons.serving.daemon import PARTING, Daemon
from daemons.serving.journal import Journal

if TYPE_CHECKING:
    from daemons.serving.server import Server as _Server
else:
    _Server = object

log = Journal(__name__)

#: Where the children look for a slot to count in; the one before is their parent's, if that has no siblings.
FIRST_SLOT = 2


class Forks(socketserver.ForkingMixIn, _Server):
    """Nothing is shared, all cores are used, and a crash takes one visitor with it.

    What is mended of the stock mixin: it reaps with ``waitpid(-1)``, which steals the children of
    everybody else in the process, and blocks the accept loop in it once there are `max_children`.  Here
    each child holds the write end of a pipe for as long as it lives; when the loop reads the end of
    file, it reaps that child, by its own pid, and nothing ever waits.
    """

    #: A process costs about a millisecond to fork and some megabytes while it lives.
    capacity = 200
    #: The daemon bounds the children by not accepting; this must not bound them a second time.
    max_children = 2**31
    block_on_close = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: The connection that each child serves, by the child's pid.
        self.children: dict[int, Connection] = {}
        #: The smallest number that none of its siblings had when it began, by the child's pid.
        self._places: dict[int, int] = {}
        self._place = 0
        #: The read end of each child's pipe, by the child's pid.
        self._pipes: dict[int, int] = {}
        self._tether = -1
        self._cut_since = math.inf
        super().__init__(*args, **kwargs)

    @property
    def active(self) -> int:
        return len(self.connections) + len(self.children)

    def process_request(self, request: Any, client_address: Any) -> None:
        connection = self.connections[request]
        alive, self._tether = os.pipe()
        try:
            self._alive = alive
            known = set(self.children)
            taken = set(self._places.values())
            self._place = next(place for place in count() if place not in taken)
            with signals.held_back():
                super().process_request(request, client_address)
        except BaseException:
            os.close(alive)
            raise
        finally:
            os.close(self._tether)
        # Only the parent comes here; the stock mixin ends the child with os._exit.
        (pid,) = (self.active_children or set()) - known
        self.children[pid] = connection
        self._places[pid] = self._place
        if self.metrics is not None:
            self.metrics.hand()
        # close_request has counted the peer out of this process, but its child is still here.
        if connection.counted:
            self._tally.enter(connection.host)
        self._pipes[pid] = alive
        if self.daemon is not None:
            self.daemon.watch(alive, lambda: self._reap(pid))

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve the conversation.  Only the child comes here: it has the daemon's memory, but must not
        touch its selector, its waker or its listeners, which are the parent's too."""
        os.close(self._alive)
        if self.daemon is not None:
            self.daemon.abandon()
        self.stop_listening()
        self.children.clear()
        self.active_children = None
        # As in every engine that blocks, a thread serves and the main thread keeps watch.
        watch = Daemon([self], parent=os.getppid())
        watch.hear_signals()
        # Ctrl-C goes to the parent and to us; the parent passes on what it means, once.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.metrics is not None:
            child = self.metrics.scoreboard.claim("child", FIRST_SLOT + self._place)
            child.take()
            child.attach(watch)
        serving = threading.Thread(target=self._serve, args=(request, client_address), name="conversation", daemon=True)
        serving.start()
        watch.see_out()
        if self.metrics is not None:
            # The access line, the last of all, may be one that nobody took.
            self.metrics.beat(time.monotonic())

    def _serve(self, request: Any, client_address: Any) -> None:
        try:
            super().finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)

    def collect_children(self, *, blocking: bool = False) -> None:
        """Nothing to do: each child is reaped when its pipe closes."""

    #: Nothing to do, so that the loop need not wake up for it.
    service_actions = socketserver.BaseServer.service_actions

    def drain(self) -> None:
        super().drain()
        self._signal_children(signal.SIGTERM)

    def cut(self) -> None:
        """To a child that drains, a second SIGTERM: it cuts its conversation, writes the access line, and
        ends.  One that does not, and is still here when this is called again after a while, is killed."""
        super().cut()
        now = time.monotonic()
        self._cut_since = min(self._cut_since, now)
        told = self.draining and now - self._cut_since < PARTING / 2
        self._signal_children(signal.SIGTERM if told else signal.SIGKILL)

    def _signal_children(self, number: signal.Signals) -> None:
        for pid in self.children:
            # It has not been reaped, so the pid is still its own.
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def server_close(self) -> None:
        """Close the listener; end the conversations still under way, and bury their children."""
        super().server_close()
        self._signal_children(signal.SIGKILL)
        for pid in list(self.children):
            self._bury(pid)

    def _reap(self, pid: int) -> None:
        assert self.daemon is not None
        self.daemon.forget(self._pipes[pid])
        peer = self.children[pid].peer
        if (killer := self._bury(pid)) is not None:
            log.error("%s: child %d died of signal %d", peer, pid, killer)

    def _bury(self, pid: int) -> int | None:
        """Let go of a child that has ended or is about to; returns the signal that it died of."""
        os.close(self._pipes.pop(pid))
        del self._places[pid]
        connection = self.children.pop(pid)
        if self.active_children is not None:
            self.active_children.discard(pid)
        try:
            _, status = os.waitpid(pid, 0)
        except ChildProcessError:
            # The process was started with SIGCHLD ignored: then the kernel buries the dead.
            status = 0
        self.leave(connection)
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
