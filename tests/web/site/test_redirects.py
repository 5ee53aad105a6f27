"""Redirects, also from HTTP to HTTPS.  Without sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemons.httpd import Httpd
from daemons.operating.loading.targets import target_of
from daemons.serving.conversation.peer import Peer
from daemons.settings.complaints import ConfigurationError
from daemons.web.site.redirects import HTTPS, REDIRECT, REDIRECT_PATH, Https
from tests.operating.folder import Folder
from tests.web.example_site import LOCAL, ask, make, parsed, request, send, service, talking

REDIRECTS = {
    "/old": "301 /new",
    "/found": "302 /new?a=b",
    "/form": "303 https://example.org/thanks",
    "/later": "307 /new#part",
    "/gone": "410",
    "/tree/*": "308 /wood/*",
    "/tree/oak": "301 /oak",
    "/all/*": "302 /one",
    "/sub/here": "301 /short.txt",
}


@pytest.fixture
def httpd(tmp_path: Path) -> Httpd:
    redirects = {REDIRECT_PATH.parse(key): REDIRECT.parse(value) for key, value in REDIRECTS.items()}
    return service(make(tmp_path), redirects=redirects)


@pytest.mark.parametrize(
    ("path", "status", "where"),
    [
        ("/old", 301, "/new"),
        ("/old/", 301, "/new"),
        ("/%6fld?x=<y>", 301, "/new?x=%3Cy%3E"),
        ("/old/er", 404, None),
        ("/Old", 404, None),
        ("/found?x", 302, "/new?a=b"),
        ("/form", 303, "https://example.org/thanks"),
        ("/later?x", 307, "/new#part"),
        ("/gone", 410, None),
        ("/tree", 308, "/wood/"),
        ("/tree/", 308, "/wood/"),
        ("/tree/a%20b/<c>/?q", 308, "/wood/a%20b/%3Cc%3E/?q"),
        ("/tree/oak", 301, "/oak"),
        ("/tree//evil.example", 404, None),
        ("/tree/../x", 404, None),
        ("/all/a/b", 302, "/one"),
        ("/sub/here", 301, "/short.txt"),
        ("/sub/", 200, None),
    ],
)
def test_path_is_redirected_to_its_target(httpd: Httpd, path: str, status: int, where: str | None) -> None:
    for _ in range(2):
        found = ask(httpd, path)
        assert (found.status, found.fields.get("Location")) == (status, where)
    assert b"evil" not in found.body
    if status != 200:
        assert ask(httpd, path, method="POST", body=b"x").status == (405 if status == 404 else status)


def test_shown_setting_can_be_parsed() -> None:
    for text in REDIRECTS.values():
        assert REDIRECT.show(REDIRECT.parse(text)) == text
    assert [REDIRECT_PATH.parse(key) for key in ("/a/", "/a/*", "/*", "/")] == ["/a", "/a/*", "/*", "/"]
    assert [REDIRECT_PATH.parse(key) for key in ("/%61%2D/%7e", "/caf%c3%a9/*", "/a%20b%25")] == [
        *("/a-/~", "/caf%C3%A9/*", "/a%20b%25")
    ]
    for text in ("8443", "example.org:443", "[::1]:8443"):
        assert HTTPS.show(HTTPS.parse(text)) == text


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (
            "/a = 200 /b",
            "/a = 200 /b: does not begin with a status, 301, 302, 303, 307, 308 or 410; write 301 /new",
        ),
        ("/a = /b", "/a = /b: does not begin with a status"),
        ("/a = 301", "/a = 301: no target; write 301 /new, or 301 https://example.org/new"),
        ("/a = 301 //b", "/a = 301 //b: no target"),
        ("/a = 301 b", "/a = 301 b: no target"),
        ("/a = 301 javascript:x", "/a = 301 javascript:x: no target"),
        ('/a = 301 /"b"', '/a = 301 /"b": no target'),
        ("/a = 410 /b", "/a = 410 /b: 410 has no target; write 410 alone"),
        ("/a* = 301 /b", "/a* = 301 /b: a * is allowed only after the last slash"),
        ("/a = 301 /a", "/a = 301 /a: redirects to itself"),
        ("/a/* = 301 /a/b/*", "/a/* = 301 /a/b/*: redirects to itself"),
        ("/* = 301 /a/*", "/* = 301 /a/*: redirects to itself"),
        ("/a = 410\n/%61 = 301 /b", "/%61 = 301 /b: the same as another key: /a"),
    ],
)
def test_invalid_redirect_setting_is_refused(folder: Folder, line: str, wrong: str) -> None:
    (folder.path / "www").mkdir()
    folder.write("x", f"[daemon]\nservice = httpd\nport = 1\n[httpd]\nroot = www\n[redirects]\n{line}\n")
    with pytest.raises(ConfigurationError) as caught:
        target_of(folder.read()).request_handlers()
    (complaint,) = caught.value.complaints
    assert complaint.startswith(f"conf/x.ini [redirects] {wrong}")


@pytest.mark.parametrize(
    ("https", "method", "path", "host", "status", "where"),
    [
        ("8443", "GET", "/", "localhost", 301, "https://localhost:8443/"),
        ("8443", "HEAD", "/a?b=<c>", "example.org:8080", 301, "https://example.org:8443/a?b=%3Cc%3E"),
        ("443", "POST", "/a", "example.org", 308, "https://example.org/a"),
        ("443", "GET", "//evil.example/", "example.org", 301, "https://example.org//evil.example/"),
        ("443", "GET", "http://example.net/x", "example.org", 301, "https://example.net/x"),
        ("8443", "OPTIONS", "*", "[::1]:8080", 308, "https://[::1]:8443/"),
        ("example.org", "GET", "/", "evil.example", 301, "https://example.org/"),
        ("8443", "GET", "/", "a..b", 400, None),
        ("8443", "GET", "/", "-", 400, None),
        ("8443", "GET", "/", "1.2.3.999", 400, None),
        ("8443", "GET", "/", "[:::]", 400, None),
        ("8443", "GET", "/", "x" * 64, 400, None),
        ("8443", "GET", "/", "example.org/", 400, None),
    ],
)
def test_request_without_tls_is_redirected_to_https(
    tmp_path: Path, https: str, method: str, path: str, host: str, status: int, where: str | None
) -> None:
    httpd = service(make(tmp_path), https=HTTPS.parse(https))
    with talking(httpd) as conversation:
        found = parsed(send(conversation, request(path, method=method, host=host)))
    assert (found.status, found.fields.get("Location")) == (status, where)


def test_request_over_tls_is_served_from_its_own_cache(tmp_path: Path) -> None:
    httpd = service(make(tmp_path), https=Https("", 8443))
    secure = Peer(LOCAL.address, LOCAL.host, True)
    for _ in range(2):
        assert ask(httpd, "/short.txt", peer=secure).body == b"short"
        assert ask(httpd, "/short.txt").status == 301
    assert ask(httpd, "/short.txt", "Expect: 100-continue", method="PUT", body=b"x").status == 308
    with talking(httpd) as conversation:
        assert parsed(send(conversation, b"GET / HTTP/1.0\r\n\r\n")).status == 400


@pytest.mark.parametrize("text", ["", "0", "70000", "yes!", "https://example.org", "a..b", "1.2.3", "example.org:0"])
def test_invalid_https_setting_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither a port nor a host"):
        HTTPS.parse(text)
