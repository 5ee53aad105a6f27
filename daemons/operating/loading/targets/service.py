"""``service =``: a `Service`."""

from __future__ import annotations

import inspect
import re
from typing import Any, ClassVar

from daemons.operating.config.sections import NO_LISTENER
from daemons.operating.loading.module_errors import reported_as_complaint
from daemons.operating.loading.targets.target import MODULE_AND_NAME, NAME, RequestHandlers, Target
from daemons.serving.conversation.service import Service
from daemons.serving.pump import Pump
from daemons.serving.start_tls import StartTLSServer
from daemons.serving.stream import StreamServer
from daemons.settings.complaints import ConfigurationError


class ServiceTarget(Target):
    """``service =``: a `Service`, run by a `Pump`."""

    key = "service"
    form = "NAME, for the Service in daemons.NAME, or module:Class"
    pattern = re.compile(rf"{NAME}|{MODULE_AND_NAME.pattern}")
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
            # Keep an eighth of the threads free for calls that do not block.
            threads = self.settings.daemon.threads
            service.limit_blocking_calls(max(1, threads - max(1, threads // 8)))
        pump = Pump.for_service(service)
        datagram = pump if kind.datagrams is None else Pump.for_service(self._make(kind.datagrams))
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
        origin = self.settings.may_start_tls
        if origin and kind.starts_tls and not self.settings.tls.certificate:
            raise ConfigurationError([f"{origin} [tls] certificate: missing; write certificate = FILE"])
        if origin and not kind.starts_tls and all(each.scheme != "tls" for each in addresses):
            raise ConfigurationError([f"{origin} [tls]: {NO_LISTENER}"])
        protocol = self.stream_protocol or kind.stream_protocol
        if protocol and any(address.scheme == "udp" for address in addresses):
            raise self.complaint(f"{protocol} does not run over UDP; write listen = tcp://HOST:PORT")

    def _make(self, kind: type[Service]) -> Service:
        """Return an instance of the service with its options and, if set, the limit of bodies."""
        options = self._options_of(kind)
        with reported_as_complaint(kind.__name__, "it was made", self.where, self.settings.base):
            try:
                service = kind(options)
            except TypeError as error:  # a service refuses its options by it; the text is for the author of the ini
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
        return StartTLSServer if self.served_class.starts_tls else StreamServer
