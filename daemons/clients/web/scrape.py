"""``daemons scrape URL``: extract values from a page, the result of a form or a whole site, obeying robots.txt."""

from __future__ import annotations

import argparse
import math
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urlencode, urlsplit

from daemons.clients import arguments, tools
from daemons.clients.web import common
from daemons.clients.web.common import Failure, log
from daemons.printable import escape

if TYPE_CHECKING:
    import httpx2

    from daemons.clients.web.pages import Form, Page
    from daemons.clients.web.robots import CrawlPolicy
    from daemons.clients.web.session import Session

#: Default of --pages.
MOST_PAGES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_arguments(parser)
    parser.add_argument(
        "--select",
        metavar="CSS",
        type=arguments.nonempty,
        help="print the text of these elements (default: pairs of names and values)",
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--form",
        metavar="NAME=VALUE",
        type=common.pair,
        action="append",
        help="submit the form that has these fields, and extract from the result",
    )
    action.add_argument("--recursive", action="store_true", help="follow the links to pages of the same host")
    parser.add_argument(
        "--delay",
        metavar="SECONDS",
        type=_delay,
        default=1.0,
        help="minimum delay between requests (default 1)",
    )
    parser.add_argument(
        "--pages", metavar="N", type=_count, default=MOST_PAGES, help=f"maximum number of pages (default {MOST_PAGES})"
    )
    parser.epilog = (
        "Pages that robots.txt disallows are not requested; a longer Crawl-delay takes precedence over --delay. Exit "
        "codes: 0 values were found, or all pages were read, 1 failure, 2 wrong command line, 130 Ctrl-C."
    )


def run(options: argparse.Namespace) -> int:
    return _scrape(options)


def _delay(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a delay; expected seconds from 0 to 3600")
    return number


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pages; expected 1 or more")
    return int(text)


def _scrape(options: argparse.Namespace) -> int:
    from daemons.clients.web.robots import CrawlPolicy
    from daemons.clients.web.session import Session

    with Session(options, "scrape") as session:
        policy = CrawlPolicy(session, options.delay)
        if options.recursive:
            return _recursive(session, policy, options)
        page = _page(session, policy, options.url)
        if options.form:
            form = page.form(options.form)
            page = _submitted(session, policy, form)
        return _print(page, options.select)


def _page(session: Session, policy: CrawlPolicy, url: str) -> Page:
    with session.ask("GET", url, admit=policy.admit) as response:
        return _read(response)


def _submitted(session: Session, policy: CrawlPolicy, form: Form) -> Page:
    """Submit a form (HTML Standard, section 4.10.22) and return the resulting page.  Raises `Failure`."""
    import httpx2

    if form.method == "GET":
        return _page(
            session,
            policy,
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
    with session.ask("POST", form.action, [("Content-Type", kind)], content, admit=policy.admit) as response:
        return _read(response)


def _read(response: httpx2.Response) -> Page:
    from daemons.clients.web.body import read_body
    from daemons.clients.web.charset import declared_by
    from daemons.clients.web.pages import LONGEST, Page

    if response.status_code >= 400:
        raise Failure(f"{response.url}: {response.status_code} {response.reason_phrase}")
    return Page(str(response.url), read_body(response, LONGEST), declared_by(response))


def _print(page: Page, selector: str | None) -> int:
    lines = page.selected(selector) if selector else [f"{name}: {value}" for name, value in page.pairs()]
    for line in lines:
        print(escape(line))
    if not lines:
        missing = f"no element matches {selector!r}" if selector else "no pairs of names and values; see --select"
        raise Failure(f"{page.url}: {missing}")
    return tools.DONE


def _recursive(session: Session, policy: CrawlPolicy, options: argparse.Namespace) -> int:
    """Read the first page and all pages of the same host and port that its links lead to; return the exit code."""
    from daemons.clients.web import location
    from daemons.clients.web.body import read_body
    from daemons.clients.web.charset import declared_by
    from daemons.clients.web.pages import LONGEST, MOST_LINKED, Page
    from daemons.clients.web.robots import Disallowed

    # Normalized as in requests and redirects: lower case, without the default port.
    start = location.asked_for(location.parse(options.url))
    netloc = urlsplit(start).netloc

    def admit(url: str) -> None:
        if urlsplit(url).netloc != netloc:
            raise Disallowed(f"{url}: outside of {netloc}")
        policy.admit(url)

    waiting, seen, read, code = deque([start]), {start}, 0, tools.DONE
    characters = 0  # of the links in `seen`
    while waiting:
        if read == options.pages:
            log(f"stopped after {read} pages; --pages N raises the limit")
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
                    page = Page(str(response.url), read_body(response, LONGEST), declared_by(response))
        except Failure as failure:
            log(str(failure))
            if not isinstance(failure, Disallowed) or url == start:
                code = tools.FAILED
        if page is None:
            continue
        try:
            lines = page.selected(options.select) if options.select else []
            links = page.links("a")
        except Failure as failure:
            if read == 1:  # the selector is probably wrong
                raise
            log(str(failure))
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
                    log(f"the links have more than {MOST_LINKED} characters; no more are followed")
    return code
