"""Replies without the details in which they may differ."""

from __future__ import annotations

import re

#: Numbers of versions, which are compared only by whether they are 0.
CAS = re.compile(rb"^(VALUE \S+ \d+ \d+) (\d+)(?=\r\n)|( c)(\d+)|( cas=)(\d+)", re.MULTILINE)

#: Details that depend on memcached's memory, its background threads, and its clock of whole seconds.
DETAILS = re.compile(rb" la=\d+| l[0-9](?=[ \r])| fetch=\w+ cls=\d+ size=\d+")

#: Seconds until an item expires; memcached counts whole seconds of a clock of its own.
SECONDS = re.compile(rb"( t| exp=-)(\d\d+)")


def comparable(reply: bytes) -> bytes:
    reply = SECONDS.sub(lambda match: b"%b~%d" % (match[1], round(int(match[2]) / 50)), DETAILS.sub(b"", reply))

    def masked(match: re.Match[bytes]) -> bytes:
        name, number = [group for group in match.groups() if group is not None]
        return b"%b CAS" % name if int(number) else name

    return CAS.sub(masked, reply)
