"""Fuzzed requests get a page, and never 500."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from wsgiref.validate import validator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import create_environ, run_wsgi_app

from daemons.web.wsgi.fields import head_of
from daemons.webapp import Webapp
from daemons.webapp.bank import LONGEST_MEMO, LONGEST_NAME, field_errors
from tests.webapp.visitor import Visitor

PATHS = [
    *("/", "/bank", "/bank/", "/bank/login", "/bank/logout", "/bank/pay", "/weather", "/zipcity.php", "/base64/encode"),
    *(
        "/bottle/",
        "/bottle/encode",
        "/environ/",
        "/time",
        "/api/base64",
        "/api/weather/x",
        "/rpc",
        "/jsonrpc",
        "/static/x",
    ),
]

#: Parts of bodies and queries: forms in both encodings, JSON, XML, and malformed data.
PIECES = st.sampled_from(
    [
        *(b"token=", b"&", b"=", b"+", b"%", b"%ff", b"%ed%a0%80", b"%u1234", b"%00", b"\xff", b";", b"a" * 100),
        *(
            b"mystring=",
            b"inputstring=",
            b"account=x",
            b"dollars=9",
            b"username=x&password=y",
            b"--b\r\n",
            b"--b--\r\n",
        ),
        *(
            b'Content-Disposition: form-data; name="token"',
            b"; filename=x",
            b"\r\n\r\n",
            b"; charset=utf-16",
            b"[",
            b"{",
        ),
        *(
            b"Content-Type: text/plain",
            b'"',
            b'{"mystring":"\\ud800"}',
            b"null",
            b"<methodCall>",
            b"<value>",
            b"\xc3\xa4",
        ),
    ]
)
BODIES = st.lists(PIECES, max_size=12).map(b"".join) | st.binary(max_size=40)
#: No server lets a control character through (tests/framings/http/test_refused.py).
TEXTS = BODIES.map(lambda octets: "".join(chr(octet) for octet in octets if 32 < octet != 127))
MEDIA = st.sampled_from(
    [
        *(
            "",
            "application/x-www-form-urlencoded",
            "application/x-www-form-urlencoded; charset=utf-16",
            "text/xml",
            "x",
        ),
        *(
            "multipart/form-data",
            "multipart/form-data; boundary=b",
            "multipart/form-data; boundary=\xff",
            "application/json",
        ),
        *("multipart/form-data; boundary=", "multipart/form-data; boundary=" + "b" * 80),
    ]
)
FIELDS = st.dictionaries(
    st.sampled_from(
        [
            *("HTTP_COOKIE", "HTTP_HOST", "HTTP_ORIGIN", "HTTP_RANGE", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE"),
            *("HTTP_AUTHORIZATION", "HTTP_CONTENT_ENCODING", "HTTP_X_HTTP_METHOD_OVERRIDE", "HTTP_ACCEPT_LANGUAGE"),
        ]
    ),
    st.lists(
        st.sampled_from(
            [
                *(
                    "session=",
                    "session",
                    '"',
                    "\\377",
                    ";",
                    ",",
                    "=",
                    "a.b.c",
                    "eyJ",
                    "\xff",
                    "$Version",
                    "localhost",
                    ":9",
                ),
                *("[::1]", "[zz", "null", "http://", "bytes=", "0-", "W/", "*", "gzip", "Basic ", "PUT", "9" * 20),
            ]
        ),
        max_size=6,
    ).map("".join),
    max_size=4,
)
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"]

#: The fixtures are made once for all examples, since a site and a login are dear.
once = [HealthCheck.function_scoped_fixture]


@pytest.fixture
def served(site: Callable[..., Webapp]) -> Webapp:
    """Return the site."""
    return site()


@pytest.fixture
def customer(visitor: Visitor) -> Visitor:
    """Return a logged-in client."""
    assert visitor.log_in().status_code == 303
    return visitor


def _asked(site: Any, method: str, path: str, **more: Any) -> int:
    environ = create_environ(path, method=method, data=more.get("body", b""))
    environ |= {"QUERY_STRING": more.get("query", ""), **more.get("fields", {})}
    if more.get("media"):
        environ["CONTENT_TYPE"] = more["media"]
    pieces, status, headers = run_wsgi_app(validator(site), environ, buffered=True)
    list(pieces)
    head_of(status, list(headers))  # what our server would not say, it raises an error for
    return int(status[:3])


@given(
    st.sampled_from(METHODS) | st.just("POST"),
    st.tuples(st.sampled_from(PATHS), st.just("") | TEXTS).map("".join),
    BODIES,
    TEXTS,
    MEDIA,
    FIELDS,
)
@settings(max_examples=150, suppress_health_check=once)
def test_any_octets_are_answered(
    served: Webapp, method: str, path: str, body: bytes, query: str, media: str, fields: dict[str, str]
) -> None:
    """For any method, path, query, body and fields, cookies among them, there is an answer that may be sent, and it is
    none of the errors that are the site's own."""
    path, _, _ = path.partition("?")
    status = _asked(served, method, path, body=body, query=query, media=media, fields=fields)
    assert status < 500 or status == 501


@given(st.dictionaries(st.sampled_from(["account", "dollars", "memo", "token"]), st.text(max_size=8)))
@settings(max_examples=60, suppress_health_check=once)
def test_any_payment_is_made_or_complained_of(customer: Visitor, form: dict[str, str]) -> None:
    """For any fields of a logged-in user's form, an invalid payment is not stored, and a stored one is valid."""
    values = {name: form.get(name, "").strip() for name in ("account", "dollars", "memo")}
    fields = {"token": customer.token("/bank/pay"), **form} if "token" not in form else form
    data = {name: text.encode("utf-8", "surrogatepass") for name, text in fields.items()}
    status = customer.post("/bank/pay", data=data).status_code
    wrong = field_errors(values)
    assert status == (403 if "token" in form else 422 if wrong else 303)
    if not wrong:
        assert len(values["account"]) <= LONGEST_NAME
        assert len(values["memo"]) <= LONGEST_MEMO
        assert 0 < int(values["dollars"]) < 10**6
