"""``daemons url``, compared with node's URL class, which follows the WHATWG standard."""

from __future__ import annotations

import json
import shutil
import subprocess
from urllib.parse import parse_qsl, urljoin, urlsplit

import pytest

from tests.clients.web.site import daemons

#: Examples of RFC 3986, section 5.4, and others, the first with a different result (T29).
JOINED = [
    ("http://www.python.org/psf/", "grants", "http://www.python.org/psf/grants"),
    ("http://www.python.org/psf/", "../news/", "http://www.python.org/news/"),
    *(
        ("http://a/b/c/d;p?q", reference, f"http://a/{joined}")
        for reference, joined in {
            "g": "b/c/g",
            "./g/": "b/c/g/",
            "/g": "g",
            "?y": "b/c/d;p?y",
            "g?y#s": "b/c/g?y#s",
            "#s": "b/c/d;p?q#s",
            ";x": "b/c/;x",
            "": "b/c/d;p?q",
            "..": "b/",
            "../../g": "g",
            "../../../g": "g",
            "g;x=1/../y": "b/c/y",
            "g?y/./x": "b/c/g?y/./x",
        }.items()
    ),
    ("http://a/b/c/d;p?q", "//g", "http://g"),
]

WHOLE = [
    "http://www.python.org/psf/",
    "https://me:pw@host.example:8443/a/b;c=d?x=1&y=&x=%C3%BC+c#frag",
    "http://[::1]:8080/?q=a%26b",
    "http://h/a%20b/c~d?f=%E2%82%AC&g=1+2",
]

NODE = """
const [joined, whole] = JSON.parse(require('fs').readFileSync(0));
console.log(JSON.stringify([
  joined.map(([base, reference]) => new URL(reference, base).href),
  whole.map(text => { const u = new URL(text);
    return [u.protocol, u.username, u.password, u.hostname, u.port, u.pathname, u.search, u.hash,
            [...u.searchParams]]; }),
]));
"""


def test_references_resolve_as_in_rfc_3986() -> None:
    assert [urljoin(base, reference) for base, reference, _ in JOINED] == [joined for *_, joined in JOINED]


@pytest.mark.skipif(shutil.which("node") is None, reason="node is missing: make engines")
def test_node_resolves_references_the_same_way() -> None:
    requests = json.dumps([[[base, reference] for base, reference, _ in JOINED], WHOLE])
    done = subprocess.run(["node", "-e", NODE], input=requests, capture_output=True, text=True, check=True)
    joined, whole = json.loads(done.stdout)
    # node adds the slash of an empty path.
    assert [text.removesuffix("/") for text in joined] == [text.removesuffix("/") for *_, text in JOINED]
    for text, (protocol, user, password, host, port, path, search, fragment, fields) in zip(WHOLE, whole, strict=True):
        parts = urlsplit(text)
        assert (parts.scheme + ":", parts.username or "", parts.password or "") == (protocol, user, password)
        assert (parts.hostname, str(parts.port or "")) == (host.strip("[]"), port)
        assert (parts.path, parts.query, parts.fragment) == (path, search.removeprefix("?"), fragment.removeprefix("#"))
        assert [list(each) for each in parse_qsl(parts.query, keep_blank_values=True)] == fields


def test_parts_are_printed_with_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert daemons("url", WHOLE[1]) == 0
    assert [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()] == [
        ["scheme", "https"],
        ["user", "me"],
        ["password", "pw"],
        ["host", "host.example"],
        ["port", "8443"],
        ["path", "/a/b;c=d"],
        ["query", "x=1&y=&x=%C3%BC+c"],
        ["field", "x = 1"],
        ["field", "y ="],
        ["field", "x = \u00fc c"],
        ["fragment", "frag"],
        ["without", f"it  {WHOLE[1].removesuffix('#frag')}"],
    ]
    assert daemons("url", "grants", "http://www.python.org/psf/") == 0
    assert capsys.readouterr().out == (
        "joined      http://www.python.org/psf/grants\nscheme      http\nhost        www.python.org\n"
        "port        80 (default)\npath        /psf/grants\n"
    )
    assert daemons("url", "a%1b[31m%20b") == 0
    assert capsys.readouterr().out.splitlines()[1] == "  decoded   a\\x1b[31m b"


@pytest.mark.parametrize("text", ["http://x:99999/", "http://[::1", "http://x:y/"])
def test_malformed_url_is_an_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert daemons("url", text) == 1
    out, err = capsys.readouterr()
    assert (out, err.startswith(f"daemons url: {text!r} is not a URL: ")) == ("", True)
