"""[limits] body: the limit of request bodies in HTTP services."""

from __future__ import annotations

from typing import Any

import pytest

from daemons.framings.http import HTTP
from daemons.operating.loading.targets import target_of
from daemons.operating.reload import InPlace, changed
from daemons.settings.complaints import ConfigurationError
from tests.operating.folder import Folder

HTTPD = "[daemon]\nservice = httpd\nport = 1\n[httpd]\nroot = .\n"


def longest(folder: Folder, ini: str, body: str | None) -> int:
    """Return the effective limit of a server."""
    folder.write("x", ini)
    settings = folder.read(*[f"limits.body={body}"] * (body is not None))
    handlers = target_of(settings).request_handlers()
    with handlers.server_class(("127.0.0.1", 0), handlers.stream, bind_and_activate=False) as server:
        assert server.service is not None
        framing = server.service.framing
        assert isinstance(framing, HTTP)
        return framing.body


@pytest.mark.parametrize(
    ("ini", "auto"),
    [
        ("[daemon]\nhandler = http.server:SimpleHTTPRequestHandler\nport = 1\n", 2**20),
        ("[daemon]\nwsgi = wsgiref.simple_server:demo_app\nport = 1\n", 2**20),
        ("[daemon]\nrpc = daemons.rpcmath\nport = 1\n", 2**20),
        ("[daemon]\njsonrpc = daemons.rpcmath\nport = 1\n", 2**18),
        (HTTPD, 2**16),
        (HTTPD.replace(" .\n", " conf\n") + "[documents]\n/a = b\n", 2**20),
    ],
)
def test_body_limit_is_that_of_the_ini(folder: Folder, ini: str, auto: int) -> None:
    assert [longest(folder, ini, body) for body in (None, "auto", "10B", "5MiB")] == [auto, auto, 10, 5 * 2**20]


def test_body_limit_applies_to_lines(folder: Folder) -> None:
    folder.write("x", "[daemon]\njsonrpc = daemons.rpcmath\nport = 1\n[jsonrpc]\nframing = lines\n")
    for said, limit in ((), 2**18), (("limits.body=100B",), 100):
        pump: Any = target_of(folder.read(*said)).request_handlers().stream
        assert pump.service.framing.limit == limit


def test_body_limit_without_bodies_is_refused(folder: Folder) -> None:
    folder.module("raw", "from socketserver import BaseRequestHandler as Raw\n")
    for said, reason in (
        ("service = launcelot", "Launcelot takes no requests"),
        ("handler = raw:Raw", "BaseRequestHandler reads its socket itself"),
    ):
        folder.write("x", f"[daemon]\n{said}\nport = 1\n[limits]\nbody = 1MiB\n")
        with pytest.raises(ConfigurationError) as caught:
            target_of(folder.read()).request_handlers()
        assert caught.value.complaints == [f"conf/x.ini [limits] body: {reason}; only requests of HTTP have bodies"]
        # In defaults.ini the key applies only to daemons that have bodies.
        folder.write("x", f"[daemon]\n{said}\nport = 1\n")
        folder.write("defaults", "[limits]\nbody = 1MiB\n")
        target_of(folder.read()).request_handlers()
        folder.write("defaults", "")
    folder.write("x", HTTPD + "[limits]\nbody = much\n")
    with pytest.raises(ConfigurationError, match=r"body = much: not a size; write 512B, 64KiB or 10MiB, or auto"):
        folder.read()


def test_changed_body_limit_needs_a_restart(folder: Folder) -> None:
    folder.write("x", HTTPD)
    old, new = folder.read(), folder.read("limits.body=1MiB", "limits.idle_timeout=7s")
    reload: Any = object.__new__(InPlace)
    taken = InPlace._applicable(reload, old, new)
    assert (taken.limits.body, taken.limits.idle_timeout) == (None, 7.0)
    assert changed(taken, new) == [("limits", "body")]
