"""Classic network daemons on the standard library's socketserver, hardened once in one shared core.

    launcelot.py, zen.py, …   what each daemon says: one daemon, one file
    framings/                 bytes ↔ messages, without I/O
    serving/                  from accept() to a reply: servers, engines, guards, the conversation
    operating/                ini files, shared logging, lifecycle, the ``daemons`` command
    clients/                  the other end of each protocol; the only code that dials

An author imports from here: a `Service`, the framing it speaks, and `setting` for options of its own.
"""

from daemons.framings import Blocks, Compressed, Fixed, LengthPrefixed, Lines, Stream, Until, Whole
from daemons.operating.values import COUNT, DURATION, RATE, SIZE, TEXT, YES_NO, or_word, setting, word
from daemons.serving.endings import Ending
from daemons.serving.service import Service, Talk

__all__ = [
    "COUNT",
    "DURATION",
    "RATE",
    "SIZE",
    "TEXT",
    "YES_NO",
    "Blocks",
    "Compressed",
    "Ending",
    "Fixed",
    "LengthPrefixed",
    "Lines",
    "Service",
    "Stream",
    "Talk",
    "Until",
    "Whole",
    "or_word",
    "setting",
    "word",
]
