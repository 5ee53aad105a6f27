"""HTTP load: verify a server's responses, then measure its rate with wrk: one sample."""

from __future__ import annotations

import http.client
import json
import resource
import time
from dataclasses import dataclass

from benchmarks.generator import MARGIN_SECONDS, WARM_UP_SECONDS, Sample, asking, watched
from benchmarks.loads import Load, Measurement
from benchmarks.machine import Cores, moment, pinned
from benchmarks.servers import Server
from benchmarks.tools import HERE
from benchmarks.web import Request

SCRIPT = HERE / "wrk.lua"
ANSWER_SECONDS = 10.0  # timeout of one response before the measured window


@dataclass(frozen=True)
class _Output:
    """Output of wrk.lua."""

    requests: int
    microseconds: int
    received: int
    """Bytes."""
    refused: int
    """Responses with a status other than success or redirection."""
    broken: int
    """Failed connections, and responses that took longer than two seconds."""
    p50_us: float
    p99_us: float
    max_us: float


def check(request: Request, server: Server) -> None:
    """Send requests one after the other for the length of the warm-up, and verify the responses.

    Raises `RuntimeError` for a wrong response, and if the connection is not kept or closed as the load requires."""
    deadline = time.monotonic() + WARM_UP_SECONDS
    client = http.client.HTTPConnection(server.host, int(server.port), timeout=ANSWER_SECONDS)
    try:
        while time.monotonic() < deadline:
            client.request(request.method, request.path, request.body.encode() or None, dict(request.headers))
            answer = client.getresponse()
            body = answer.read()
            if answer.status != 200 or not request.right(body):
                raise RuntimeError(f"a wrong answer to {request.path}: {answer.status} {body[:60]!r}")
            if (client.sock is None) != request.closing:
                raise RuntimeError("a connection that was to be kept was closed, or one to be closed was kept")
    except (OSError, http.client.HTTPException, ValueError) as trouble:
        raise RuntimeError(f"no answer to {request.path}: {trouble!r}") from trouble
    finally:
        client.close()


def web_sample(program: str, load: Load, server: Server, cores: Cores, seconds: float) -> Sample:
    """Measure one window, after a warm-up in which responses are verified. Raises `RuntimeError` if a response was not
    a success."""
    request = load.request
    assert request is not None
    with pinned(cores.load):
        check(request, server)
    whole = int(load.window(seconds))
    command = [program, "-t", "1", "-c", str(load.connections), "-d", str(whole), "-s", str(SCRIPT)]
    command += [f"http://{server.host}:{server.port}{request.path}", "--", request.method, request.body]
    command += [word for pair in request.headers.items() for word in pair]
    spent = _children()
    with asking(command, cores.load) as process:
        start = moment(server.pid, cores)
        _, trouble = process.communicate(timeout=whole + MARGIN_SECONDS)
        end = moment(server.pid, cores)
    spent = _children() - spent
    try:
        output = _Output(**json.loads(trouble))
    except (ValueError, TypeError):
        raise RuntimeError(f"wrk failed: {trouble.strip()}") from None
    if output.refused or output.received < output.requests * request.least:
        raise RuntimeError(
            f"{output.refused} of {output.requests} responses have an error status; {output.received} bytes received"
        )
    if not output.requests:
        raise RuntimeError(f"no answer in {whole} s")
    return watched(_measurement(load, output, spent), start, end)


def _children() -> float:
    """Return the CPU seconds of reaped child processes: the difference between two moments is wrk's."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _measurement(load: Load, output: _Output, spent: float) -> Measurement:
    wall = output.microseconds / 1e6
    return Measurement(
        mode=load.mode,
        connections=load.connections,
        in_flight=load.in_flight,
        seconds=wall,
        requests=output.requests,
        requests_per_second=output.requests / wall,
        conversations=0,
        conversations_per_second=0.0,
        errors=output.broken,
        wrong=0,
        starved=0,
        unfinished=0,
        all_answered_ms=None,
        p50_us=output.p50_us,
        p99_us=output.p99_us,
        max_us=output.max_us,
        cpu=spent / wall,
    )
