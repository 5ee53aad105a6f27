"""Count the lines of a file held by the client, calling a client function for each line, over RPyC.

[daemon]
handler = daemons.linecount:LineCount
port = 18861
"""

from __future__ import annotations

from typing import Any

import rpyc

from daemons.rpc.rpyc.frames import Refused
from daemons.rpc.rpyc.handler import NetrefHandler
from daemons.rpc.rpyc.netrefs import RemoteObject

#: Maximum number of lines in one file.
MOST = 1_000_000


class LineCounter(rpyc.Service):  # type: ignore[misc]
    """Methods exposed to the client."""

    def __init__(self) -> None:
        self._counting = False

    def exposed_line_counter(self, fileobj: Any, function: Any) -> int:
        """Return the number of lines in `fileobj`, a file object of the client, after calling `function` with each."""
        if not (isinstance(fileobj, RemoteObject) and isinstance(function, RemoteObject)):
            raise Refused("expected a file object and a function of the client")
        if self._counting:
            raise Refused("another file is being counted on this connection")
        self._counting = True
        try:
            # Read line by line, since the length of the file is unknown.
            try:
                lines = iter(fileobj)
            except TypeError as error:
                raise Refused("the file object is not iterable") from error
            count = 0
            for line in lines:
                if not isinstance(line, str | bytes):
                    raise Refused(f"line {count + 1} is neither text nor bytes")
                if count == MOST:
                    raise Refused(f"more than {MOST} lines")
                count += 1
                function(line)
            return count
        finally:
            self._counting = False


class LineCount(NetrefHandler):
    offers = LineCounter
