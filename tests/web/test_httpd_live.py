"""httpd, and clients that are not ours."""

from __future__ import annotations

import gzip
import http.client
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from daemons.serving.pump import Pump
from tests.serving.peers import connect, name_of
from tests.serving.running import Within, access_of
from tests.web.example_site import DATE, LONG, SECRET, TEXT, make, request, service


@pytest.fixture(params=["loop", "pool", "threads"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Within]:
    running = Within(request.param, Pump.for_service(service(make(tmp_path))))
    try:
        yield running
    finally:
        running.close()


def test_http_client_and_curl_receive_the_same_responses(running: Within, tmp_path: Path) -> None:
    port = running.address[1]
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as client:
        client.connect()
        socket_before = client.sock
        for path, status, body in (("/text.txt", 200, TEXT), ("/long.bin", 200, LONG), ("/nothing", 404, None)):
            client.request("GET", path)
            response = client.getresponse()
            heard = response.read()
            assert response.status == status
            assert body in (None, heard)
            client.request("HEAD", path)
            response = client.getresponse()
            assert (response.status, response.read()) == (status, b"")
            assert int(response.headers["Content-Length"]) == len(heard)
        client.request("GET", "/long.bin", headers={"Range": "bytes=1-200000"})
        assert client.getresponse().read() == LONG[1:200_001]
        # One connection for all requests.
        assert client.sock is socket_before
    if not (curl := shutil.which("curl")):
        pytest.skip("curl is missing: make engines")

    def curled(*words: str) -> bytes:
        where = f"http://127.0.0.1:{port}"
        command = [curl, "-sS", "--max-time", "20", *(where + word if word[0] == "/" else word for word in words)]
        return subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout

    assert curled("--compressed", "/text.txt", "/ready.css") == TEXT * 2
    # Two pages over one connection.
    assert curled("-o", "a", "-o", "b", "-w", "%{num_connects}", "/text.txt", "/ready.css") == b"10"
    assert gzip.decompress(curled("-H", "Accept-Encoding: gzip", "/text.txt")) == TEXT
    curled("--etag-save", "tag", "/text.txt")
    assert curled("--etag-compare", "tag", "-w", "%{http_code}", "/text.txt") == b"304"
    assert curled("-z", DATE, "-w", "%{http_code}", "/text.txt") == b"304"
    assert curled("-L", "/sub") == b"below"
    assert curled("-0", "-r", "-5", "/long.bin") == LONG[-5:]
    assert SECRET not in curled("--path-as-is", "/../secret.txt")
    assert curled("-X", "POST", "-d", "x" * 2000, "-H", "Expect: 100-continue", "-o", "-", "/")[:9] == b"<!DOCTYPE"
    running.expect_no_connections()


def test_file_is_closed_when_the_client_disconnects(running: Within) -> None:
    with connect(running.address) as peer:
        # More than the socket buffers hold.
        peer.sendall(request("/long.bin") * 200)
        assert peer.recv(15) == b"HTTP/1.1 200 OK"
        name = name_of(peer)
    assert access_of(running, name)[0] == "reset"
    running.expect_no_connections()
