"""Base class of all targets."""

from __future__ import annotations

import inspect
import re
import socketserver
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from daemons.operating.config.sections import Settings
from daemons.operating.loading.module_import import find, import_module
from daemons.operating.loading.options import parse_options
from daemons.serving.guards import wait_limit
from daemons.serving.stream import StreamServer
from daemons.settings.complaints import ConfigurationError

#: Patterns of values.
NAME = r"[^\W\d]\w*"
MODULE = rf"{NAME}(\.{NAME})*"
MODULE_AND_NAME = re.compile(rf"{MODULE}:{NAME}")


@dataclass(frozen=True)
class RequestHandlers:
    """The request handlers of a daemon, and the class of its stream servers."""

    stream: type[socketserver.BaseRequestHandler]
    datagram: type[socketserver.BaseRequestHandler]
    server_class: type[StreamServer]


class Target(ABC):
    """The value of one of the keys in the table of targets.  Its methods raise `ConfigurationError`."""

    key: ClassVar[str]
    #: Form of a value, for complaints, and its pattern.
    form: ClassVar[str]
    pattern: ClassVar[re.Pattern[str]] = MODULE_AND_NAME

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.value: str = getattr(settings.daemon, self.key)
        self.module, _, self.name = self.value.partition(":")

    @classmethod
    def section_name(cls, text: str) -> str:
        """Return the name of the section that holds the target's options."""
        return text.rpartition(":")[2].lower()

    @property
    def where(self) -> str:
        """Beginning of a complaint: ``conf/zen.ini [daemon] service = zen``."""
        origin = self.settings.origins.get(("daemon", self.key), f"conf/{self.settings.name}.ini")
        return f"{origin} [daemon] {self.key} = {self.value}"

    @cached_property
    def served_class(self) -> Any:
        """The `Service` or request handler class; the module is imported at the first use."""
        return self._load()

    @cached_property
    def options(self) -> Any:
        """The options of the class in its own section; None if it has none."""
        return self._options_of(self.served_class)

    def describe(self) -> str:
        """Return one line about the daemon: its description, or the first line of a docstring.

        The module's docstring comes first, then that of the class, without inheritance."""
        if self.settings.daemon.description:
            return self.settings.daemon.description
        module = inspect.getmodule(self.served_class)
        text = (module and module.__doc__) or self.served_class.__doc__ or ""
        return inspect.cleandoc(text).partition("\n")[0]

    @abstractmethod
    def request_handlers(self) -> RequestHandlers:
        """Build the request handlers.  Faults are found here, before a listener is bound."""

    def application(self) -> Callable[..., Any]:
        """Return the WSGI application, ready to be called."""
        raise self.complaint("no WSGI application; write wsgi = module:NAME")

    def complaint(self, reason: str) -> ConfigurationError:
        """Return an error about the value itself."""
        return ConfigurationError([f"{self.where}: {reason}"])

    @abstractmethod
    def _load(self) -> Any:
        """Import the module, and return the class to serve."""

    def _options_of(self, kind: Any) -> Any:
        return parse_options(self.settings, kind.__name__, kind.Options)

    def _import(self, module: str = "") -> Any:
        return import_module(module or self.module, self.where, self.settings.base)

    def _load_class(self, base: type) -> Any:
        """Import the module, and return its class, a subclass of `base`."""
        kind = find(self._import(), self.name, self.where, inspect.isclass)
        if not (inspect.isclass(kind) and issubclass(kind, base)):
            raise self.complaint(f"{self.name} is not a subclass of {base.__module__}.{base.__name__}")
        return kind

    def _own_section_complaint(self, key: str, reason: str) -> ConfigurationError:
        origin = self.settings.origins.get((self.settings.own_section, key), "")
        return ConfigurationError([f"{origin} [{self.settings.own_section}] {key}: {reason}"])

    def _refuse_body(self, reason: str) -> None:
        """Refuse [limits] body for a target without request bodies; in defaults.ini it is for the other daemons."""
        origin = self.settings.origins.get(("limits", "body"), "")
        if origin != "conf/defaults.ini":
            raise ConfigurationError([f"{origin} [limits] body: {reason}; only requests of HTTP have bodies"])

    def _check_idle_exit(self) -> None:
        if self.settings.daemon.idle_exit is not None and self.settings.processes > 1:
            origin = self.settings.origins.get(("daemon", "idle_exit"), "--inetd wait")
            reason = "one of several processes cannot see whether the others are idle; write processes = 1"
            raise ConfigurationError([f"{origin} [daemon] idle_exit: {reason}"])

    def _check_secrets(self) -> None:
        """Refuse a users file where a listener without TLS is reachable from other machines."""
        in_clear = [each for each in self.settings.addresses if each.scheme != "tls" and not each.loopback]
        if self.options.users is not None and in_clear:
            reason = f"secrets would cross the network in the clear at {in_clear[0]}; write listen = tls://HOST:PORT"
            raise self._own_section_complaint("users", reason)

    def _limit_waiting(self) -> None:
        """Under `pool`, let at most half of the threads wait for password checks; under `loop`, none."""
        engine, threads = self.settings.daemon.engine, self.settings.daemon.threads
        pool = max(1, min(wait_limit.DEFAULT, threads // 2))
        wait_limit.PROCESS.threads = {"pool": pool, "loop": 0}.get(engine, wait_limit.DEFAULT)
