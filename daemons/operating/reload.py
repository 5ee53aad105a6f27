"""Reload at SIGHUP: read the settings again, and apply the changes.

A single process applies in place the limits, the access rules, the certificate, and ``logging.ini``; it logs the other
changes, which need a restart.  Several processes are replaced one by one (`daemons.serving.engines.prefork`); the new
workers apply every change except those of the listeners.

A wrong configuration is logged and changes nothing, so every check runs before the first change.
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

#: Keys of [daemon] that belong to the listeners and the parent process, which new workers do not change.
LASTING = ("host", "port", "listen", "public", "processes", "backlog", "socket_mode", "idle_exit")


class Reload:
    """The settings in force, and the reload at SIGHUP."""

    def __init__(self, bound: Bound) -> None:
        #: In force.  Settings that need a restart keep their first value, so that each reload logs the change again.
        self.bound = bound

    def _read(self) -> tuple[Settings, Settings]:
        """Reopen the log files; return the new settings, and those that will be in force."""
        logs.reopen_output()
        new = self.bound.settings.again()
        return new, self._applicable(self.bound.settings, new)

    def _apply(self, new: Settings, settings: Settings) -> None:
        """Put `settings` in force.  Raises `ConfigurationError`."""
        old = self.bound.settings
        context = self._fresh_context(settings, new)
        # Last, because it can be checked only by applying it; it is undone if it fails.
        logging_changed = logs.configure(settings.logging_ini)
        if self.bound.tls is not None and context is not None:
            self.bound.tls.context = context
        limits = dataclasses.replace(settings.limits, max_connections=affordable(settings))
        self.bound = dataclasses.replace(self.bound, settings=settings, limits=limits)
        self._apply_bound()
        applied = [f"{section}.{key}" for section, key in changed(old, settings)]
        if logging_changed:
            applied.append("logging.ini")
        log.info(
            "reloaded; changed: %s%s",
            ", ".join(applied) or "nothing",
            "; the certificate was read again" if context is not None else "",
        )
        if left := changed(settings, new):
            log.warning("these need a restart: %s", ", ".join(f"{section}.{key}" for section, key in left))

    def _applicable(self, old: Settings, new: Settings) -> Settings:
        """Return the settings that will be in force: from `new` if they can be applied, else from `old`."""
        raise NotImplementedError

    def _apply_bound(self) -> None:
        """Apply `bound` to the servers or the workers."""

    def _fresh_context(self, settings: Settings, new: Settings) -> ssl.SSLContext | None:
        """Load the certificate again, even if its path is the same.  None without tls:// listeners, now or in `new`."""
        if self.bound.tls is None or not new.over_tls:
            return None
        from daemons.operating import certificates  # importing ssl is slow, and most daemons do not need it

        return certificates.context(settings)


class InPlace(Reload):
    """Reload of a single process."""

    def __init__(self, bound: Bound, servers: Iterable[Server], access_log: AccessLog) -> None:
        super().__init__(bound)
        self._servers = list(servers)
        self._access_log = access_log

    def handle_signal(self, number: int) -> None:
        """Handle SIGHUP, and the signals that `handle_signal` does."""
        if number != signal.SIGHUP:
            handle_signal(number, self._access_log)
            return
        with _refusals_logged():
            self._apply(*self._read())
        # Also after a refusal: the logging handlers may be new objects.
        self._access_log.configure()

    def _applicable(self, old: Settings, new: Settings) -> Settings:
        # The body limit is part of the framing, which is set at the start.
        limits = dataclasses.replace(new.limits, body=old.limits.body)
        return dataclasses.replace(
            old, limits=limits, access=new.access, tls=_tls_of(old, new), logging_ini=new.logging_ini
        )

    def _apply_bound(self) -> None:
        budget.PROCESS.limit = self.bound.limits.held
        for server in self._servers:
            server.apply(self.bound.limits)
            server.access = self.bound.settings.access


def handle_signal(number: int, access_log: AccessLog | None = None) -> None:
    """Reopen the log files at SIGUSR1; log any other signal as ignored."""
    if number == signals.REOPEN:
        logs.reopen()
        if access_log is not None:
            access_log.configure()
    elif signals.is_unused(number):
        # Only the first and the last real-time signal have a name.
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        log.warning("%s ignored: SIGTERM stops, SIGHUP reloads, SIGUSR1 reopens log files", name)


class Renewal(Reload):
    """Reload of several processes, in the parent: new workers start with the new `bound`.

    The service is imported in a child first.  The parent does not wait for the child, since an import may hang."""

    def __init__(self, bound: Bound) -> None:
        super().__init__(bound)
        self._prefork: Prefork | None = None
        #: The import in progress in a child, and its settings.
        self._trial: Trial | None = None
        self._tried: tuple[Settings, Settings] | None = None
        #: Whether another SIGHUP arrived during the trial.
        self._again = False

    def join(self, prefork: Prefork) -> None:
        """Reload and renew the workers of `prefork` at SIGHUP."""
        self._prefork = prefork
        prefork.on_hangup = self.hang_up
        prefork.on_tick.append(self._tick)
        prefork.on_child.append(self._reap)
        prefork.on_stop.append(self._end_trial)

    def hang_up(self) -> None:
        """Handle SIGHUP: read the settings and start the trial; `_reap` applies them when it has ended."""
        if self._trial is not None:
            self._again = True
            return
        prefork = self._prefork
        assert prefork is not None

        def let_go() -> None:
            prefork.release()
            self.bound.close_listeners()

        with _refusals_logged():
            new, settings = self._read()
            self._trial = Trial(target_of(settings).request_handlers, let_go)
            self._tried = new, settings
            try:
                prefork.watch(self._trial, self._receive)
            except OSError:
                self._trial.end()
                raise

    def end(self) -> None:
        """Kill and reap the trial's process at the end of the daemon."""
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
        """End the trial: it has a result, or is overdue."""
        if self._prefork is not None and self._trial is not None and not self._trial.ended:
            self._prefork.forget(self._trial)
            self._trial.end()

    def _reap(self) -> None:
        """After the trial, apply the settings and renew the workers, or log the complaints."""
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

    def _applicable(self, old: Settings, new: Settings) -> Settings:
        # The listeners and the parent process keep their settings.
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

    def _apply_bound(self) -> None:
        if self._prefork is not None:
            # Old workers may drain for the new timeout.
            self._prefork.table.drain_timeout = self.bound.limits.drain_timeout


@contextmanager
def _refusals_logged() -> Iterator[None]:
    """Log errors of a reload instead of raising them."""
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
    """Return the new [tls], unless listeners with TLS are added or removed, which needs a restart."""
    return new.tls if old.over_tls and new.over_tls else old.tls


def changed(old: Settings, new: Settings) -> list[tuple[str, str]]:
    """Return the settings that differ, as (section, key)."""
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
