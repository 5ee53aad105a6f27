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
from collections.abc import Iterable
from typing import TYPE_CHECKING

from daemons.operating import loading, logs
from daemons.operating.complaints import ConfigurationError
from daemons.operating.descriptors import affordable
from daemons.operating.settings import SECTIONS, TABLES, Settings, TLSSettings
from daemons.operating.trial import ChildError, try_in_child
from daemons.serving import budget

if TYPE_CHECKING:
    import ssl

    from daemons.operating.access_log import AccessLog
    from daemons.operating.lifecycle import Bound
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

    def reload(self) -> bool:
        """Take up what can be; False if the old settings stay, and then the log says why."""
        old = self.bound.settings
        try:
            new = old.again()
            settings = self._taken_up(old, new)
            self._try(settings)
            context = self._fresh_context(settings, new)
            # Last, for it can be tried only by doing it; where it fails, it is undone.
            logging_changed = logs.configure(settings.logging_ini)
        except ConfigurationError as error:
            for complaint in error.complaints:
                log.error("not reloaded: %s", complaint)
            return False
        except (ChildError, OSError) as error:
            log.error("not reloaded: %s", error)
            return False
        except Exception:
            log.exception("not reloaded")
            return False
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
        return True

    def _taken_up(self, old: Settings, new: Settings) -> Settings:
        """What will be in force, of `new`; the rest as in `old`."""
        raise NotImplementedError

    def _try(self, settings: Settings) -> None:
        """Raise what speaks against `settings`."""

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
        """SIGHUP."""
        self.reload()
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


class Renewal(Reload):
    """With several processes: in the parent, whose new workers take up what `bound` then is."""

    def __init__(self, bound: Bound) -> None:
        super().__init__(bound)
        #: Which they are workers of.
        self.prefork: Prefork | None = None

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

    def _try(self, settings: Settings) -> None:
        try_in_child(lambda: loading.request_handlers(settings))

    def _take_up(self) -> None:
        if self.prefork is not None:
            # It must not kill workers that still have time.
            self.prefork.drain_timeout = self.bound.limits.drain_timeout


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
