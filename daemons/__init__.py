"""Classic network daemons on the standard library's socketserver, hardened once in one shared core.

    launcelot.py, zen.py, …   what each daemon says: one daemon, one file
    webapp/                   a web site on WSGI, of what authors of web sites use
    framings/                 bytes ↔ messages, without I/O
    serving/                  from accept() to a reply: servers, engines, guards, the conversation
    web/                      handlers of the standard library's http.server, in memory
    rpc/                      functions that are published, and the protocols that carry their calls
    operating/                ini files, shared logging, lifecycle, the ``daemons`` command
    clients/                  the other end of each protocol; the only code that dials

An author imports from here: a `Service`, the framing it speaks, and `setting` for options of its own; `Kind` for one
that is written in a way of its own.  Functions that are published need nothing from here, but maybe `idempotent`.
"""

from daemons.framings import Blocked, Blocks, Compressed, Fixed, Framing, LengthPrefixed, Lines, Stream, Until, Whole
from daemons.rpc.methods import idempotent
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.file_slice import Span
from daemons.serving.conversation.service import Reply, ReplyCutShort, Service, Talk, Visitor
from daemons.settings.values import (
    COUNT,
    DURATION,
    PLACE,
    RATE,
    SHARE,
    SIZE,
    TEXT,
    YES_NO,
    Kind,
    or_word,
    setting,
    table,
    word,
)

__all__ = [
    "COUNT",
    "DURATION",
    "PLACE",
    "RATE",
    "SHARE",
    "SIZE",
    "TEXT",
    "YES_NO",
    "Blocked",
    "Blocks",
    "Compressed",
    "Ending",
    "Fixed",
    "Framing",
    "Kind",
    "LengthPrefixed",
    "Lines",
    "Reply",
    "ReplyCutShort",
    "Service",
    "Span",
    "Stream",
    "Talk",
    "Until",
    "Visitor",
    "Whole",
    "idempotent",
    "or_word",
    "setting",
    "table",
    "word",
]
