"""``daemons links URL``: whether the links of a page lead somewhere, asked with HEAD."""

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
from daemons.clients.web.common import Failure, tell
from daemons.printable import escape

if TYPE_CHECKING:
    from daemons.clients.web.pages import Page
    from daemons.clients.web.session import Redirect, Session

#: At once in all, and of one host: more would be an attack.
WORKERS, PER_HOST = 16, 4

#: Statuses of those who refuse HEAD, and may answer GET.
REFUSED = frozenset((405, 501))

#: Pages that --depth comes to at most.
MOST_PAGES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_arguments(parser, shown=False)
    parser.add_argument("-v", dest="each", action="store_true", help="tell also of the links that are good")
    parser.add_argument(
        "--depth",
        metavar="N",
        type=_depth,
        default=0,
        help="also the links of the pages that are N links away, on the host",
    )
    parser.epilog = (
        "A line for each link that is dead, or has moved. Exit codes: 0 all lead somewhere, 1 some are dead, or there "
        "is no page, 2 a wrong command line, 130 Ctrl-C."
    )


def run(options: argparse.Namespace) -> int:
    return _check(options)


def _depth(text: str) -> int:
    if not text.isdecimal() or len(text) > 4:
        raise argparse.ArgumentTypeError(f"{text!r} is no depth; write a number from 0")
    return int(text)


@dataclass
class Verdict:
    """What became of one URL; `status` 0 where nobody answered, and then `reason` says why."""

    status: int = 0
    reason: str = ""
    redirects: list[Redirect] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return 200 <= self.status < 400


class Checker:
    """Asks for each URL once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.verdicts: dict[str, Verdict] = {}

    def check(self, urls: Iterable[str]) -> None:
        """Find out about those that are not known yet, several at a time."""
        queues: dict[str, deque[str]] = defaultdict(deque)
        for url in dict.fromkeys(urls):
            if url not in self.verdicts:
                queues[urlsplit(url).netloc].append(url)
        leaving = threading.Event()
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="links") as pool:
            try:
                drains = [
                    pool.submit(self._drain, queue, leaving)
                    for queue in queues.values()
                    for _ in range(min(PER_HOST, len(queue)))
                ]
                for drain in drains:
                    drain.result()
            except BaseException:
                leaving.set()
                self._session.cut()
                raise

    def _drain(self, queue: deque[str], leaving: threading.Event) -> None:
        while not leaving.is_set():
            try:
                url = queue.popleft()
            except IndexError:
                return
            self.verdicts[url] = self._ask(url)

    def _ask(self, url: str) -> Verdict:
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
                    tell(str(failure))  # the links of the other pages are checked all the same
                    unread += 1
                    continue
                if page is None:
                    continue
                # A mark in this page needs no request, and a page that has been read neither.
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
                tell(f"more than {MOST_PAGES} pages; the others are not read")
        moved = sum(bool(checker.verdicts[urldefrag(link).url].redirects) for link in links)
        print(f"{len(links)} links: {dead} dead, {moved} moved")
    return tools.FAILED if dead or unread else tools.DONE


def _page(session: Session, url: str, *, needed: bool) -> Page | None:
    """A page of HTML; None where there is none, and it is not the first.  Raises `Failure`."""
    from daemons.clients.web.body import limited
    from daemons.clients.web.charset import declared_by
    from daemons.clients.web.pages import LONGEST, Page

    # Where it leads, what was asked with HEAD has told.
    with session.ask("GET", url, redirected=None if needed else lambda _: None) as response:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if response.status_code < 400 and kind in ("text/html", "application/xhtml+xml"):
            return Page(str(response.url), limited(response, LONGEST), declared_by(response))
        if not needed:
            return None
        if response.status_code >= 400:
            raise Failure(f"{url}: {response.status_code} {response.reason_phrase}")
        raise Failure(f"{url}: {kind or 'something without a type'}, which is no page of HTML")


def _report(page: Page, link: str, verdicts: dict[str, Verdict], told: set[str], *, verbose: bool) -> bool:
    """Say what became of a link, unless that has been said; returns whether it is dead."""
    url, fragment = urldefrag(link)
    verdict = verdicts[url]
    if link in told:
        return False
    missing = url == page.url and not (page.has(fragment) or page.has(unquote(fragment)))
    dead = missing or not verdict.alive
    where = "" if urldefrag(page.url).url == url else f" (on {page.url})"
    for redirect in verdict.redirects:
        print(escape(f"moved {redirect.status} {redirect.source} -> {redirect.location}{where}"))
    if missing:
        print(escape(f"dead {link}: nothing in the page has this id"))
    elif dead:
        reason = f"{verdict.status} {link} {verdict.reason}".rstrip() if verdict.status else verdict.reason
        print(escape(f"dead {reason}{where}"))
    elif verbose:
        print(escape(f"ok {verdict.status} {link}"))
    return dead
