"""Mutated upstream responses: h11 accepts each forwarded response, which is complete or visibly cut short."""

from __future__ import annotations

import random
import socketserver
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from daemons.httpd import Httpd
from daemons.serving.conversation.service import ReplyCutShort
from daemons.serving.conversation.states import OVER
from daemons.web.gateway.upstream_address import UPSTREAM
from tests.framings.http.test_responses_fuzzed import mutated, theirs
from tests.serving.running import Within
from tests.web.example_site import TEXT, make, request, send, service, talking

#: Mutations, and how many there are of each seed.
SEEDS, COUNT = range(5), 100


class Mutated(socketserver.BaseRequestHandler):
    """Sends the nth mutated response to a request for /app/SEED/n, and closes the connection."""

    def handle(self) -> None:
        with suppress(OSError), self.request.makefile("rb") as stream:
            head = b"".join(iter(stream.readline, b"\r\n"))
            _, seed, number = head.split(b" ")[1].strip(b"/").split(b"/")
            self.request.sendall(response(int(seed), int(number))[0])


def response(seed: int, number: int) -> tuple[bytes, str]:
    """Return a response, perhaps followed by others, and the method of its request."""
    data, methods = mutated(random.Random(1000 * seed + number))
    return data, methods[0]


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Httpd]:
    running = Within("threads", Mutated)
    proxy = {"/app": UPSTREAM.parse("{}:{}".format(*running.address))}
    try:
        with closing(service(make(tmp_path), proxy=proxy, upstream_timeout=20.0)) as httpd:
            yield httpd
    finally:
        running.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_each_response_is_whole_or_visibly_cut_short(front: Httpd, seed: int) -> None:
    statuses = set()
    for number in range(COUNT):
        data, method = response(seed, number)
        with talking(front) as conversation:
            data = send(conversation, request(f"/app/{seed}/{number}", method=method))
            failure = conversation.failure
            found = theirs(data, method)
            assert found is not None, data
            statuses.add(found.status)
            if failure is not None:
                assert isinstance(failure, ReplyCutShort)
                assert not found.complete, data
                continue
            assert (found.complete, found.rest) == (True, b""), data
            names = [name for name, _ in found.fields]
            assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1, data
            assert conversation.state != OVER
            # The next response belongs to the next request.
            assert TEXT in send(conversation, request("/text.txt"))
    assert {200, 502} < statuses
