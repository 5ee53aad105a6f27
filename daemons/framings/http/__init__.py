"""HTTP/1.1, the requests: RFC 9112, without its leniencies.

    framing.py    HTTP and its decoder: octets → requests
    head.py       a request line and its headers → Request, or why not
    bodies.py     what stands behind a head: announced octets, or chunks
    refusals.py   errors, and the responses that say them

Where two readers of the same octets can come to two opinions about where a request ends, one of them can be made to
take a stranger's octets for somebody's request ("request smuggling").  So whatever RFC 9112 lets a server forgive or
refuse is refused here, but for empty lines before a request.
"""

from daemons.framings.http.framing import HTTP, HTTPDecoder
from daemons.framings.http.head import Request

__all__ = ["HTTP", "HTTPDecoder", "Request"]
