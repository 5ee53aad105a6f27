"""Selectors with quadratic cost, and the limit of CPU time for them."""

from __future__ import annotations

import signal
import threading

import pytest

from daemons.clients.cpu_limit import cpu_limit
from daemons.clients.web import pages
from daemons.clients.web.common import Failure
from daemons.clients.web.pages import Page

#: Takes minutes without the limit.
SELECTOR = "body:has(i) p"
MANY = b"<p>a</p>" * 20_000


def test_slow_selector_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SELECTION", 0.2)
    before = signal.getsignal(signal.SIGVTALRM)
    page = Page("http://h/", MANY)
    with pytest.raises(Failure, match=r"^http://h/: --select 'body:has\(i\) p' took more than 0.2 s of CPU time; "):
        page.selected(SELECTOR)
    assert signal.getsignal(signal.SIGVTALRM) is before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert len(Page("http://h/", MANY[:80]).selected("p")) == 10


def test_cpu_limit_does_not_affect_other_threads() -> None:
    finished: list[bool] = []

    def work() -> None:
        with cpu_limit(0.001):
            sum(range(100_000))
            finished.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert finished == [True]
