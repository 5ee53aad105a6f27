"""Counts the lines of a file that its client keeps, and calls the client back with each of them: RPyC.

[daemon]
handler = daemons.linecount:LineCount
port = 18861
"""

from __future__ import annotations

from typing import Any

import rpyc

from daemons.rpc.rpyc.frames import Refused
from daemons.rpc.rpyc.handler import NetrefHandler
from daemons.rpc.rpyc.netrefs import Theirs

#: Lines of one file.
MOST = 1_000_000


class LineCounter(rpyc.Service):  # type: ignore[misc]
    """What a client can call."""

    def __init__(self) -> None:
        self._counting = False

    def exposed_line_counter(self, fileobj: Any, function: Any) -> int:
        """How many lines `fileobj`, a file of the client's, has; `function` is called with each of them."""
        if not (isinstance(fileobj, Theirs) and isinstance(function, Theirs)):
            raise Refused("a file and a function of the client's are expected")
        if self._counting:
            raise Refused("one file is counted at a time")
        self._counting = True
        try:
            # A line at a time: nobody knows how long the file is.
            try:
                lines = iter(fileobj)
            except TypeError as error:
                raise Refused("what is lent as a file has no lines") from error
            count = 0
            for line in lines:
                if not isinstance(line, str | bytes):
                    raise Refused(f"line {count + 1} is neither text nor octets")
                if count == MOST:
                    raise Refused(f"more than {MOST} lines")
                count += 1
                function(line)
            return count
        finally:
            self._counting = False


class LineCount(NetrefHandler):
    offers = LineCounter
