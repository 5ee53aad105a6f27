"""Targets: from the value in an ini to a class; every fault is a complaint about the ini."""

from __future__ import annotations

import socketserver

import pytest

from daemons.operating.loading.targets import RequestHandlers, target_of
from daemons.serving.engines import ENGINES
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from daemons.settings.complaints import ConfigurationError
from tests.operating.folder import Folder

GREETER = """
    from dataclasses import dataclass

    from daemons import COUNT, Service, Until, setting


    @dataclass(frozen=True)
    class Options:
        times: int = setting(COUNT, 1, "repetitions")
        wait: int = setting(COUNT, 9, "seconds")


    class Greeter(Service):
        framing = Until(b"!", limit=64)
        Options = Options

        def respond(self, message):
            return message * self.options.times


    class Plain(Service):
        framing = Until(b"!", limit=64)

        def respond(self, message):
            return message


    class Unframed(Service):
        def respond(self, message):
            return message


    class Mute(Service):
        framing = Until(b"!", limit=64)


    number = 1
"""

SUITE = "daemons.launcelot"


@pytest.fixture
def project(folder: Folder) -> Folder:
    """A project with a module of its own."""
    folder.module("greeter", GREETER)
    return folder


def handlers(folder: Folder, target: str, more: str = "") -> RequestHandlers:
    folder.write("x", f"[daemon]\n{target}\nport = 1\n{more}")
    return target_of(folder.read()).request_handlers()


def load(folder: Folder, target: str, more: str = "") -> type[socketserver.BaseRequestHandler]:
    return handlers(folder, target, more).stream


def complaints(folder: Folder, target: str, more: str = "") -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, target, more)
    return caught.value.complaints


def service_of(handler: type[socketserver.BaseRequestHandler]) -> object:
    assert issubclass(handler, Pump)
    return handler.service


def test_name_is_the_only_service_of_a_module_of_the_suite(folder: Folder) -> None:
    from daemons.launcelot import Launcelot

    assert isinstance(service_of(load(folder, "service = launcelot")), Launcelot)


def test_module_beside_the_conf_folder_is_found(project: Folder) -> None:
    handler = load(project, "service = greeter:Plain")
    assert type(service_of(handler)).__name__ == "Plain"
    assert issubclass(handler, Pump)
    assert handler.memory.service is handler.service


def test_module_of_a_package_is_found(folder: Folder) -> None:
    (folder.path / "package").mkdir()
    folder.module("package/inner", GREETER)
    assert type(service_of(load(folder, "service = package.inner:Plain"))).__name__ == "Plain"


def test_options_come_from_the_section_named_after_the_service(project: Folder) -> None:
    service = service_of(load(project, "service = greeter:Greeter", "[greeter]\ntimes = 3\n"))
    assert service.respond(b"ho!") == b"ho!ho!ho!"  # type: ignore[attr-defined]
    assert service.options.wait == 9  # type: ignore[attr-defined]


def test_wrong_options_are_reported_all_at_once(project: Folder) -> None:
    project.write("defaults", "[greeter]\ntims = 3\n")
    assert complaints(project, "service = greeter:Greeter", "[greeter]\ntimes = often\nwait = 0\n") == [
        "conf/defaults.ini [greeter] tims: no such setting; did you mean times?",
        "conf/x.ini [greeter] times = often: not a count; write a whole number above 0",
        "conf/x.ini [greeter] wait = 0: not a count; write a whole number above 0",
    ]


def test_options_of_a_service_without_options_are_refused(project: Folder) -> None:
    assert complaints(project, "service = greeter:Plain", "[plain]\ntimes = 3\n") == [
        "conf/x.ini [plain] times: Plain has no options"
    ]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (
            "service = nosuch",
            "there is no module daemons.nosuch in the suite; one of your own is written module:Class",
        ),
        (
            "service = nosuch:Class",
            "there is no module nosuch in {} or the environment; one of your own is written module:Class",
        ),
        (
            "handler = no.such:Class",
            "there is no module no in {} or the environment; one of your own is written module:Class",
        ),
        (
            "service = endings",
            "there is no module daemons.endings in the suite; one of your own is written module:Class",
        ),
        ("service = greeter:Greter", "greeter has no Greter; did you mean Greeter?"),
        ("service = greeter:number", "number is not a subclass of daemons.serving.conversation.service.Service"),
        ("service = socketserver:StreamRequestHandler", "StreamRequestHandler is not a subclass of daemons.serving"),
        ("handler = greeter:Greeter", "Greeter is not a subclass of socketserver.BaseRequestHandler"),
        ("service = greeter:Unframed", "Unframed: no framing; write for example framing = Until(b'?', limit=4096)"),
        ("service = greeter:Mute", "Mute: neither respond() nor talk() is defined; one is expected"),
        ("service = clients", "one Service is expected in daemons.clients, found none; write module:Class"),
    ],
)
def test_target_that_cannot_be_loaded_is_a_complaint_about_the_ini(project: Folder, target: str, reason: str) -> None:
    (complaint,) = complaints(project, target)
    assert complaint.startswith(f"conf/x.ini [daemon] {target}: {reason.format(project.path)}")


def test_two_services_in_a_module_of_the_suite_are_ambiguous(project: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    import daemons.launcelot

    another = type("Another", (daemons.launcelot.Launcelot,), {"__module__": SUITE})
    monkeypatch.setattr(daemons.launcelot, "Another", another, raising=False)
    assert complaints(project, "service = launcelot") == [
        "conf/x.ini [daemon] service = launcelot: "
        "one Service is expected in daemons.launcelot, found Launcelot, Another; write module:Class"
    ]
    assert type(service_of(load(project, "service = daemons.launcelot:Another"))) is another


def test_a_dependency_that_is_not_installed_is_named(folder: Folder) -> None:
    folder.module("needy", "import no_such_package.part\n")
    assert complaints(folder, "service = needy:Needy") == [
        "conf/x.ini [daemon] service = needy:Needy: needy needs no_such_package, which is not installed"
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1 / 0", ZeroDivisionError),
        ("def", SyntaxError),
        ("raise KeyError('x')", KeyError),
        ("import os.x", ImportError),
    ],
)
def test_exception_during_import_is_reported(folder: Folder, text: str, error: type[Exception]) -> None:
    folder.module("angry", text)
    with pytest.raises((error, ConfigurationError)):
        load(folder, "service = angry:Angry")


def test_stock_handler_is_served_unchanged(folder: Folder) -> None:
    folder.module("stock", "import socketserver\n\nclass Stock(socketserver.StreamRequestHandler):\n    pass\n")
    handler = load(folder, "handler = stock:Stock")
    assert handler.__name__ == "Stock"
    assert not issubclass(handler, Pump)


def test_a_stock_handler_has_no_options(folder: Folder) -> None:
    assert complaints(folder, "handler = socketserver:StreamRequestHandler", "[streamrequesthandler]\na = 1\n") == [
        "conf/x.ini [streamrequesthandler] a: StreamRequestHandler has no options"
    ]


def test_handler_of_the_standard_library_is_a_target(folder: Folder) -> None:
    assert load(folder, "handler = socketserver:StreamRequestHandler") is socketserver.StreamRequestHandler


def test_under_loop_only_http_handlers_in_memory_are_accepted(folder: Folder) -> None:
    folder.module(
        "web",
        """
        from http.server import BaseHTTPRequestHandler


        class Reading(BaseHTTPRequestHandler):
            def handle(self):
                pass
        """,
    )
    for target in ("http.server:SimpleHTTPRequestHandler", "web:BaseHTTPRequestHandler"):
        for engine in ENGINES:
            found = handlers(folder, f"handler = {target}\nengine = {engine}")
            assert found.server_class.__name__ == "WebServer"
    assert complaints(folder, "handler = web:Reading\nengine = loop") == [
        "conf/x.ini [daemon] handler = web:Reading: engine = loop cannot run a raw handler, which blocks; "
        "write engine = threads"
    ]
    assert handlers(folder, "handler = web:Reading").server_class.__name__ == "WebServer"
    assert handlers(folder, "handler = socketserver:StreamRequestHandler").server_class is StreamServer
    assert handlers(folder, "service = launcelot").server_class is StreamServer


def test_service_without_state_has_a_shared_memory(folder: Folder) -> None:
    handler = load(folder, "service = launcelot")
    assert issubclass(handler, Pump)
    assert handler.memory is not None


@pytest.mark.parametrize(
    ("handler", "listen", "complaint"),
    [
        (
            "StreamRequestHandler",
            "udp://127.0.0.1:1",
            "StreamRequestHandler is a stream handler, which cannot serve udp://",
        ),
        (
            "DatagramRequestHandler",
            "tcp://127.0.0.1:1",
            "DatagramRequestHandler is a datagram handler, which cannot serve tcp://",
        ),
        ("DatagramRequestHandler", "udp://[::1]:1 unix:run/x.sock", "is a datagram handler, which cannot serve unix:"),
    ],
)
def test_handler_for_another_socket_type_is_refused(folder: Folder, handler: str, listen: str, complaint: str) -> None:
    folder.write("x", f"[daemon]\nhandler = socketserver:{handler}\nlisten = {listen}\n")
    with pytest.raises(ConfigurationError, match=complaint):
        target_of(folder.read()).request_handlers()
    folder.write("x", "[daemon]\nhandler = socketserver:BaseRequestHandler\nlisten = udp://[::1]:1 tcp://[::1]:1\n")
    assert target_of(folder.read()).request_handlers().datagram is socketserver.BaseRequestHandler


@pytest.mark.parametrize(
    "listen", ["tcp://127.0.0.1:1", "fd://0", "tls://127.0.0.1:1 unix:run/x.sock\n[tls]\ncertificate = x.pem"]
)
def test_service_that_requires_tls_is_refused_without_tls(folder: Folder, listen: str) -> None:
    folder.write("x", f"[daemon]\nservice = tlsd\nlisten = {listen}\n")
    with pytest.raises(ConfigurationError) as raised:
        target_of(folder.read()).request_handlers()
    (complaint,) = raised.value.complaints
    assert complaint.startswith("conf/x.ini [daemon] service = tlsd: the service requires TLS; not encrypted: ")
    assert complaint.endswith("; write listen = tls://HOST:PORT")
