"""HTTP/1.1 framing: RFC 9112, without its leniencies.

    grammar.py      lines and fields, which requests and responses share
    bodies.py       the body after a head: by Content-Length, in chunks, or until the close
    trailers.py     fields that are not allowed after the last chunk

    framing.py      HTTP and its decoder: bytes → requests
    head.py         a request line and its fields → Request, or an error
    refusals.py     errors, with the responses to them

    responses.py    ResponseDecoder: bytes → the response to a request
    response_head.py    a status line and its fields → ResponseHead, or an error

If two readers of the same bytes disagree about the end of a request, an attacker can insert a request into the
connection of another client (request smuggling).  So input that RFC 9112 allows a server to accept or to reject is
rejected here, except empty lines before a request.
"""

from daemons.framings.http.framing import HTTP, HTTPDecoder
from daemons.framings.http.head import Request
from daemons.framings.http.response_head import ResponseHead, ResponseLimits
from daemons.framings.http.responses import ResponseDecoder

__all__ = ["HTTP", "HTTPDecoder", "Request", "ResponseDecoder", "ResponseHead", "ResponseLimits"]
