"""``rpc = MODULE`` in an ini: the functions of a module, as a server of XML-RPC that publishes them."""

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
        raise ValueError("not the paths of URLs; write / or /RPC2, separated by blanks")
    return paths


PATHS: FieldType[tuple[str, ...]] = FieldType(_paths, " ".join, "paths")


@dataclass(frozen=True)
class Options:
    """The section [rpc]."""

    path: tuple[str, ...] = setting(
        PATHS, ("/", "/RPC2"), "where calls are answered, and the page is; elsewhere is 404"
    )
    allow_none: bool = setting(YES_NO, True, "None may be a result; it is sent as <nil/>, which not all clients know")
    use_builtin_types: bool = setting(
        YES_NO, True, "functions are given datetime and bytes, and not the wrappers of xmlrpc.client"
    )
    introspection: bool = setting(YES_NO, True, "publish system.listMethods, methodSignature and methodHelp")
    multicall: bool = setting(YES_NO, True, "publish system.multicall")
    calls: int = setting(COUNT, CALLS, "the most calls of one system.multicall")
    page: bool = setting(YES_NO, True, "show what can be called to people, by GET")
    users: Accounts | None = setting(USERS, None, "the users file; by default every peer may call")  # noqa: RUF009, it is frozen


class Published(XMLRPCRequestHandler):
    """The handler of what is published; subclasses are made by `of`, and configured by `configured`."""

    Options: ClassVar[type[Any]] = Options
    methods: ClassVar[Methods]
    #: The server that it is for.
    server_class: ClassVar[type[XMLRPCServer]]

    @classmethod
    def of(cls, origin: ModuleType | object, title: str) -> type[Published]:
        """The handler for what `origin` publishes.  Raises as `Methods.of`."""
        home: Any = origin if isinstance(origin, ModuleType) else type(origin)
        text = inspect.getdoc(home) or ""
        module = home.__name__ if isinstance(origin, ModuleType) else home.__module__
        attributes = {"__module__": module, "__doc__": text, "methods": Methods.of(origin)}
        return type(title, (cls,), attributes)

    @classmethod
    def configured(cls, options: Any) -> type[Published]:
        """The same with what the ini says, and its server."""
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
    """A server that has its options and its methods from its class."""

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
