"""Content codings of calls and their responses: Content-Encoding and Accept-Encoding."""

from __future__ import annotations

import gzip
import xmlrpc.client

import pytest

import daemons.adder
import daemons.rpcmath
from tests.rpc.calling import loaded, post, request, visit
from tests.web.talking import said

ADD = xmlrpc.client.dumps((3, 5), "add").encode()


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
