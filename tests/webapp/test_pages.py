"""The smaller parts of the site: front page, weather, time, environ, JSON."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from daemons.webapp import Webapp
from tests.webapp.visitor import Visitor


def test_the_front_page_leads_to_all_there_is(site: Callable[..., Webapp]) -> None:
    visitor = Visitor(site(banner="Well met, $visitor, for $$5."))
    front = visitor.get("/", environ_overrides={"REMOTE_ADDR": "<i>"})
    assert "Well met, &lt;i&gt;, for $5." in front.text
    links = set(re.findall(r'href="([^"]+)"', front.text))
    assert {"/bank/", "/base64/", "/bottle/", "/time/", "/environ/", "/api/", "/weather"} <= links
    for link in links:
        assert visitor.get(link, follow_redirects=True).status_code == 200, link
    assert "script" not in front.headers["Content-Security-Policy"]
    assert front.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_mounted_elsewhere_its_links_lead_there(visitor: Visitor) -> None:
    below = "http://localhost/cgi-bin/webapp"
    for path in ("/", "/weather", "/bottle/", "/bank/login"):
        page = visitor.get(path, base_url=below)
        assert page.status_code == 200
        links = re.findall(r'(?:href|src|action)="(/[^"]*)"', page.text)
        assert links
        assert all(link.startswith("/cgi-bin/webapp/") for link in links), links
    assert "Path=/cgi-bin/webapp/bank/" in page.headers["Set-Cookie"]


@pytest.mark.parametrize("date", ["Sun, 06 Nov 1994 08:49:37 +" + "9" * 22, "soon"])
def test_condition_of_a_static_file_that_is_no_date_is_ignored(visitor: Visitor, date: str) -> None:
    whole = visitor.get("/static/style.css")
    for name in ("If-Modified-Since", "If-Unmodified-Since"):
        assert visitor.get("/static/style.css", headers={name: date}).data == whole.data
    fields = {"Range": "bytes=0-1", "If-Range": date}
    assert visitor.get("/static/style.css", headers=fields).data == whole.data
    for condition in (whole.headers["Last-Modified"], whole.headers["ETag"]):
        assert visitor.get("/static/style.css", headers={**fields, "If-Range": condition}).data == whole.data[:2]
    assert visitor.get("/static/style.css", headers={"Range": "bytes=0-1"}).status_code == 206
    fields = {"If-Modified-Since": whole.headers["Last-Modified"]}
    assert visitor.get("/static/style.css", headers=fields).status_code == 304


# --- weather ---------------------------------------------------------------------------------------


def _facts(page: str) -> dict[str, str]:
    return dict(re.findall(r'<th scope="row">(.+?)</th><td>(.+?)</td>', page))


@pytest.mark.parametrize("city", ["Phoenix, AZ", " phoenix ,az"])
def test_the_weather_is_found_as_it_was_on_weather_gov(visitor: Visitor, city: str) -> None:
    answer = visitor.post("/zipcity.php", data={"inputstring": city})
    assert answer.request.environ["CONTENT_TYPE"] == "application/x-www-form-urlencoded"
    assert answer.status_code == 200
    assert _facts(answer.text) == {"Condition": "Fair", "Temperature": "95°F (35°C)", "Humidity": "12 %"}


@pytest.mark.parametrize(
    ("city", "status", "complaint"),
    [
        ("<Nowhere>, XX", 404, "There is no weather station in this city."),
        ("  ", 422, "Write a city and its state, as in Phoenix, AZ."),
    ],
)
def test_a_place_that_is_not_known_is_marked_and_kept(visitor: Visitor, city: str, status: int, complaint: str) -> None:
    answer = visitor.post("/zipcity.php", data={"inputstring": city})
    assert answer.status_code == status
    assert complaint in answer.text
    assert f'value="{city.replace("<", "&lt;").replace(">", "&gt;")}"' in answer.text
    assert 'class="complaint" aria-invalid="true"' in answer.text
    assert _facts(answer.text) == {}


def test_posted_fields_are_not_taken_from_the_url(visitor: Visitor) -> None:
    assert visitor.get("/zipcity.php?inputstring=Phoenix,+AZ").status_code == 405
    assert visitor.post("/zipcity.php?inputstring=Phoenix,+AZ").status_code == 422
    assert "aria-invalid" not in visitor.get("/weather").text


# --- time ------------------------------------------------------------------------------------------


def test_the_time(site: Callable[..., Webapp]) -> None:
    visitor = Visitor(site(hosts=("127.0.0.1", "localhost")))
    for host in ("127.0.0.1:8001", "localhost"):
        said = visitor.get("/time/", headers={"Host": host})
        assert said.status_code == 200
        assert abs(time.mktime(time.strptime(said.text.strip())) - time.time()) < 60
    assert visitor.post("/time/", headers={"Host": "localhost"}).status_code == 501
    assert visitor.get("/time/other", headers={"Host": "localhost"}).status_code == 404
    assert visitor.get("/time/", headers={"Host": "example.com"}).status_code == 404


# --- environ ---------------------------------------------------------------------------------------


def test_environ_is_shown_without_credentials(visitor: Visitor) -> None:
    visitor.set_cookie("session", "s3cret", path="/")
    headers = {"Authorization": "Basic s3cret", "X-Api-Key": "s3cret", "X-Knight": "<Robin>"}
    more = {"AWS_SESSION": "s3cret", "PATH": "s3cret"}
    text = visitor.get("/environ/?q=1", headers=headers, environ_overrides=more)
    page = visitor.get("/environ/", headers={**headers, "Accept": "text/html,*/*;q=0.5"}, environ_overrides=more)
    assert (text.mimetype, page.mimetype) == ("text/plain", "text/html")
    assert "HTTP_X_KNIGHT = '<Robin>'\nPATH_INFO = '/'\nQUERY_STRING = 'q=1'\n" in text.text
    assert "&lt;Robin&gt;" in page.text
    for said in (text.text, page.text):
        assert "s3cret" not in said
        assert "HTTP_COOKIE" in said
        assert said.count("(filtered)") == 3


# --- JSON ------------------------------------------------------------------------------------------


def test_json_in_json_out_and_no_redirect(visitor: Visitor) -> None:
    answer = visitor.post("/api/base64", json={"mystring": "Grüße"})
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.json == {"mystring": "Grüße", "base64": "R3LDvMOfZQ=="}
    assert visitor.get("/api/weather/Phoenix, AZ").json["humidity"] == 12  # type: ignore[index]
    assert "Phoenix, AZ" in visitor.get("/api/weather").json["cities"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("request_of", "status"),
    [
        ({"data": "mystring=a"}, 415),
        ({"data": b"{", "content_type": "application/json"}, 400),
        ({"data": b"\xff", "content_type": "application/json"}, 400),
        ({"data": b"[" * 60_000, "content_type": "application/json"}, 400),
        ({"data": b'{"mystring": "\\ud800"}', "content_type": "application/json"}, 400),
        ({"json": ["mystring"]}, 400),
        ({"json": {"mystring": 7}}, 400),
        ({"json": {}}, 400),
        ({"json": {"mystring": "a"}, "headers": {"X-HTTP-Method-Override": "DELETE"}}, 405),
        ({"json": {"mystring": "a" * 70_000}}, 413),
    ],
)
def test_invalid_api_request_gets_a_json_error(visitor: Visitor, request_of: dict[str, Any], status: int) -> None:
    answer = visitor.post("/api/base64", **request_of)
    assert (answer.status_code, answer.mimetype) == (status, "application/json")
    assert set(answer.json or ()) == {"error"}


def test_a_city_that_is_not_known_is_404(visitor: Visitor) -> None:
    answer = visitor.get("/api/weather/<Nowhere>")
    assert answer.status_code == 404
    assert answer.json == {"error": "no weather station in this city"}
