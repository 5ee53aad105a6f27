"""The manners of a program that reads pages: robots.txt (RFC 9309), and a pause between two requests."""

from __future__ import annotations

import re
import time
from urllib.parse import urlsplit

from protego import Protego

from daemons.clients.web import charset
from daemons.clients.web.common import Failure, tell
from daemons.clients.web.content import decoded
from daemons.clients.web.session import PRODUCT, Session

#: Octets of robots.txt that are read: what RFC 9309, section 2.5, asks for at least.
LONGEST = 500 * 1024

#: Seconds; who wants to be left alone for longer says Disallow.
LONGEST_DELAY = 3600.0


#: Rules of robots.txt, each counted once for each user agent of its group: each takes 10 µs and 100 bytes.
MOST_COPIES = 1_000_000

#: Lines that protego may take for a user agent; lines that certainly begin a group if there are rules before them; and
#: lines that certainly are rules.
_AGENT = re.compile(r"user[-\s]*agent")
_NEXT_GROUP = re.compile(r"user[- ]?agent\s*:")
_RULE = re.compile(r"(?:dis)?allow\s*:")


class Disallowed(Failure):
    """Robots.txt does not want this page to be read."""


class Manners:
    """Lets requests through that may be made, when they may be made.  `delay` is in seconds, for each host; it is
    longer where robots.txt asks for that."""

    def __init__(self, session: Session, delay: float) -> None:
        self._session = session
        self._delay = delay
        self._robots: dict[str, Protego] = {}
        self._next: dict[str, float] = {}

    def admit(self, url: str) -> None:
        """Wait until `url` may be asked for.  Raises `Disallowed`, or `Failure` where nobody can tell."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._robots:
            self._robots[origin] = self._learn(origin)
            if (asked := self._crawl_delay(origin)) > self._delay:
                tell(f"{origin} asks for {asked:g} s between two requests")
        if not self._robots[origin].can_fetch(url, PRODUCT):
            raise Disallowed(f"{url}: robots.txt disallows it")
        now = time.monotonic()
        at = max(now, self._next.get(parts.netloc, now))
        time.sleep(at - now)
        self._next[parts.netloc] = at + max(self._delay, self._crawl_delay(origin))

    def _crawl_delay(self, origin: str) -> float:
        asked = self._robots[origin].crawl_delay(PRODUCT) or 0.0
        return min(asked, LONGEST_DELAY) if asked > 0 else 0.0  # it may be inf, nan, or below 0

    def _learn(self, origin: str) -> Protego:
        """What robots.txt says: where there is none (4xx) everything is allowed, and where it cannot be had nothing
        (RFC 9309, section 2.3.1)."""
        url = f"{origin}/robots.txt"
        with self._session.ask("GET", url) as response:
            if response.status_code == 429 or response.status_code >= 500:
                raise Failure(f"{url}: {response.status_code} {response.reason_phrase}, so nothing may be read there")
            text = bytearray()
            if response.status_code < 400:
                for piece in decoded(response):
                    text += piece
                    if len(text) > LONGEST:
                        break
            rules = charset.decode(bytes(text[:LONGEST]))
            if _copies(rules) > MOST_COPIES:
                raise Failure(f"{url}: more than {MOST_COPIES} rules for all user agents, so nothing may be read there")
            return Protego.parse(rules)


def _copies(text: str) -> int:
    """Return an upper bound for the rules that protego keeps of a robots.txt: each rule once for each user agent of its
    group, so that their number can grow with the square of the text."""
    copies = agents = 0
    has_rules = False
    for line in text.splitlines():
        line = line.strip().lower()
        if _AGENT.match(line):
            if has_rules and _NEXT_GROUP.match(line):
                agents, has_rules = 0, False
            agents += 2  # with an asterisk in its name it is kept twice
            copies += agents // 50  # each is searched for in its group
        else:
            has_rules = has_rules or _RULE.match(line) is not None
            copies += agents
    return copies
