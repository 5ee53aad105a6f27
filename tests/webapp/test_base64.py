"""The plain WSGI form and the Bottle form: equal requests, equal results."""

from __future__ import annotations

import re
from base64 import b64encode
from html import unescape
from urllib.parse import quote_from_bytes

import pytest

from daemons.webapp.base64_form import base64_form
from daemons.webapp.bottle_form import bottle_form
from tests.webapp.visitor import Visitor

WELCOME = 'Welcome! Enter a string <form action="encode"><input name="mystring"><input type="submit"></form>'

#: For both forms: the request, the status, and the response.
ASKED = {
    "GET /": ((200, WELCOME), (200, "Welcome! Enter a string:")),
    "HEAD /": ((200, ""), (200, "")),
    "POST /": ((400, "Error: the front page is not a form."), (405, "This form does not support that method.")),
    "GET /?a=b": ((400, "Error: the front page is not a form."), (200, "Welcome! Enter a string:")),
    "POST /encode": (
        (400, "Error: this form does not support POST parameters."),
        (405, "This form does not support that method."),
    ),
    "GET /encode": (
        (400, 'Error: this form requires a "mystring" parameter'),
        (400, 'This form requires a "mystring" parameter'),
    ),
    "GET /encode?mystring=": (
        (400, 'Error: this form requires a "mystring" parameter'),
        (400, 'This form requires a "mystring" parameter'),
    ),
    "GET /other": ((404, "That URL is not valid."), (404, "That URL is not valid.")),
}


OCTETS = [b"Camelot", "Grüße".encode(), b"<script>alert('&')</script>", b"\xff\x00\xfe", b"a b+c"]


@pytest.mark.parametrize("mount", [0, 1], ids=["by hand", "with bottle"])
@pytest.mark.parametrize("asked", ASKED)
def test_requests_of_both_forms(visitor: Visitor, asked: str, mount: int) -> None:
    method, target = asked.split()
    status, expected = ASKED[asked][mount]
    response = visitor.open(("/base64", "/bottle")[mount] + target, method=method)
    assert response.status_code == status
    if status == 200:
        assert expected in response.text
        assert response.mimetype == "text/html"
        assert ("</html>" in response.text) == (method != "HEAD")
    else:
        assert (response.text, response.mimetype) == (expected, "text/plain")


@pytest.mark.parametrize("octets", OCTETS)
def test_both_forms_encode_alike_and_escape_the_input(visitor: Visitor, octets: bytes) -> None:
    encoded = b64encode(octets).decode()
    query = f"encode?mystring={quote_from_bytes(octets)}&mystring=second"
    by_hand, with_bottle = (visitor.get(f"/{mount}/{query}").text for mount in ("base64", "bottle"))
    for page in (by_hand, with_bottle):
        assert "<script" not in page
        said, answer = map(unescape, re.findall("<tt>(.*?)</tt>", page, re.DOTALL))
        assert answer == encoded
        if page is by_hand:
            assert said == repr(octets.decode("utf-8", "surrogateescape"))
    assert " base64 encoded is: " in by_hand
    assert by_hand.rstrip().endswith('<br><a href="/">Return to the home page</a></body></html>')
    assert " base 64 encoded is: " in with_bottle
    assert '<a href="/">Return to the home page.</a>' in with_bottle


def test_they_are_applications_without_a_site_around_them_too() -> None:
    for application in (base64_form, bottle_form):
        client = Visitor(application)
        assert "TWF5" in client.get("/encode?mystring=May").text
        assert client.get("/nowhere").status_code == 404


def test_without_its_slash_a_mount_is_redirected(visitor: Visitor) -> None:
    response = visitor.get("/base64?a=b")
    assert (response.status_code, response.headers["Location"]) == (308, "/base64/?a=b")
