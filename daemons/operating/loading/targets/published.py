"""``rpc =`` and ``jsonrpc =``: functions published over XML-RPC or JSON-RPC."""

from __future__ import annotations

import re
from typing import Any

from daemons.framings import Lines
from daemons.operating.loading.module_import import find
from daemons.operating.loading.options import parse_options
from daemons.operating.loading.targets.handler import HandlerTarget
from daemons.operating.loading.targets.service import ServiceTarget
from daemons.operating.loading.targets.target import MODULE, NAME, Target
from daemons.operating.loading.targets.web_server import with_body_limit
from daemons.serving.conversation.service import Service
from daemons.serving.stream import StreamServer


class PublishedTarget(Target):
    """Published functions: those of a module, or the methods of an object in it."""

    form = "module, for the functions in its __all__, or module:NAME, for the methods of an object in it"
    pattern = re.compile(rf"{MODULE}(:{NAME})?")

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


class XMLRPCTarget(PublishedTarget, HandlerTarget):
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
        return with_body_limit(handler.server_class, self.settings)


class JSONRPCTarget(PublishedTarget, ServiceTarget):
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
