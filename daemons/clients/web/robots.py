"""Crawling policy: robots.txt (RFC 9309) and a delay between requests."""

from __future__ import annotations

import re
import time
from urllib.parse import urlsplit

from protego import Protego

from daemons.clients.web import charset
from daemons.clients.web.common import Failure, log
from daemons.clients.web.content import decoded
from daemons.clients.web.session import PRODUCT, Session

#: Bytes of robots.txt that are parsed: the minimum of RFC 9309, section 2.5.
LONGEST = 500 * 1024

#: Maximum Crawl-delay in seconds.
LONGEST_DELAY = 3600.0


#: Maximum rules of robots.txt, each counted once for each user agent of its group: each takes 10 µs and 100 bytes.
MOST_COPIES = 1_000_000

#: Lines that protego may parse as a user agent; lines that certainly begin a new group after rules; and lines that
#: certainly are rules.
_AGENT = re.compile(r"user[-\s]*agent")
_NEXT_GROUP = re.compile(r"user[- ]?agent\s*:")
_RULE = re.compile(r"(?:dis)?allow\s*:")


class Disallowed(Failure):
    """robots.txt disallows this page."""


class CrawlPolicy:
    """Admits requests as robots.txt allows, and delays them.

    `delay` is the minimum time between requests to one host in seconds; a longer Crawl-delay takes precedence."""

    def __init__(self, session: Session, delay: float) -> None:
        self._session = session
        self._delay = delay
        self._robots: dict[str, Protego] = {}
        self._next: dict[str, float] = {}

    def admit(self, url: str) -> None:
        """Wait until `url` may be requested.  Raises `Disallowed`, or `Failure` if robots.txt cannot be read."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._robots:
            self._robots[origin] = self._fetch_rules(origin)
            if (asked := self._crawl_delay(origin)) > self._delay:
                log(f"{origin}: robots.txt requires {asked:g} s between requests")
        if not self._robots[origin].can_fetch(url, PRODUCT):
            raise Disallowed(f"{url}: robots.txt disallows it")
        now = time.monotonic()
        at = max(now, self._next.get(parts.netloc, now))
        time.sleep(at - now)
        self._next[parts.netloc] = at + max(self._delay, self._crawl_delay(origin))

    def _crawl_delay(self, origin: str) -> float:
        asked = self._robots[origin].crawl_delay(PRODUCT) or 0.0
        return min(asked, LONGEST_DELAY) if asked > 0 else 0.0  # it may be infinite, NaN or negative

    def _fetch_rules(self, origin: str) -> Protego:
        """Return the rules of robots.txt.  If it does not exist (4xx) everything is allowed; raises `Failure` if it
        cannot be read, since nothing is allowed then (RFC 9309, section 2.3.1)."""
        url = f"{origin}/robots.txt"
        with self._session.ask("GET", url) as response:
            if response.status_code == 429 or response.status_code >= 500:
                raise Failure(f"{url}: {response.status_code} {response.reason_phrase}; all pages are disallowed")
            text = bytearray()
            if response.status_code < 400:
                for piece in decoded(response):
                    text += piece
                    if len(text) > LONGEST:
                        break
            rules = charset.decode(bytes(text[:LONGEST]))
            if _copies(rules) > MOST_COPIES:
                raise Failure(f"{url}: more than {MOST_COPIES} rules for all user agents; all pages are disallowed")
            return Protego.parse(rules)


def _copies(text: str) -> int:
    """Return an upper bound of the number of rules that protego stores for a robots.txt: it copies each rule for each
    user agent of its group, so that the number can grow with the square of the text."""
    copies = agents = 0
    has_rules = False
    for line in text.splitlines():
        line = line.strip().lower()
        if _AGENT.match(line):
            if has_rules and _NEXT_GROUP.match(line):
                agents, has_rules = 0, False
            agents += 2  # protego stores a name with an asterisk twice
            copies += agents // 50  # the cost of searching the group for each user agent
        else:
            has_rules = has_rules or _RULE.match(line) is not None
            copies += agents
    return copies
