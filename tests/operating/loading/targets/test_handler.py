"""Target ``handler =``: request handlers of socketserver and http.server."""

from __future__ import annotations

import socketserver

import pytest

from daemons.operating.loading.targets import target_of
from daemons.serving.engines import ENGINES
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from daemons.settings.complaints import ConfigurationError
from tests.operating.folder import Folder
from tests.operating.loading.targets.loading import complaints, handlers, load


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
