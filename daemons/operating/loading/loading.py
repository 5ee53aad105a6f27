"""From ``service =``, ``handler =``, ``wsgi =`` or ``rpc =`` in an ini to what it names."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import socketserver
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from daemons.framings import Lines
from daemons.operating.config import tables
from daemons.operating.config.ini import parse_section
from daemons.operating.config.sections import Settings
from daemons.operating.loading.module_errors import reported_as_complaint
from daemons.operating.loading.rpc_target import check_secrets, configured, publication
from daemons.operating.loading.server_class import is_published, runs_in_memory
from daemons.serving.conversation.service import Service
from daemons.serving.engines import stream_server
from daemons.serving.pump import Pump
from daemons.settings.complaints import ConfigurationError
from daemons.settings.values import PATH, hint, kind_of

#: By whether a listener is for datagrams: the handlers that it is not for.
_OUT_OF_PLACE = {False: socketserver.DatagramRequestHandler, True: socketserver.StreamRequestHandler}


def request_handlers(settings: Settings) -> Callable[[bool], type[socketserver.BaseRequestHandler]]:
    """What a server runs for each connection, or for each datagram: the pump of the service, or the raw handler;
    by whether it is for datagrams.

    Raises `ConfigurationError` for faults of the ini, and for any exception of the module that it names."""
    kind: type[socketserver.BaseRequestHandler | Service] = spoken_class(settings)
    engine = settings.daemon.engine
    if settings.daemon.idle_exit is not None and settings.processes > 1:
        origin = settings.origins.get(("daemon", "idle_exit"), "--inetd wait")
        reason = "several processes cannot tell together that nobody is there; write processes = 1"
        raise ConfigurationError([f"{origin} [daemon] idle_exit: {reason}"])
    if not issubclass(kind, Service):
        in_memory = runs_in_memory(kind)
        if settings.limits.body is not None and not in_memory:
            _refuse_body(settings, f"{kind.__name__} reads its socket itself")
        if not stream_server(engine).raw_handlers and not in_memory:
            reason = f"engine = {engine} cannot run a raw handler, which waits on its socket; write engine = threads"
            raise ConfigurationError([f"{_where(settings)}: {reason}"])
        _check_transports(settings, kind)
        options = options_of(settings, kind)
        handler = configured(settings, kind, options)
        _bound_waiting(settings, None)
        return lambda over_udp: handler
    if kind.blocks and engine == "loop":
        reason = "engine = loop cannot run a service that says it blocks; write engine = pool"
        raise ConfigurationError([f"{_where(settings)}: {reason}"])
    if kind.shares and (engine == "forks" or settings.processes > 1):
        reason = "a service whose visitors share memory needs one process; write engine = threads and processes = 1"
        raise ConfigurationError([f"{_where(settings)}: {reason}"])
    if kind.tls_only and (open_ones := [str(address) for address in settings.addresses if address.scheme != "tls"]):
        reason = f"what it says is for TLS alone, and not for {', '.join(open_ones)}; write listen = tls://HOST:PORT"
        raise ConfigurationError([f"{_where(settings)}: {reason}"])
    streamed = "HTTP" if settings.daemon.wsgi else "JSON-RPC" if settings.daemon.jsonrpc else ""
    if streamed and any(address.scheme == "udp" for address in settings.addresses):
        reason = f"{streamed} is not spoken over UDP; write listen = tcp://HOST:PORT"
        raise ConfigurationError([f"{_where(settings)}: {reason}"])
    if settings.daemon.jsonrpc:
        check_secrets(settings, options_of(settings, kind))
    service = make_service(settings, kind)
    if service.blocks and engine == "loop":
        reason = f"engine = loop cannot run a service that waits, as with {service.blocks}; write engine = pool"
        raise ConfigurationError([f"{_where(settings)}: {reason}"])
    _bound_waiting(settings, service)
    pump = Pump.carrying(service)
    # Made now, so that what is wrong with it is found before anything is bound.
    udp = pump if kind.datagrams is None else Pump.carrying(make_service(settings, kind.datagrams))
    return lambda over_udp: udp if over_udp else pump


def _bound_waiting(settings: Settings, service: Service | None) -> None:
    """Leave half of a pool's threads to requests that wait for no password, and never have the loop wait for one; and
    an eighth to those that wait for nothing.  Modules that most daemons do without are not imported for that."""
    verifier = sys.modules.get("daemons.accounts.verifier")
    free = settings.daemon.threads - max(1, settings.daemon.threads // 8)
    if verifier is not None:
        pool = max(1, min(verifier.WAITING, settings.daemon.threads // 2))
        verifier.shared.waiting = {"pool": pool, "loop": 0}.get(settings.daemon.engine, verifier.WAITING)
    if service is not None and settings.daemon.engine == "pool":
        service.bound_waiting(max(1, free))


def _refuse_body(settings: Settings, reason: str) -> None:
    """[limits] body for who takes no bodies; what is said to all daemons is for those that do."""
    origin = settings.origins.get(("limits", "body"), "")
    if origin != "conf/defaults.ini":
        raise ConfigurationError([f"{origin} [limits] body: {reason}; it is for what speaks HTTP"])


def _check_transports(settings: Settings, kind: type[socketserver.BaseRequestHandler]) -> None:
    """A handler of the standard library's two subclasses is for one kind of socket only."""
    for address in settings.addresses:
        over_udp = address.scheme == "udp"
        if address.inherited or not issubclass(kind, _OUT_OF_PLACE[over_udp]):
            continue
        what = "a handler of streams" if over_udp else "a handler of datagrams"
        raise ConfigurationError([f"{_where(settings)}: {kind.__name__} is {what}, and {address} is not for it"])


def application_of(settings: Settings) -> Callable[..., Any]:
    """The application that ``wsgi =`` names, ready to be called.  Raises as `request_handlers` does."""
    if not settings.daemon.wsgi:
        raise ConfigurationError([f"{_where(settings)}: no WSGI application; one is written wsgi = module:NAME"])
    kind = spoken_class(settings)
    service: Any = make_service(settings, kind)
    return cast(Callable[..., Any], service.ready)


def make_service(settings: Settings, kind: type[Service]) -> Service:
    """The service with the options of its own section."""
    options = options_of(settings, kind)
    with reported_as_complaint(kind.__name__, "it was made", _where(settings), settings.base):
        try:
            service = kind(options)
        except TypeError as error:  # so a class refuses its options; the text is for the author of the ini
            raise ConfigurationError([f"{_where(settings)}: {error}"]) from error
    return _limited(settings, service)


def _limited(settings: Settings, service: Service) -> Service:
    """`service` with the limit of bodies that the ini sets."""
    body = settings.limits.body
    if body is not None:
        from daemons.framings.http import HTTP

        framing = service.framing
        if isinstance(framing, HTTP):
            service.framing = HTTP(head=framing.head, headers=framing.headers, body=body)
        elif settings.daemon.jsonrpc:
            service.framing = Lines(limit=body)  # the same calls, one on each line
        else:
            _refuse_body(settings, f"{type(service).__name__} takes no requests")
    return service


def options_of(settings: Settings, kind: type) -> Any:
    """The service's own section, None where it declares none: then there must be nothing in it."""
    complaints: list[str] = []
    options: Any = None
    layers = [(settings.origins[settings.own_section, key], {key: text}) for key, text in settings.own.items()]
    described: Any = kind
    declared = described.Options if issubclass(kind, Service) or is_published(kind) else None
    if declared is not None:
        with _in_folder(settings.base):
            options, _ = parse_section(declared, settings.own_section, layers, complaints)
        places = [field.name for field in dataclasses.fields(options) if kind_of(field) is PATH]
        placed = {name: str(settings.placed(getattr(options, name))) for name in places}
        options = dataclasses.replace(options, **placed)
    else:
        complaints += [
            f"{origin} [{settings.own_section}] {key}: {kind.__name__} has no options"
            for origin, values in layers
            for key in values
        ]
    options = tables.added(settings, kind, options, complaints)
    if complaints:
        raise ConfigurationError(complaints)
    return options


@contextmanager
def _in_folder(base: Path) -> Iterator[None]:
    """Where the paths of an option start from.  A daemon that serves is there already; `daemons check` may not be."""
    if Path.cwd() == base:
        yield
    else:
        with chdir(base):
            yield


def spoken_class(settings: Settings) -> Any:
    """The class that ``service =`` or ``handler =`` names; a service of the application that ``wsgi =`` names; or a
    handler of what ``rpc =`` publishes."""
    if str(settings.base) not in sys.path:
        sys.path.insert(0, str(settings.base))
    if settings.daemon.handler:
        module, _, name = settings.daemon.handler.partition(":")
        return _class_in(_module(settings, module), name, socketserver.BaseRequestHandler, settings)
    if settings.daemon.wsgi:
        module, _, name = settings.daemon.wsgi.partition(":")
        return _application_in(_module(settings, module), name, settings)
    if settings.daemon.rpc or settings.daemon.jsonrpc:
        return _published(settings)
    module, _, name = settings.daemon.service.partition(":")
    if name:
        return _class_in(_module(settings, module), name, Service, settings)
    found = _module(settings, f"daemons.{module}")
    services = [
        kind
        for kind in vars(found).values()
        if inspect.isclass(kind) and issubclass(kind, Service) and kind.__module__ == found.__name__
    ]
    stand_ins = [kind.datagrams for kind in services]
    services = [kind for kind in services if kind not in stand_ins]
    if len(services) != 1:
        names = ", ".join(kind.__name__ for kind in services) or "none"
        raise ConfigurationError(
            [f"{_where(settings)}: one Service is expected in daemons.{module}, found {names}; write module:Class"]
        )
    return services[0]


def _module(settings: Settings, name: str) -> ModuleType:
    with reported_as_complaint(name, "it was imported", _where(settings), settings.base):
        return _imported(settings, name)


def _imported(settings: Settings, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            where = f"in {settings.base} or the environment" if not name.startswith("daemons.") else "in the suite"
            reason = f"there is no module {missing} {where}; one of your own is written module:Class"
        else:
            reason = f"{name} needs {missing}, which is not installed"
            if name.startswith("daemons."):
                reason += ": pip install 'camelot-daemons[all]'"
        raise ConfigurationError([f"{_where(settings)}: {reason}"]) from error


def _class_in(module: ModuleType, name: str, base: type, settings: Settings) -> Any:
    kind = getattr(module, name, None)
    if kind is None:
        classes = [key for key, value in vars(module).items() if inspect.isclass(value)]
        raise ConfigurationError([f"{_where(settings)}: {module.__name__} has no {name}{hint(name, classes)}"])
    if not (inspect.isclass(kind) and issubclass(kind, base)):
        raise ConfigurationError([f"{_where(settings)}: {name} is not a subclass of {base.__module__}.{base.__name__}"])
    return kind


def _application_in(module: ModuleType, name: str, settings: Settings) -> Any:
    application = getattr(module, name, None)
    if application is None:
        names = [key for key, value in vars(module).items() if callable(value)]
        raise ConfigurationError([f"{_where(settings)}: {module.__name__} has no {name}{hint(name, names)}"])
    if not callable(application):
        raise ConfigurationError([f"{_where(settings)}: {name} is not callable; a WSGI application is, PEP 3333"])
    for key, base in (("service", Service), ("handler", socketserver.BaseRequestHandler)):
        if inspect.isclass(application) and issubclass(application, base):
            reason = f"{name} is no WSGI application; write {key} = {settings.daemon.wsgi}"
            raise ConfigurationError([f"{_where(settings)}: {reason}"])
    from daemons.web.wsgi.service import WSGIService  # http.server is dear, and most do without it

    engine = settings.daemon.engine
    return WSGIService.of(
        application,
        name,
        module.__name__,
        multithread=engine in ("threads", "pool"),
        multiprocess=engine == "forks" or settings.processes > 1,
    )


def _published(settings: Settings) -> Any:
    """The handler of what ``rpc =`` publishes, or the service of what ``jsonrpc =`` does."""
    path, _, name = settings.spoken[1].partition(":")
    module = _module(settings, path)
    origin = getattr(module, name, None) if name else module
    if origin is None:
        raise ConfigurationError([f"{_where(settings)}: {path} has no {name}{hint(name, vars(module))}"])
    try:
        return publication(settings, origin)
    except (TypeError, ValueError) as error:
        raise ConfigurationError([f"{_where(settings)}: {error}"]) from error


def _where(settings: Settings) -> str:
    key, value = settings.spoken
    origin = settings.origins.get(("daemon", key), f"conf/{settings.name}.ini")
    return f"{origin} [daemon] {key} = {value}"
