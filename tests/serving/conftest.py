"""Fixtures that run daemons, and check that they end cleanly."""

from __future__ import annotations

import dataclasses
import socketserver
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from daemons import Service
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from daemons.settings.values import kind_of
from tests.serving.running import Process, Running, Within

ENGINES = ("one", "threads", "forks", "pool", "loop")

#: Forks is not among them: a child would inherit the sockets of peers in the same process, which would then never see
#: the end of the stream.
WAYS = ("one in this process", "threads in this process", "pool in this process", "loop in this process", *ENGINES)

#: For slow tests: each engine once.
ONCE = ("one in this process", "threads in this process", "forks", "pool in this process", "loop")
once = pytest.mark.parametrize("way", ONCE, indirect=True)

#: The same for raw handlers, which cannot run under loop.
raw = pytest.mark.parametrize("way", [way for way in WAYS if not way.startswith("loop")], indirect=True)
raw_once = pytest.mark.parametrize("way", ONCE[:-1], indirect=True)

Kind = type[Service] | type[socketserver.BaseRequestHandler]


class Run(Protocol):
    """Start a daemon with a service or handler, and limits in the form of an ini."""

    def __call__(self, kind: Kind, /, **limits: str) -> Running: ...


@pytest.fixture
def within() -> Iterator[Callable[..., Within]]:
    """Start servers in this process."""
    with ExitStack() as stack:

        def start(*arguments: Any, **keywords: Any) -> Within:
            started = Within(*arguments, **keywords)
            stack.callback(started.close)
            return started

        yield start


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start ``daemons run`` processes, and wait until each is ready."""
    with ExitStack() as stack:

        def start(*arguments: Any, **keywords: Any) -> Process:
            started = Process(tmp_path, *arguments, **keywords)
            stack.callback(started.close)
            return started.ready()

        yield start


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Process]]:
    """As `process`, but shared by all tests with the same arguments, and stopped at the end of the session."""
    started: dict[tuple[object, ...], Process] = {}
    with ExitStack() as stack:

        def start(service: str, engine: str, *settings: str, key: str = "service") -> Process:
            wanted = (service, engine, settings)
            if wanted not in started:
                new = started[wanted] = Process(tmp_path_factory.mktemp("kept"), service, engine, *settings, key=key)
                new.keep()
                stack.callback(new.close)
                new.ready()
            started[wanted].forget()
            return started[wanted]

        yield start


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Each engine, as a process and, if possible, in this process."""
    return str(request.param)


@pytest.fixture
def run(way: str, within: Callable[..., Within], kept: Callable[..., Process]) -> Run:
    """Start a daemon under each engine in turn."""

    def start(kind: Kind, /, **limits: str) -> Running:
        engine, *here = way.split(" ", 1)
        if here:
            handler = Pump.for_service(kind()) if issubclass(kind, Service) else kind
            return within(engine, handler, parsed(limits))
        key = "service" if issubclass(kind, Service) else "handler"
        settings = [f"limits.{name}={text}" for name, text in limits.items()]
        return kept(f"{kind.__module__}:{kind.__name__}", engine, *settings, key=key)

    return start


def parsed(limits: dict[str, str]) -> Limits:
    """Parse limits in the form of an ini."""
    fields = {field.name: field for field in dataclasses.fields(Limits)}
    return Limits(**{name: kind_of(fields[name]).parse(text) for name, text in limits.items()})
