"""What goes to and fro, as the verbose handler of the notes shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemons.clients.web.common import tell

if TYPE_CHECKING:
    import httpcore2

#: Octets of a body that are shown; of a longer one, how many there are.
LONGEST = 4096


class Shown:
    """Shows nothing."""

    def sent(self, octets: bytes) -> None:
        """What goes to the peer: a head, or a piece of a body."""

    def received(self, response: httpcore2.Response) -> None:
        """The head of a response.  Its body is the caller's alone."""


class Verbose(Shown):
    """Fifty dashes before what is sent, twenty on both sides of the word before what has come.

    The handler of the notes reads the response to its end to split the head off, which hangs where the connection
    is kept; here the head is that of the response, which is complete before its body is read."""

    def sent(self, octets: bytes) -> None:
        tell("-" * 50)
        if len(octets) > LONGEST or b"\0" in octets:
            tell(f"({len(octets)} octets)")
        else:
            _tell_lines(octets)

    def received(self, response: httpcore2.Response) -> None:
        tell("-" * 20 + " Response " + "-" * 20)
        version, reason = (response.extensions.get(key, b"") for key in ("http_version", "reason_phrase"))
        _tell_lines(b"%b %d %b" % (version, response.status, reason))
        for name, value in response.headers:
            _tell_lines(name + b": " + value)


def _tell_lines(octets: bytes) -> None:
    for line in octets.decode("utf-8", "backslashreplace").strip().split("\r\n"):
        tell(line)
