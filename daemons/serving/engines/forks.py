"""``engine = forks``: a process for each conversation, as `socketserver.ForkingMixIn` has it."""

from __future__ import annotations

import _thread
import math
import os
import select
import signal
import socketserver
import time
from collections import deque
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from daemons.serving import budget, signals
from daemons.serving.connection import Connection
from daemons.serving.daemon import PARTING, TICK, Daemon
from daemons.serving.guards.limits import peer_network
from daemons.serving.journal import Journal

if TYPE_CHECKING:
    from daemons.serving.server import Server as _Server
else:
    _Server = object

log = Journal(__name__)

#: Where the children look for a slot to count in; the one before is their parent's, if that has no siblings.
FIRST_SLOT = 2


class Child:
    """What the parent knows of a child."""

    __slots__ = ("alive", "connection", "place")

    def __init__(self, connection: Connection, place: int, alive: int) -> None:
        #: The connection that it serves.
        self.connection = connection
        #: A small number that none of its siblings has.
        self.place = place
        #: The read end of a pipe, whose other end it holds for as long as it lives.
        self.alive = alive


class Forks(socketserver.ForkingMixIn, _Server):
    """Nothing is shared, all cores are used, and a crash takes one visitor with it.

    What is mended of the stock mixin: it reaps with ``waitpid(-1)``, which steals the children of
    everybody else in the process, and blocks the accept loop in it once there are `max_children`.  Here
    each child holds the write end of a pipe for as long as it lives; when the loop reads the end of
    file, it reaps that child, by its own pid, and nothing ever waits.

    What a child costs is mostly the pages that it writes, and Python writes to all that it looks at: so
    what a short conversation does without is not made for it.
    """

    #: A process costs about a millisecond to fork and some megabytes while it lives.
    capacity = 200
    #: The daemon bounds the children by not accepting; this must not bound them a second time.
    max_children = 2**31
    block_on_close = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: By pid.
        self.children: dict[int, Child] = {}
        #: Places that children have given back.
        self._places: list[int] = []
        #: In a child, those of its parent.
        self._siblings: dict[int, Child] = {}
        self._cut_since = math.inf
        super().__init__(*args, **kwargs)

    @property
    def active(self) -> int:
        return len(self.connections) + len(self.children)

    def process_request(self, request: Any, client_address: Any) -> None:
        connection = self.connections[request]
        alive, tether = os.pipe()
        place = self._places.pop() if self._places else len(self.children)
        try:
            parent = os.getpid()
            with signals.held_back():
                pid = os.fork()
                if pid == 0:
                    os.close(alive)
                    self._live(request, client_address, place, parent)
        except BaseException:
            self._places.append(place)
            os.close(alive)
            raise
        finally:
            os.close(tether)
        # Only the parent comes here.
        self.children[pid] = Child(connection, place, alive)
        if self.daemon is None:
            self.collect_children()  # by `handle_request`: nobody sees their pipes close
        else:
            self.daemon.watch(alive, partial(self._reap, pid))
        if self.metrics is not None:
            self.metrics.hand()
        self.close_request(request)
        # That has counted the peer out of this process, but its child is still here.
        if connection.counted:
            self._tally.enter(peer_network(connection.host))

    def _live(self, request: Any, client_address: Any, place: int, parent: int) -> NoReturn:
        """In the child: serve the conversation, and end.  It has the daemon's memory, but must not touch
        its selector, its waker or its listeners, which are the parent's too."""
        status = 1
        try:
            try:
                self._settle(request, place, parent)
                self.finish_request(request, client_address)
            except Exception:
                self.handle_error(request, client_address)
            finally:
                self.shutdown_request(request)
            self.tell_last()
            status = 0
        finally:
            os._exit(status)

    def _settle(self, request: Any, place: int, parent: int) -> None:
        if self.daemon is not None:
            self.daemon.abandon()
        self.stop_listening()
        budget.PROCESS.reset()
        # Kept, since to let go of each would be to write to it.
        self._siblings, self.children = self.children, {}
        if self.metrics is not None:
            self.metrics = self.metrics.scoreboard.claim("child", FIRST_SLOT + place)
            self.metrics.take()
        # A raw handler may be one that calls execve(2), which an alarm would outlive.
        Watch(self, request, parent).hear(alarm=self.service is not None)

    def tell_last(self) -> None:
        """In a child that is about to end: the access line, the last of all, may be one that nobody took."""
        if self.metrics is not None:
            self.metrics.beat(time.monotonic())

    def collect_children(self, *, blocking: bool = False) -> None:
        """Bury the children that have ended; `blocking`: wait for the others, and bury them too.  Under a daemon
        there is nothing to do: each is reaped when its pipe closes."""
        if self.daemon is not None:
            return
        ended = select.poll()
        children = {child.alive: pid for pid, child in self.children.items()}
        for alive in children:
            ended.register(alive, select.POLLIN)
        for alive in list(children) if blocking else (ready for ready, _ in ended.poll(0)):
            self._bury(children[alive])

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
        """Close the listener; end the conversations still under way, and bury their children.  Where a subclass has
        set `block_on_close`, wait for their end first."""
        if self.block_on_close:
            self.collect_children(blocking=True)
        super().server_close()
        self._signal_children(signal.SIGKILL)
        for pid in list(self.children):
            self._bury(pid)

    def _reap(self, pid: int) -> None:
        assert self.daemon is not None
        child = self.children[pid]
        self.daemon.forget(child.alive)
        if (killer := self._bury(pid)) is not None:
            log.error("%s: child %d died of signal %d", child.connection.peer, pid, killer)

    def _bury(self, pid: int) -> int | None:
        """Let go of a child that has ended or is about to; returns the signal that it died of."""
        child = self.children.pop(pid)
        os.close(child.alive)
        self._places.append(child.place)
        try:
            _, status = os.waitpid(pid, 0)
        except ChildProcessError:
            # The process was started with SIGCHLD ignored: then the kernel buries the dead.
            status = 0
        self.leave(child.connection)
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


class Watch:
    """In a child: a `Daemon` in a thread, to keep the deadlines and hear the signals while the main thread serves.

    It is not begun before there is something to do: a signal, or a deadline that has passed.  Until then SIGALRM
    is the tick, and its handler looks whether that is so.  Handlers interrupt the service anywhere, so they must
    not wait for a lock, nor raise: what may do either is left to the thread that they begin.
    """

    def __init__(self, server: Forks, request: Any, parent: int) -> None:
        self._server = server
        self._request = request
        self._connection = server.connections[request]
        self._parent = parent
        self._daemon: Daemon | None = None
        #: Signals that it has yet to be told of.
        self._heard: deque[int] = deque()
        self._begun = _thread.allocate_lock()
        #: Whether ticks need no thread.
        self._alarmed = False

    def hear(self, *, alarm: bool) -> None:
        """Hear the signals from now on; begin with the first tick, or, without `alarm`, at once."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, self._hear)
        # Ctrl-C goes to the parent and to us; the parent passes on what it means, once.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*signals.SIGNALS, signal.SIGALRM))
        self._alarmed = alarm
        if alarm:
            self._set_alarm()
        else:
            signal.raise_signal(signal.SIGALRM)

    def _set_alarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, min(TICK, self._server.limits.shortest / 4))

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGALRM and self._alarmed and not self._heard and self._all_is_well():
            self._set_alarm()
            return
        self._heard.append(number)
        if not self._begun.acquire(blocking=False):
            self._pass_on()
            return
        try:
            # No threading.Thread: it waits for a lock that the service may have when it is interrupted.
            _thread.start_new_thread(self._watch, ())
        except RuntimeError:  # the system has no thread for us now
            self._begun.release()
            self._set_alarm()

    def _all_is_well(self) -> bool:
        """A tick: whether there is nothing for the watch to do yet."""
        now = time.monotonic()
        if os.getppid() != self._parent or (self._connection.timed and now >= self._connection.deadline):
            return False
        if (metrics := self._server.metrics) is not None:
            metrics.beat(now)
            metrics.tell_of((self._connection,), wait=False)
        return True

    def _pass_on(self) -> None:
        if self._daemon is not None:
            with suppress(IndexError):
                while True:
                    self._daemon.tell(self._heard.popleft())

    def _watch(self) -> None:
        server = self._server
        try:
            daemon = Daemon([server], parent=self._parent)
        except OSError as error:
            log.error("no watch is kept over a conversation: %s", error)
            self._begun.release()
            self._set_alarm()
            return
        if server.metrics is not None:
            server.metrics.attach(daemon)
        self._daemon = daemon
        self._pass_on()
        daemon.see_out()
        if server.connections:
            # It was cut and has not ended: the service is lost in its own code.
            server.shutdown_request(self._request)
            server.tell_last()
            os._exit(0)
