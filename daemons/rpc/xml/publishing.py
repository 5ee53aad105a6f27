"""``rpc = MODULE`` in an ini: functions of a module, published by an XML-RPC server."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from daemons.accounts import Accounts
from daemons.rpc.methods import Methods
from daemons.rpc.users import USERS
from daemons.rpc.xml.dispatcher import CALLS
from daemons.rpc.xml.server import XMLRPCRequestHandler, XMLRPCServer
from daemons.settings.values import COUNT, YES_NO, FieldType, setting


def _paths(text: str) -> tuple[str, ...]:
    paths = tuple(text.split())
    if not paths or not all(re.fullmatch(r"/[!\"$-~]*", path) for path in paths):
        raise ValueError("not the paths of URLs; write / or /RPC2, separated by spaces")
    return paths


PATHS: FieldType[tuple[str, ...]] = FieldType(_paths, " ".join, "paths")


@dataclass(frozen=True)
class Options:
    """The section [rpc]."""

    path: tuple[str, ...] = setting(
        PATHS, ("/", "/RPC2"), "URL paths of calls and of the documentation page; other paths are 404."
    )
    allow_none: bool = setting(YES_NO, True, "Marshal None as <nil/>, an extension that some clients do not support.")
    use_builtin_types: bool = setting(
        YES_NO, True, "Pass datetime and bytes to functions instead of the wrappers of xmlrpc.client."
    )
    introspection: bool = setting(YES_NO, True, "Publish system.listMethods, methodSignature and methodHelp.")
    multicall: bool = setting(YES_NO, True, "Publish system.multicall.")
    calls: int = setting(COUNT, CALLS, "Maximum number of calls in one system.multicall.")
    page: bool = setting(YES_NO, True, "Serve a documentation page for GET.")
    users: Accounts | None = setting(USERS, None, "The users file; by default every peer may call.")  # noqa: RUF009, it is frozen


class Published(XMLRPCRequestHandler):
    """Request handler of published methods.  Subclasses are created by `of`, and bound to options by `configured`."""

    Options: ClassVar[type[Any]] = Options
    methods: ClassVar[Methods]
    #: The server class for this handler.
    server_class: ClassVar[type[XMLRPCServer]]

    @classmethod
    def of(cls, origin: ModuleType | object, title: str) -> type[Published]:
        """Return the handler that publishes the methods of `origin`.  Raises as `Methods.of`."""
        home: Any = origin if isinstance(origin, ModuleType) else type(origin)
        text = inspect.getdoc(home) or ""
        module = home.__name__ if isinstance(origin, ModuleType) else home.__module__
        attributes = {"__module__": module, "__doc__": text, "methods": Methods.of(origin)}
        return type(title, (cls,), attributes)

    @classmethod
    def configured(cls, options: Any) -> type[Published]:
        """Return a subclass with `options` applied, and with its server class."""
        handler: Any = type(cls.__name__, (cls,), {"__module__": cls.__module__, "rpc_paths": options.path})
        about = (cls.__doc__ or "").partition("\n")[0]
        handler.server_class = type(
            "XMLRPCServer",
            (_Publishing,),
            {"options": options, "methods": cls.methods, "title": cls.__name__}
            | {"about": about, "documents": options.page, "users": options.users, "max_calls": options.calls},
        )
        return handler  # type: ignore[no-any-return]


class _Publishing(XMLRPCServer):
    """Server whose options and methods are class attributes."""

    options: ClassVar[Options]
    methods: ClassVar[Mapping[str, Any]]

    def __init__(self, addr: Any, requestHandler: Any, bind_and_activate: bool = True) -> None:
        options = self.options
        super().__init__(
            addr,
            requestHandler,
            allow_none=options.allow_none,
            bind_and_activate=bind_and_activate,
            use_builtin_types=options.use_builtin_types,
        )
        self.publish(self.methods.values())
        if options.introspection:
            self.register_introspection_functions()
        if options.multicall:
            self.register_multicall_functions()
