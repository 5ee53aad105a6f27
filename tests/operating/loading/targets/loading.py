"""A module with services, and functions that load the target of an ini."""

from __future__ import annotations

import socketserver

import pytest

from daemons.operating.loading.targets import RequestHandlers, target_of
from daemons.serving.pump import Pump
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
