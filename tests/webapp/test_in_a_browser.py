"""The site in a browser: it renders, keeps its own policy, fits on a phone, and can be used."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemons.serving.engines import stream_server
from daemons.serving.pump import Pump
from daemons.web.handlers.server import WebServer
from daemons.web.wsgi.service import WSGIService
from daemons.webapp import Webapp
from tests.serving.running import Within
from tests.webapp.browser import CHROMIUM, Browser

#: Return the number of pixels by which the page is wider than the window, the elements whose contrast with their
#: background is below 4.5 to 1 (WCAG 2.2, 1.4.3), and the fields without a label.
LOOK = """
    const rgb = (text) => text.match(/[0-9.]+/g).map(Number);
    const light = (text) => {
        const [r, g, b] = rgb(text).slice(0, 3).map((of) => of / 255)
            .map((of) => of <= 0.04045 ? of / 12.92 : ((of + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (rgb(colour)[3] !== 0) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    const dim = [...document.querySelectorAll('body *')]
        .filter((each) => [...each.childNodes].some((of) => of.nodeType === 3 && of.data.trim()))
        .filter((each) => {
            const both = [light(getComputedStyle(each).color), light(behind(each))].sort((a, b) => a - b);
            return (both[1] + 0.05) / (both[0] + 0.05) < 4.5;
        }).map((each) => each.outerHTML);
    const nameless = [...document.querySelectorAll('main input:not([type=hidden])')]
        .filter((each) => each.labels.length === 0).map((each) => each.outerHTML);
    [document.documentElement.scrollWidth - document.documentElement.clientWidth, dim, nameless];
"""

GOOD = [0, [], []]

#: (width of the window, whether the user prefers the dark scheme, paths)
SEEN = (
    (390, False, ("/", "/weather", "/environ/", "/base64/encode?mystring=" + "wide" * 50, "/bottle/")),
    (320, True, ("/", "/environ/")),
    (1280, False, ("/environ/",)),
)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: make engines")
def test_it_is_fit_to_be_seen_and_used(site: Callable[..., Webapp], tmp_path: Path) -> None:
    pump = Pump.for_service(WSGIService.of(site(banner="Well met, $visitor."), "Webapp")())
    with (
        closing(Within(stream_server("pool", WebServer), pump)) as server,
        Browser(tmp_path / "browser") as browser,
    ):
        address: Any = server.address
        root = "http://{}:{}".format(*address)
        for width, dark, paths in SEEN:
            browser.size(width, 844, phone=width < 1000)
            browser.dark(dark)
            for path in paths:
                browser.visit(root + path)
                assert browser.run(LOOK) == GOOD, (width, path)
                assert browser.complaints() == [], (width, path)
                assert browser.run("getComputedStyle(document.body).fontSize") == "17px", "the style is not there"
        browser.size(390, 844, phone=True)
        browser.visit(f"{root}/bank/")
        browser.send(username="brandon", password="wrong")
        assert browser.run(LOOK) == GOOD
        assert browser.run("document.querySelector('#username').value") == "brandon"
        browser.send(username="brandon", password="atigdng")
        browser.visit(f"{root}/bank/pay")
        assert browser.run("document.activeElement.tagName") == "BODY"
        script = "<img src=x onerror=\"document.title='stolen'\">"
        browser.send(account="<b>psf</b>", dollars="lots", memo=script * 3)
        assert browser.run(LOOK) == GOOD
        assert browser.run("document.querySelectorAll('input.complaint').length") == 1
        browser.send(account="<b>psf</b>", dollars="1", memo=script * 3)
        assert browser.run(LOOK) == GOOD
        assert browser.run("location.pathname") == "/bank/"
        assert browser.run("document.querySelector('.flash').textContent") == "Payment successful"
        assert browser.run("[document.title, document.cookie]") == ["Welcome, brandon", ""]
        assert browser.run("document.querySelector('li:last-of-type.to i').textContent") == script * 3
        picture = tmp_path / "page.png"
        browser.picture(picture)
        assert picture.read_bytes().startswith(b"\x89PNG")
