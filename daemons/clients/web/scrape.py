"""``daemons scrape URL``: the values in a page, behind a form, or in all pages of a site; politely."""

from __future__ import annotations

import argparse
import math
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urlencode, urlsplit

from daemons.clients import tools
from daemons.clients.web import common
from daemons.clients.web.common import Failure, tell
from daemons.printable import escape

if TYPE_CHECKING:
    import httpx2

    from daemons.clients.web.pages import Form, Page
    from daemons.clients.web.robots import Manners
    from daemons.clients.web.session import Session

#: Pages of a site that are read, unless more are asked for.
MOST_PAGES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_arguments(parser)
    parser.add_argument(
        "--select", metavar="CSS", help="print the text of these elements; else the page's names and values"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--form",
        metavar="NAME=VALUE",
        type=common.pair,
        action="append",
        help="submit the form with these fields, and print what comes",
    )
    what.add_argument("--recursive", action="store_true", help="read all pages of the host that links lead to")
    parser.add_argument(
        "--delay",
        metavar="SECONDS",
        type=_delay,
        default=1.0,
        help="between two requests; else 1",
    )
    parser.add_argument(
        "--pages", metavar="N", type=_count, default=MOST_PAGES, help=f"to read at most; else {MOST_PAGES}"
    )
    parser.epilog = (
        "What robots.txt disallows is not asked for; where it asks for a longer delay, that holds. Exit codes: 0 there "
        "are values, or all pages were read, 1 not so, 2 a wrong command line, 130 Ctrl-C."
    )


def run(options: argparse.Namespace) -> int:
    return _scrape(options)


def _delay(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no delay; write seconds, from 0 to 3600")
    return number


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pages; write one from 1")
    return int(text)


def _scrape(options: argparse.Namespace) -> int:
    from daemons.clients.web.robots import Manners
    from daemons.clients.web.session import Session

    with Session(options, "scrape") as session:
        manners = Manners(session, options.delay)
        if options.recursive:
            return _recursive(session, manners, options)
        page = _page(session, manners, options.url)
        if options.form:
            form = page.form(options.form)
            page = _submitted(session, manners, form)
        return _print(page, options.select)


def _page(session: Session, manners: Manners, url: str) -> Page:
    with session.ask("GET", url, admit=manners.admit) as response:
        return _read(response)


def _submitted(session: Session, manners: Manners, form: Form) -> Page:
    """The page that comes when a form is sent as the page says (HTML, section 4.10.22)."""
    import httpx2

    if form.method == "GET":
        return _page(
            session,
            manners,
            urlsplit(form.action)._replace(query=urlencode(form.fields, errors="surrogateescape")).geturl(),
        )
    kind, content = (
        "application/x-www-form-urlencoded",
        urlencode(form.fields, errors="surrogateescape").encode("ascii"),
    )
    if form.multipart:
        parts = [(name, (None, value.encode("utf-8", "surrogateescape"))) for name, value in form.fields]
        made = httpx2.Request("POST", form.action, files=parts)
        kind, content = made.headers["Content-Type"], made.read()
    with session.ask("POST", form.action, [("Content-Type", kind)], content, admit=manners.admit) as response:
        return _read(response)


def _read(response: httpx2.Response) -> Page:
    from daemons.clients.web.body import limited
    from daemons.clients.web.charset import declared_by
    from daemons.clients.web.pages import LONGEST, Page

    if response.status_code >= 400:
        raise Failure(f"{response.url}: {response.status_code} {response.reason_phrase}")
    return Page(str(response.url), limited(response, LONGEST), declared_by(response))


def _print(page: Page, selector: str | None) -> int:
    lines = page.selected(selector) if selector else [f"{name}: {value}" for name, value in page.facts()]
    for line in lines:
        print(escape(line))
    if not lines:
        what = f"nothing that {selector!r} selects" if selector else "no names with values in it; see --select"
        raise Failure(f"{page.url}: {what}")
    return tools.DONE


def _recursive(session: Session, manners: Manners, options: argparse.Namespace) -> int:
    """All pages that links lead to, inside the host and port of the first, each once."""
    from daemons.clients.web import location
    from daemons.clients.web.body import limited
    from daemons.clients.web.charset import declared_by
    from daemons.clients.web.pages import LONGEST, MOST_LINKED, Page
    from daemons.clients.web.robots import Disallowed

    # In the form that requests and redirects have: lower case, without the default port.
    start = location.asked_for(location.parse(options.url))
    netloc = urlsplit(start).netloc

    def admit(url: str) -> None:
        if urlsplit(url).netloc != netloc:
            raise Disallowed(f"{url}: outside of {netloc}")
        manners.admit(url)

    waiting, seen, read, code = deque([start]), {start}, 0, tools.DONE
    characters = 0  # of the links in `seen`
    while waiting:
        if read == options.pages:
            tell(f"{read} pages have been read; there are more: --pages N")
            break
        url = waiting.popleft()
        page = None
        try:
            with session.ask("GET", url, admit=admit) as response:
                read += 1
                print(escape(f"GET {url}"), flush=True)
                if response.status_code >= 400:
                    raise Failure(f"{url}: {response.status_code} {response.reason_phrase}")
                if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/html":
                    page = Page(str(response.url), limited(response, LONGEST), declared_by(response))
        except Failure as failure:
            tell(str(failure))
            if not isinstance(failure, Disallowed) or url == start:
                code = tools.FAILED
        if page is None:
            continue
        try:
            lines = page.selected(options.select) if options.select else []
            links = page.links("a")
        except Failure as failure:
            if read == 1:  # the selector may be wrong
                raise
            tell(str(failure))
            code = tools.FAILED
            continue
        for line in lines:
            print(escape(line))
        for link in links:
            if location.authority(link) != netloc:
                continue
            target = urlsplit(urldefrag(link).url)._replace(netloc=netloc).geturl()
            if target not in seen and characters <= MOST_LINKED:
                seen.add(target)
                waiting.append(target)
                characters += len(target)
                if characters > MOST_LINKED:
                    tell(f"the links have more than {MOST_LINKED} characters; no others are followed")
    return code
