"""HTTP/1.1, the framing: RFC 9112, without its leniencies.

    grammar.py      lines and fields, which requests and responses share
    bodies.py       the bytes behind a head: as many as announced, chunks, or all until the close
    trailers.py     fields that may not stand behind the last chunk

    framing.py      HTTP and its decoder: bytes → requests
    head.py         a request line and its fields → Request, or an error
    refusals.py     errors, with the responses to them

    responses.py    ResponseDecoder: bytes → the response to a request

Where two readers of the same octets can come to two opinions about where a request ends, one of them can be made to
take a stranger's octets for somebody's request ("request smuggling").  So whatever RFC 9112 lets a server forgive or
refuse is refused here, but for empty lines before a request.
"""

from daemons.framings.http.framing import HTTP, HTTPDecoder
from daemons.framings.http.head import Request
from daemons.framings.http.responses import ResponseDecoder, ResponseHead, ResponseLimits

__all__ = ["HTTP", "HTTPDecoder", "Request", "ResponseDecoder", "ResponseHead", "ResponseLimits"]
