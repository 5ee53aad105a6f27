"""SIGHUP: read the settings again, and take up what has changed.

One process takes up in place what can be: limits, access rules, the certificate, the access log and everything else of
``logging.ini``; the rest is named in the log, to be had with a restart.  Several processes are replaced one by one
(`daemons.serving.engines.prefork`), and the new ones take up everything but where the daemon listens.

A configuration that is wrong changes nothing, and the log says what is wrong with it: so whatever can be refused is
tried before anything is changed.
"""

from __future__ import annotations

import dataclasses
import logging
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from daemons.operating.config.sections import SECTIONS, TABLES, Settings, TLSSettings
from daemons.operating.fd_limit import affordable
from daemons.operating.loading.targets import target_of
from daemons.operating.logging import logs
from daemons.operating.preflight import ChildError, Trial
from daemons.serving import signals
from daemons.serving.guards import budget
from daemons.settings.complaints import ConfigurationError

if TYPE_CHECKING:
    import ssl

    from daemons.operating.bound import Bound
    from daemons.operating.logging.access_log import AccessLog
    from daemons.serving.engines.prefork import Prefork
    from daemons.serving.server import Server

log = logging.getLogger(__name__)

#: Keys of [daemon] that belong to the listeners and the parent process: new workers do not change them.
LASTING = ("host", "port", "listen", "public", "processes", "backlog", "socket_mode", "idle_exit")


class Reload:
    """What is in force, and how SIGHUP changes it."""

    def __init__(self, bound: Bound) -> None:
        #: What is in force: with what needs a restart as it was at the start, so that the next reload tells of it too.
        self.bound = bound

    def _read(self) -> tuple[Settings, Settings]:
        """Open the log files again; return the new settings, and those that will be in force."""
        logs.reopen_output()
        new = self.bound.settings.again()
        return new, self._taken_up(self.bound.settings, new)

    def _apply(self, new: Settings, settings: Settings) -> None:
        """Take up `settings`, which may still be refused."""
        old = self.bound.settings
        context = self._fresh_context(settings, new)
        # Last, for it can be tried only by doing it; where it fails, it is undone.
        logging_changed = logs.configure(settings.logging_ini)
        if self.bound.tls is not None and context is not None:
            self.bound.tls.context = context
        limits = dataclasses.replace(settings.limits, max_connections=affordable(settings))
        self.bound = dataclasses.replace(self.bound, settings=settings, limits=limits)
        self._take_up()
        taken = [f"{section}.{key}" for section, key in changed(old, settings)]
        if logging_changed:
            taken.append("logging.ini")
        log.info(
            "reloaded; changed: %s%s",
            ", ".join(taken) or "nothing",
            "; the certificate was read again" if context is not None else "",
        )
        if left := changed(settings, new):
            log.warning("these need a restart: %s", ", ".join(f"{section}.{key}" for section, key in left))

    def _taken_up(self, old: Settings, new: Settings) -> Settings:
        """What will be in force, of `new`; the rest as in `old`."""
        raise NotImplementedError

    def _take_up(self) -> None:
        """Give `bound` to who needs it."""

    def _fresh_context(self, settings: Settings, new: Settings) -> ssl.SSLContext | None:
        """From the files as they are now, even where their paths are the same.  None where nobody needs it: there is
        no tls:// listener, or there will be none after a restart."""
        if self.bound.tls is None or not new.over_tls:
            return None
        from daemons.operating import certificates  # ssl is dear, and most do without it

        return certificates.context(settings)


class InPlace(Reload):
    """With one process."""

    def __init__(self, bound: Bound, servers: Iterable[Server], access_log: AccessLog) -> None:
        super().__init__(bound)
        self._servers = list(servers)
        self._access_log = access_log

    def hear(self, number: int) -> None:
        """Handle SIGHUP, and the signals that `handle_signal` does."""
        if number != signal.SIGHUP:
            handle_signal(number, self._access_log)
            return
        with _refusals_logged():
            self._apply(*self._read())
        # Also where it was refused: the handlers may be others, though they do the same.
        self._access_log.configure()

    def _taken_up(self, old: Settings, new: Settings) -> Settings:
        # Requests are read as they were from the start.
        limits = dataclasses.replace(new.limits, body=old.limits.body)
        return dataclasses.replace(
            old, limits=limits, access=new.access, tls=_tls_of(old, new), logging_ini=new.logging_ini
        )

    def _take_up(self) -> None:
        budget.PROCESS.limit = self.bound.limits.held
        for server in self._servers:
            server.apply(self.bound.limits)
            server.access = self.bound.settings.access


def handle_signal(number: int, access_log: AccessLog | None = None) -> None:
    """Open the log files again at SIGUSR1; log any other signal, which has no meaning."""
    if number == signals.REOPEN:
        logs.reopen()
        if access_log is not None:
            access_log.configure()
    elif signals.is_unused(number):
        # Of the real-time signals, only the first and the last have a name.
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        log.warning("%s ignored: SIGTERM stops, SIGHUP reloads, SIGUSR1 opens log files again", name)


class Renewal(Reload):
    """With several processes: in the parent, whose new workers take up what `bound` then is.

    The service is tried in a child first, which the parent does not wait for: an import may hang."""

    def __init__(self, bound: Bound) -> None:
        super().__init__(bound)
        self._prefork: Prefork | None = None
        #: The import of the new service, under way in a child, and the settings that it is tried for.
        self._trial: Trial | None = None
        self._tried: tuple[Settings, Settings] | None = None
        #: SIGHUP has come again meanwhile.
        self._again = False

    def join(self, prefork: Prefork) -> None:
        """Reload and renew the workers of `prefork` at SIGHUP."""
        self._prefork = prefork
        prefork.on_hangup = self.hang_up
        prefork.on_tick.append(self._tick)
        prefork.on_child.append(self._reap)
        prefork.on_stop.append(self._end_trial)

    def hang_up(self) -> None:
        """Handle SIGHUP: read the settings and begin to try the service; the rest follows when that has ended."""
        if self._trial is not None:
            self._again = True
            return
        prefork = self._prefork
        assert prefork is not None

        def let_go() -> None:
            prefork.let_go()
            self.bound.close_listeners()

        with _refusals_logged():
            new, settings = self._read()
            self._trial = Trial(target_of(settings).request_handlers, let_go)
            self._tried = new, settings
            prefork.watch(self._trial, self._receive)

    def end(self) -> None:
        """The daemon has ended: leave no process of a trial, nor a zombie, behind."""
        if self._trial is not None:
            if not self._trial.ended:
                self._trial.end()
            self._trial.reap(0)

    def _receive(self) -> None:
        assert self._trial is not None
        if self._trial.receive():
            self._end_trial()

    def _tick(self, now: float) -> None:
        if self._trial is not None and self._trial.overdue:
            self._end_trial()
        self._reap()

    def _end_trial(self) -> None:
        """There is a result, or none is waited for any more."""
        if self._prefork is not None and self._trial is not None and not self._trial.ended:
            self._prefork.forget(self._trial)
            self._trial.end()

    def _reap(self) -> None:
        """If the trial's process has gone: take up the settings and renew the workers, or log why not."""
        trial, prefork = self._trial, self._prefork
        if trial is None or prefork is None or not trial.ended or not trial.reap():
            return
        self._trial = None
        if prefork.stopping:
            return
        with _refusals_logged():
            trial.check()
            assert self._tried is not None
            self._apply(*self._tried)
            prefork.renew()
        if self._again:
            self._again = False
            self.hang_up()

    def _taken_up(self, old: Settings, new: Settings) -> Settings:
        # What the listeners and the parent are bound to stays as it is.
        lasting = {key: getattr(old.daemon, key) for key in LASTING}
        return dataclasses.replace(
            new,
            addresses=old.addresses,
            daemon=dataclasses.replace(new.daemon, **lasting),
            tls=_tls_of(old, new),
            metrics=old.metrics,
            drop=old.drop,
            log=old.log,
        )

    def _take_up(self) -> None:
        if self._prefork is not None:
            # It must not kill workers that still have time.
            self._prefork.table.drain_timeout = self.bound.limits.drain_timeout


@contextmanager
def _refusals_logged() -> Iterator[None]:
    """Log why the old settings stay, instead of raising it."""
    try:
        yield
    except ConfigurationError as error:
        for complaint in error.complaints:
            log.error("not reloaded: %s", complaint)
    except (ChildError, OSError) as error:
        log.error("not reloaded: %s", error)
    except Exception:
        log.exception("not reloaded")


def _tls_of(old: Settings, new: Settings) -> TLSSettings:
    """[tls] goes with the listeners, which stay as they are."""
    return new.tls if old.over_tls and new.over_tls else old.tls


def changed(old: Settings, new: Settings) -> list[tuple[str, str]]:
    """The settings that differ, as (section, key)."""
    differing = [
        (section, field.name)
        for section, declaration in SECTIONS.items()
        for field in dataclasses.fields(declaration)
        if getattr(getattr(old, section), field.name) != getattr(getattr(new, section), field.name)
    ]
    return (
        differing
        + [
            (new.own_section, key)
            for key in sorted({*old.own, *new.own})
            if old.own.get(key) != new.own.get(key) or old.own_section != new.own_section
        ]
        + [
            (section, key)
            for section in TABLES
            for key in sorted({*old.tables.get(section, ()), *new.tables.get(section, ())})
            if old.tables.get(section, {}).get(key) != new.tables.get(section, {}).get(key)
        ]
    )
