"""``daemons links URL``: check the links of a page with HEAD requests."""

from __future__ import annotations

import argparse
import threading
from collections import defaultdict, deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urlsplit

from daemons.clients import tools
from daemons.clients.web import common
from daemons.clients.web.common import Failure, log
from daemons.printable import escape

if TYPE_CHECKING:
    from daemons.clients.web.pages import Page
    from daemons.clients.web.session import Redirect, Session

#: Maximum concurrent requests in total, and to one host.
WORKERS, PER_HOST = 16, 4

#: Statuses of servers that do not support HEAD; GET is tried next.
REFUSED = frozenset((405, 501))

#: Maximum pages that are read with --depth.
MOST_PAGES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_arguments(parser, shown=False)
    parser.add_argument("-v", dest="each", action="store_true", help="also print the links that are good")
    parser.add_argument(
        "--depth",
        metavar="N",
        type=_depth,
        default=0,
        help="also check the pages of the same host that are up to N links away",
    )
    parser.epilog = (
        "Prints a line for each link that is dead or has moved. Exit codes: 0 no dead links, 1 dead links, or a page "
        "could not be read, 2 wrong command line, 130 Ctrl-C."
    )


def run(options: argparse.Namespace) -> int:
    return _check(options)


def _depth(text: str) -> int:
    if not text.isdecimal() or len(text) > 4:
        raise argparse.ArgumentTypeError(f"{text!r} is not a depth; expected a number from 0 to 9999")
    return int(text)


@dataclass
class Verdict:
    """The result of checking one URL; without a response, `status` is 0 and `reason` is the error."""

    status: int = 0
    reason: str = ""
    redirects: list[Redirect] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return 200 <= self.status < 400


class Checker:
    """Requests each URL once and stores the results in `verdicts`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.verdicts: dict[str, Verdict] = {}

    def check(self, urls: Iterable[str]) -> None:
        """Check the URLs that have not been checked yet, several at a time."""
        queues: dict[str, deque[str]] = defaultdict(deque)
        for url in dict.fromkeys(urls):
            if url not in self.verdicts:
                queues[urlsplit(url).netloc].append(url)
        stopping = threading.Event()
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="links") as pool:
            try:
                drains = [
                    pool.submit(self._drain, queue, stopping)
                    for queue in queues.values()
                    for _ in range(min(PER_HOST, len(queue)))
                ]
                for drain in drains:
                    drain.result()
            except BaseException:
                stopping.set()
                self._session.abort()
                raise

    def _drain(self, queue: deque[str], stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                url = queue.popleft()
            except IndexError:
                return
            self.verdicts[url] = self._request(url)

    def _request(self, url: str) -> Verdict:
        verdict = Verdict()
        for method in ("HEAD", "GET"):
            verdict.redirects.clear()
            try:
                with self._session.ask(method, url, redirected=verdict.redirects.append) as response:
                    verdict.status, verdict.reason = response.status_code, response.reason_phrase
            except Failure as failure:
                verdict.status, verdict.reason = 0, str(failure)
            if verdict.status not in REFUSED:
                break
        return verdict


def _check(options: argparse.Namespace) -> int:
    from daemons.clients.web import location
    from daemons.clients.web.session import Session

    with Session(options, "links") as session:
        checker = Checker(session)
        start = urldefrag(options.url).url
        seen, pages, links = {start}, [start], set[str]()
        read = dead = unread = 0
        for depth in range(options.depth + 1):
            following: list[str] = []
            for url in pages:
                read += 1
                try:
                    page = _page(session, url, needed=url == start)
                    found = page.links() if page is not None else []
                except Failure as failure:
                    if url == start:
                        raise
                    log(str(failure))  # the links of the other pages are still checked
                    unread += 1
                    continue
                if page is None:
                    continue
                # Fragments of this page, and pages that have been read, need no request.
                elsewhere = [urldefrag(link).url for link in found]
                for known in (page.url, url):
                    checker.verdicts.setdefault(known, Verdict(200, "OK"))
                checker.check(elsewhere)
                for link in found:
                    dead += _report(page, link, checker.verdicts, links, verbose=options.each)
                links.update(found)
                if depth < options.depth:
                    within = [urldefrag(link).url for link in page.links("a", "area", "frame", "iframe")]
                    following += [
                        link
                        for link in dict.fromkeys(within)
                        if location.authority(link) == location.authority(page.url)
                        and link not in seen
                        and checker.verdicts[link].alive
                    ]
                    seen.update(following)
            pages = following[: MOST_PAGES - read]
            if len(pages) < len(following):
                log(f"more than {MOST_PAGES} pages; the others are not checked")
        moved = sum(bool(checker.verdicts[urldefrag(link).url].redirects) for link in links)
        print(f"{len(links)} links: {dead} dead, {moved} moved")
    return tools.FAILED if dead or unread else tools.DONE


def _page(session: Session, url: str, *, needed: bool) -> Page | None:
    """Return an HTML page; unless it is `needed`, None if the URL has no HTML page.  Raises `Failure`."""
    from daemons.clients.web.body import read_body
    from daemons.clients.web.charset import declared_by
    from daemons.clients.web.pages import LONGEST, Page

    # The redirects of pages other than the first were reported for the HEAD request.
    with session.ask("GET", url, redirected=None if needed else lambda _: None) as response:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if response.status_code < 400 and kind in ("text/html", "application/xhtml+xml"):
            return Page(str(response.url), read_body(response, LONGEST), declared_by(response))
        if not needed:
            return None
        if response.status_code >= 400:
            raise Failure(f"{url}: {response.status_code} {response.reason_phrase}")
        raise Failure(f"{url}: {kind or 'no Content-Type'}; expected an HTML page")


def _report(page: Page, link: str, verdicts: dict[str, Verdict], reported: set[str], *, verbose: bool) -> bool:
    """Print the result for a link unless it is in `reported`; return whether it is dead and was not reported before."""
    url, fragment = urldefrag(link)
    verdict = verdicts[url]
    if link in reported:
        return False
    missing = url == page.url and not (page.has(fragment) or page.has(unquote(fragment)))
    dead = missing or not verdict.alive
    where = "" if urldefrag(page.url).url == url else f" (on {page.url})"
    for redirect in verdict.redirects:
        print(escape(f"moved {redirect.status} {redirect.source} -> {redirect.location}{where}"))
    if missing:
        print(escape(f"dead {link}: no element of the page has this id"))
    elif dead:
        reason = f"{verdict.status} {link} {verdict.reason}".rstrip() if verdict.status else verdict.reason
        print(escape(f"dead {reason}{where}"))
    elif verbose:
        print(escape(f"ok {verdict.status} {link}"))
    return dead
