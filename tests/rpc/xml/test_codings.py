"""Content codings of calls and their responses: Content-Encoding and Accept-Encoding."""

from __future__ import annotations

import gzip
import logging
import xmlrpc.client

import pytest

import daemons.adder
import daemons.rpcmath
from tests.rpc.calling import loaded, post, request, server_for, visit, visit_server
from tests.web.talking import said

ADD = xmlrpc.client.dumps((3, 5), "add").encode()

#: Values of Accept-Encoding, and whether they ask for gzip.
ACCEPTED = {
    "gzip": True,
    "gzip, deflate, br": True,
    "GZIP": True,
    "x-gzip": True,
    "*": True,
    "identity;q=0, gzip;q=0.1": True,
    "gzip;q=0": False,
    "gzip;q=0.1, identity;q=0.5": False,
    "gzip;q=1.2.3": False,
    "br": False,
    "xgzip": False,
}


def test_with_a_handler_and_without_one_the_answer_is_the_same(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    joined = xmlrpc.client.dumps(("x" * 2000, "y"), "addtogether").encode()
    for module, body in ((daemons.adder, ADD), (daemons.adder, b"nonsense"), (daemons.rpcmath, joined)):
        heard = []
        for logs in (False, True):
            handler, kind = server_for(module)
            server = kind(("127.0.0.1", 80), handler, bind_and_activate=False)
            server.logRequests = logs
            with visit_server(server) as there:
                for accepted in ACCEPTED:
                    response = post(there, body, f"Accept-Encoding: {accepted}")
                    fields = {name: value for name, value in response.fields.items() if name != "date"}
                    heard.append((accepted, response.status, fields, loaded_or_not(response.fields, response.body)))
                    assert (response.fields.get("content-encoding") == "gzip") is (
                        ACCEPTED[accepted] and len(body) > 1400
                    )
        assert heard[: len(ACCEPTED)] == heard[len(ACCEPTED) :]
    logged = [record for record in caplog.records if record.name == "daemons.web.handlers.mixins"]
    assert len(logged) == 3 * len(ACCEPTED)


def loaded_or_not(fields: dict[str, str], body: bytes) -> object:
    try:
        return loaded(gzip.decompress(body) if fields.get("content-encoding") == "gzip" else body)
    except xmlrpc.client.Fault as fault:
        return fault.faultCode, fault.faultString


def test_unknown_content_coding_is_not_repeated_in_the_response() -> None:
    with visit(daemons.adder) as there:
        assert b"<b>" not in said(there, request(ADD, "Content-Encoding: <b>"))


@pytest.mark.parametrize("weight", ["1.2.3", ".", "1e400", "9" * 400, "0", "-1", "", "nan"])
def test_malformed_weight_of_a_coding_gets_an_answer_without_a_coding(weight: str) -> None:
    with visit(daemons.rpcmath) as there:
        body = xmlrpc.client.dumps(("x" * 3000,), "remote_repr").encode()
        response = post(there, body, f"Accept-Encoding: gzip;q={weight}")
        assert (response.status, "content-encoding" in response.fields) == (200, False)
        assert there.failure is None
        weighted = post(there, body, "Accept-Encoding: identity;q=0.5, gzip;q=0.7")
        assert weighted.fields["content-encoding"] == "gzip"


def test_bytes_behind_gzip_data_are_refused() -> None:
    """Of several members (RFC 1952, section 2.2), a reader that stops at the first would execute another call."""
    for behind in (gzip.compress(ADD), b"\0", b"a" * 100):
        with visit(daemons.adder) as there:
            assert post(there, gzip.compress(ADD) + behind, "Content-Encoding: gzip").status == 400
            assert loaded(post(there, gzip.compress(ADD), "Content-Encoding: gzip").body) == 8
