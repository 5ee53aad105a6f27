"""Targets: the five keys of [daemon] that name the code to serve, one class for each.

    service = launcelot            `ServiceTarget`: the Service of a module of the suite, or module:Class
    handler = module:Class         `HandlerTarget`: any socketserver.BaseRequestHandler
    wsgi    = module:application   `WSGITarget`: any WSGI application
    rpc     = module               `XMLRPCTarget`: functions of a module, over XML-RPC
    jsonrpc = module               `JSONRPCTarget`: functions of a module, over JSON-RPC

A target validates the text of its key, imports the named module, parses its options, and builds the request handlers
and the class of the stream server.  Modules that most daemons do without are imported by the target that needs them.
"""

from __future__ import annotations

import inspect
import re
import socketserver
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

from daemons.framings import Lines
from daemons.operating.config.sections import Settings
from daemons.operating.loading.module_errors import reported_as_complaint
from daemons.operating.loading.module_import import find, import_module
from daemons.operating.loading.options import parse_options
from daemons.serving.conversation.service import Service
from daemons.serving.engines import stream_server
from daemons.serving.guards import wait_limit
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from daemons.settings.complaints import ConfigurationError

_NAME = r"[^\W\d]\w*"
_MODULE = rf"{_NAME}(\.{_NAME})*"
_MODULE_AND_NAME = re.compile(rf"{_MODULE}:{_NAME}")

#: Form and pattern of a value of ``rpc =`` and ``jsonrpc =``.
_PUBLISHED = "module, for the functions in its __all__, or module:NAME, for the methods of an object in it"
_PUBLISHED_PATTERN = re.compile(rf"{_MODULE}(:{_NAME})?")

#: Handler classes that do not fit a listener, by whether it receives datagrams.
_MISMATCHED = {False: socketserver.DatagramRequestHandler, True: socketserver.StreamRequestHandler}


@dataclass(frozen=True)
class RequestHandlers:
    """The request handlers of a daemon, and the class of its stream servers."""

    stream: type[socketserver.BaseRequestHandler]
    datagram: type[socketserver.BaseRequestHandler]
    server_class: type[StreamServer]


class Target(ABC):
    """The value of one of the keys in `TARGETS`.  Its methods raise `ConfigurationError`."""

    key: ClassVar[str]
    #: Form of a value, for complaints, and its pattern.
    form: ClassVar[str]
    pattern: ClassVar[re.Pattern[str]] = _MODULE_AND_NAME

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


class ServiceTarget(Target):
    """``service =``: a `Service`, run by a `Pump`."""

    key = "service"
    form = "NAME, for the Service in daemons.NAME, or module:Class"
    pattern = re.compile(rf"{_NAME}|{_MODULE_AND_NAME.pattern}")
    #: Name of the protocol, if it needs a stream.
    stream_protocol: ClassVar[str] = ""

    def _load(self) -> Any:
        if self.name:
            return self._load_class(Service)
        module = self._import(f"daemons.{self.module}")
        services = [
            kind
            for kind in vars(module).values()
            if inspect.isclass(kind) and issubclass(kind, Service) and kind.__module__ == module.__name__
        ]
        for_datagrams = [kind.datagrams for kind in services]
        services = [kind for kind in services if kind not in for_datagrams]
        if len(services) != 1:
            names = ", ".join(kind.__name__ for kind in services) or "none"
            raise self.complaint(f"one Service is expected in {module.__name__}, found {names}; write module:Class")
        return services[0]

    def request_handlers(self) -> RequestHandlers:
        kind: type[Service] = self.served_class
        self._check_idle_exit()
        self._check_engine(kind)
        self._check_listeners(kind)
        service = self._make(kind)
        if service.blocks and self.settings.daemon.engine == "loop":
            raise self.complaint(
                f"engine = loop cannot run a service that blocks: {service.blocks}; write engine = pool"
            )
        self._limit_waiting()
        if self.settings.daemon.engine == "pool":
            # An eighth of the threads stays free for calls that wait for nothing.
            threads = self.settings.daemon.threads
            service.bound_waiting(max(1, threads - max(1, threads // 8)))
        pump = Pump.carrying(service)
        datagram = pump if kind.datagrams is None else Pump.carrying(self._make(kind.datagrams))
        return RequestHandlers(pump, datagram, self._server_class())

    def _check_engine(self, kind: type[Service]) -> None:
        engine = self.settings.daemon.engine
        if kind.blocks and engine == "loop":
            raise self.complaint("engine = loop cannot run a service that blocks; write engine = pool")
        if kind.shares and (engine == "forks" or self.settings.processes > 1):
            reason = "a service whose peers share memory needs one process; write engine = threads and processes = 1"
            raise self.complaint(reason)

    def _check_listeners(self, kind: type[Service]) -> None:
        addresses = self.settings.addresses
        if kind.tls_only and (in_clear := [str(each) for each in addresses if each.scheme != "tls"]):
            reason = f"the service requires TLS; not encrypted: {', '.join(in_clear)}; write listen = tls://HOST:PORT"
            raise self.complaint(reason)
        if self.stream_protocol and any(address.scheme == "udp" for address in addresses):
            raise self.complaint(f"{self.stream_protocol} does not run over UDP; write listen = tcp://HOST:PORT")

    def _make(self, kind: type[Service]) -> Service:
        """Return an instance of the service with its options and, if set, the limit of bodies."""
        options = self._options_of(kind)
        with reported_as_complaint(kind.__name__, "it was made", self.where, self.settings.base):
            try:
                service = kind(options)
            except TypeError as error:  # a class refuses its options so; the text is for the author of the ini
                raise self.complaint(str(error)) from error
        if self.settings.limits.body is not None:
            self._limit_body(service, self.settings.limits.body)
        return service

    def _limit_body(self, service: Service, body: int) -> None:
        from daemons.framings.http import HTTP

        framing = service.framing
        if isinstance(framing, HTTP):
            service.framing = HTTP(head=framing.head, headers=framing.headers, body=body)
        else:
            self._refuse_body(f"{type(service).__name__} takes no requests")

    def _server_class(self) -> type[StreamServer]:
        return StreamServer


class HandlerTarget(Target):
    """``handler =``: a class that reads its socket itself, or a handler of http.server, which is run in memory."""

    key = "handler"
    form = "module:Class"

    def _load(self) -> Any:
        return self._load_class(socketserver.BaseRequestHandler)

    def _options_of(self, kind: Any) -> Any:
        return parse_options(self.settings, kind.__name__, None)

    def request_handlers(self) -> RequestHandlers:
        kind = self.served_class
        self._check_idle_exit()
        if not self._runs_in_memory(kind):
            self._check_raw(kind)
        self._check_listeners(kind)
        handler = self._configure(kind)
        self._limit_waiting()
        return RequestHandlers(handler, handler, self._server_class(handler))

    def _check_raw(self, kind: type[socketserver.BaseRequestHandler]) -> None:
        """Refuse settings that a handler with its own socket cannot have."""
        if self.settings.limits.body is not None:
            self._refuse_body(f"{kind.__name__} reads its socket itself")
        engine = self.settings.daemon.engine
        if not stream_server(engine).raw_handlers:
            raise self.complaint(f"engine = {engine} cannot run a raw handler, which blocks; write engine = threads")

    def _check_listeners(self, kind: type[socketserver.BaseRequestHandler]) -> None:
        """Refuse listeners of the other socket type for the standard library's stream and datagram handlers."""
        for address in self.settings.addresses:
            over_udp = address.scheme == "udp"
            if not address.inherited and issubclass(kind, _MISMATCHED[over_udp]):
                name = "a stream handler" if over_udp else "a datagram handler"
                raise self.complaint(f"{kind.__name__} is {name}, which cannot serve {address}")

    def _configure(self, kind: Any) -> Any:
        """Return the handler class with its options."""
        return kind if self.options is None else kind.configured(self.options)

    def _runs_in_memory(self, kind: type) -> bool:
        if not _is_http(kind):
            return False
        from daemons.web.handlers.mixins import in_memory

        return in_memory(kind)

    def _server_class(self, handler: Any) -> type[StreamServer]:
        return _web_server(self.settings) if _is_http(handler) else StreamServer


class WSGITarget(ServiceTarget):
    """``wsgi =``: an application, as PEP 3333 defines it."""

    key = "wsgi"
    form = "module:NAME, for the application NAME in that module"
    pattern = _MODULE_AND_NAME
    stream_protocol = "HTTP"

    def _load(self) -> Any:
        module = self._import()
        application = find(module, self.name, self.where, callable)
        if not callable(application):
            raise self.complaint(f"{self.name} is not callable; a WSGI application is, PEP 3333")
        for key, base in (("service", Service), ("handler", socketserver.BaseRequestHandler)):
            if inspect.isclass(application) and issubclass(application, base):
                raise self.complaint(f"{self.name} is no WSGI application; write {key} = {self.value}")
        from daemons.web.wsgi.service import WSGIService

        engine = self.settings.daemon.engine
        return WSGIService.of(
            application,
            self.name,
            module.__name__,
            multithread=engine in ("threads", "pool"),
            multiprocess=engine == "forks" or self.settings.processes > 1,
        )

    def application(self) -> Callable[..., Any]:
        service: Any = self._make(self.served_class)
        return cast("Callable[..., Any]", service.ready)

    def _server_class(self) -> type[StreamServer]:
        return _web_server(self.settings)


class _PublishedTarget(Target):
    """Published functions: those of a module, or the methods of an object in it."""

    form = _PUBLISHED
    pattern = _PUBLISHED_PATTERN

    @classmethod
    def section_name(cls, text: str) -> str:
        return cls.key

    def _load(self) -> Any:
        module = self._import()
        origin = find(module, self.name, self.where, lambda value: True) if self.name else module
        try:
            return self._publish(origin)
        except (TypeError, ValueError) as error:
            raise self.complaint(str(error)) from error

    def _publish(self, origin: Any) -> Any:
        """Return the service or handler class for the functions of `origin`.  Raises `TypeError`, `ValueError`."""
        raise NotImplementedError


class XMLRPCTarget(_PublishedTarget, HandlerTarget):
    """``rpc =``: functions published over XML-RPC."""

    key = "rpc"

    def _publish(self, origin: Any) -> Any:
        from daemons.rpc.xml.publishing import Published

        return Published.of(origin, self.settings.name)

    def _options_of(self, kind: Any) -> Any:
        return parse_options(self.settings, kind.__name__, kind.Options)

    def _configure(self, kind: Any) -> Any:
        self._check_secrets()
        users = self.options.users
        if users is not None and users.slow and self.settings.daemon.engine == "loop":
            reason = f"engine = loop cannot wait for the scrypt in {users.path}; write engine = pool, or give "
            reason += "secrets to programs: daemons password --generate FILE NAME"
            raise self._own_section_complaint("users", reason)
        return super()._configure(kind)

    def _server_class(self, handler: Any) -> type[StreamServer]:
        return _with_body_limit(handler.server_class, self.settings)


class JSONRPCTarget(_PublishedTarget, ServiceTarget):
    """``jsonrpc =``: functions published over JSON-RPC 2.0."""

    key = "jsonrpc"
    stream_protocol = "JSON-RPC"

    def _publish(self, origin: Any) -> Any:
        from daemons.rpc.json.service import JSONRPC

        return JSONRPC.of(origin, self.settings.name)

    def _check_listeners(self, kind: type[Service]) -> None:
        super()._check_listeners(kind)
        self._check_secrets()

    def _limit_body(self, service: Service, body: int) -> None:
        if isinstance(service.framing, Lines):
            service.framing = Lines(limit=body)  # one call a line
        else:
            super()._limit_body(service, body)


#: Every key of [daemon] that names a target, in the order of the documentation.
TARGETS: dict[str, type[Target]] = {
    target.key: target for target in (ServiceTarget, HandlerTarget, WSGITarget, XMLRPCTarget, JSONRPCTarget)
}


def target_of(settings: Settings) -> Target:
    """Return the target that the settings name."""
    return TARGETS[settings.target](settings)


def _is_http(handler: type) -> bool:
    """Return whether `handler` is a subclass of `http.server.BaseHTTPRequestHandler`, without importing that."""
    return any(
        (base.__module__, base.__name__) == ("http.server", "BaseHTTPRequestHandler") for base in handler.__mro__
    )


def _web_server(settings: Settings) -> type[StreamServer]:
    from daemons.web.handlers.server import WebServer

    return _with_body_limit(WebServer, settings)


def _with_body_limit(server: type[StreamServer], settings: Settings) -> type[StreamServer]:
    """Return the server class with [limits] body, if that is set."""
    body = settings.limits.body
    if body is None:
        return server
    from daemons.framings.http import HTTP

    return type(server.__name__, (server,), {"framing": HTTP(body=body)})
