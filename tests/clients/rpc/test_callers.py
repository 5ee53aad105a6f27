"""Authentication of callers by XML-RPC and JSON-RPC, also below WSGI: the same rules for one users file."""

from __future__ import annotations

import base64
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

import daemons.adder
from daemons import jsonrpc
from daemons.accounts import Accounts, accounts, verifier
from daemons.accounts.hashes import generate_secret, hash_password
from daemons.accounts.throttle import NAMED
from daemons.operating.loading.targets import target_of
from daemons.rpc.json.service import JSONRPC
from daemons.rpc.json.wsgi import JSONApplication
from daemons.rpc.xml.wsgi import RPC, dispatcher
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.peer import Peer
from daemons.settings.complaints import ConfigurationError
from tests.accounts.files import CHEAP, write_lines, write_secret
from tests.operating.conftest import folder
from tests.operating.folder import Folder
from tests.rpc.calling import post, visit
from tests.web.talking import get, responses, said

__all__ = ["folder"]

ADD = xmlrpc.client.dumps((3, 5), "add").encode()
LENGTHS = b'{"jsonrpc":"2.0","method":"lengths","params":["abc"],"id":1}'

#: Maps a secret to the status and the header fields of the response.
Caller = Callable[[str], tuple[int, Any]]


def basic(secret: str) -> str:
    return f"Basic {base64.b64encode(f'robin:{secret}'.encode()).decode()}"


@contextmanager
def by_xml(users: Accounts) -> Iterator[Caller]:
    with visit(daemons.adder, users=users) as there:

        def call(secret: str) -> tuple[int, Any]:
            response = post(there, ADD, f"Authorization: {basic(secret)}")
            return response.status, response.fields

        yield call


@contextmanager
def by_xml_page(users: Accounts) -> Iterator[Caller]:
    """Requests that are served by the handler and not by the service."""
    with visit(daemons.adder, users=users) as there:

        def call(secret: str) -> tuple[int, Any]:
            response = post(there, b"", f"Authorization: {basic(secret)}", method="GET")
            return response.status, response.fields

        yield call


@contextmanager
def by_json(users: Accounts) -> Iterator[Caller]:
    kind = JSONRPC.of(jsonrpc, "jsonrpc")
    service = kind(kind.Options(users=users))

    class Known(Conversation):
        def begin(self) -> Any:
            return service.talk(Peer("192.0.2.7:4242", "192.0.2.7", False))

    there = Known(service)
    there.open()

    def call(secret: str) -> tuple[int, Any]:
        requests = get("/", f"Authorization: {basic(secret)}", method="POST", body=LENGTHS)
        (response,) = responses(said(there, requests))
        return response.status, response.fields

    yield call
    there.close()


@contextmanager
def by_wsgi(application: Any, body: bytes) -> Iterator[Caller]:
    client = Client(application)

    def call(secret: str) -> tuple[int, Any]:
        headers = {"Authorization": basic(secret)}
        response = client.post("/rpc", data=body, headers=headers, content_type="application/json", buffered=True)
        return response.status_code, {name.lower(): value for name, value in response.headers.items()}

    yield call


def by_xml_wsgi(users: Accounts) -> Any:
    return by_wsgi(RPC({"/rpc": dispatcher(daemons.adder)}, users=users), ADD)


def by_json_wsgi(users: Accounts) -> Any:
    return by_wsgi(JSONApplication({"/rpc": jsonrpc}, users=users), LENGTHS)


every = pytest.mark.parametrize("calling", [by_xml, by_xml_page, by_json, by_xml_wsgi, by_json_wsgi])


@every
def test_failed_logins_are_throttled_and_verified_callers_are_not_affected(
    tmp_path: Path, calling: Callable[[Accounts], Any]
) -> None:
    secret = write_secret(tmp_path / "users")
    with calling(Accounts(str(tmp_path / "users"))) as call:
        assert call(secret)[0] == 200
        found = [call("the same wrong one") for _ in range(NAMED.burst + 1)]
        assert [status for status, _ in found] == [401] * NAMED.burst + [503]
        assert 1 <= int(found[-1][1]["retry-after"]) <= NAMED.interval
        assert "www-authenticate" in found[0][1]
        assert call(secret)[0] == 200


@every
def test_changed_users_file_applies_to_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calling: Callable[[Accounts], Any]
) -> None:
    monkeypatch.setattr(accounts, "NOTICED", 0.0)
    path = tmp_path / "users"
    first = write_secret(path)
    with calling(Accounts(str(path))) as call:
        assert call(first)[0] == 200
        second = write_secret(path)
        assert [call(first)[0], call(second)[0]] == [401, 200]
        path.write_text("wrong")
        assert (call(second)[0], call(second)[1]["retry-after"]) == (503, "60")
        write_lines(path, f"galahad:{generate_secret()[1]}")
        assert call(second)[0] == 401


@every
def test_scrypt_password_is_verified(tmp_path: Path, calling: Callable[[Accounts], Any]) -> None:
    write_lines(tmp_path / "users", f"robin:{hash_password('x', CHEAP)}")
    with calling(Accounts(str(tmp_path / "users"))) as call:
        assert [call("y")[0], call("x")[0], call("x")[0]] == [401, 200, 200]


@pytest.mark.parametrize("publish", ["rpc = daemons.adder\n", "jsonrpc = daemons.jsonrpc\n"])
def test_slow_hashes_are_refused_under_loop(folder: Folder, publish: str) -> None:
    write_lines(folder.path / "users", f"robin:{hash_password('x', CHEAP)}")
    section = publish.partition(" ")[0]
    folder.write("x", f"[daemon]\n{publish}port = 1\nengine = loop\n[{section}]\nusers = users\n")
    with pytest.raises(ConfigurationError, match=r"scrypt.*; write engine = pool"):
        target_of(folder.read()).request_handlers()
    handler: Any = target_of(folder.read("daemon.engine=pool")).request_handlers().stream
    assert handler
    write_secret(folder.path / "users")
    target_of(folder.read()).request_handlers()


@pytest.mark.parametrize("publish", ["rpc = daemons.adder\n", "jsonrpc = daemons.jsonrpc\n"])
def test_users_file_with_a_byte_order_mark_is_read(folder: Folder, publish: str) -> None:
    secret, stored = generate_secret()
    path = folder.path / "users"
    path.write_bytes(b"\xef\xbb\xbf" + f"robin:{stored}\r\n".encode())
    path.chmod(0o600)
    section = publish.partition(" ")[0]
    folder.write("x", f"[daemon]\n{publish}port = 1\n[{section}]\nusers = users\n")
    options = target_of(folder.read()).options
    assert options.users.check("robin", secret, "").user == "robin"


@pytest.mark.parametrize(
    ("override", "waiting"),
    [
        ("daemon.engine=threads", verifier.WAITING),
        ("daemon.engine=pool", 8),
        ("daemon.threads=6", 3),
        ("daemon.threads=1", 1),
        ("daemon.engine=loop", 0),
    ],
)
def test_concurrent_password_checks_are_limited_per_engine(folder: Folder, override: str, waiting: int) -> None:
    write_secret(folder.path / "users")
    folder.write("x", "[daemon]\nrpc = daemons.adder\nport = 1\nengine = pool\n[rpc]\nusers = users\n")
    target_of(folder.read(override)).request_handlers()
    assert verifier.shared.waiting == waiting
