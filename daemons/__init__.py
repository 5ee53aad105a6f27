"""Classic network daemons on the standard library's socketserver, hardened once in one shared core.

    launcelot.py, zen.py, …   the daemons, one file each
    webapp/                   a web site on WSGI, of what authors of web sites use
    framings/                 bytes ↔ messages, without I/O
    serving/                  from accept() to a reply: servers, engines, guards, the conversation
    web/                      handlers of the standard library's http.server, in memory
    rpc/                      functions that are published, and the protocols that carry their calls
    operating/                ini files, shared logging, lifecycle, the ``daemons`` command
    clients/                  the other end of each protocol; the only code that dials

Authors import from here: `Service`, its framing, `setting` for options, `FieldType` for an option with a format of its
own.  Published functions need nothing from here, except perhaps `idempotent`.
"""

from daemons.framings import Blocked, Blocks, Compressed, Fixed, Framing, LengthPrefixed, Lines, Stream, Until, Whole
from daemons.printable import escape
from daemons.rpc.methods import idempotent
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.file_slice import FileSlice
from daemons.serving.conversation.peer import Peer, PeerGone
from daemons.serving.conversation.reply import Reply
from daemons.serving.conversation.service import ReplyCutShort, Service, Talk
from daemons.serving.conversation.steps import Wait
from daemons.settings.values import (
    COUNT,
    DURATION,
    FRACTION,
    PATH,
    RATE,
    SIZE,
    TEXT,
    YES_NO,
    FieldType,
    choice,
    optional,
    setting,
    table,
)

__all__ = [
    "COUNT",
    "DURATION",
    "FRACTION",
    "PATH",
    "RATE",
    "SIZE",
    "TEXT",
    "YES_NO",
    "Blocked",
    "Blocks",
    "Compressed",
    "Ending",
    "FieldType",
    "FileSlice",
    "Fixed",
    "Framing",
    "LengthPrefixed",
    "Lines",
    "Peer",
    "PeerGone",
    "Reply",
    "ReplyCutShort",
    "Service",
    "Stream",
    "Talk",
    "Until",
    "Wait",
    "Whole",
    "choice",
    "escape",
    "idempotent",
    "optional",
    "setting",
    "table",
]
