"""WebSocket (RFC 6455): the handshake over HTTP, and the framing of messages after it.

    messages.py     the types of messages: Text, plain bytes, Ping, Pong and Close
    masking.py      the XOR mask of a client's frames
    header.py       the header of a frame: opcode, length
    framing.py      WebSocket and its decoder: bytes → messages
    refusals.py     errors, with the code of the Close for them
    handshake.py    the request and the response with Upgrade, for both sides

Extensions such as permessage-deflate are not offered and not accepted, so each message has the length that was sent,
and one `limit` bounds its memory.
"""

from daemons.framings.websocket.framing import WebSocket, WebSocketDecoder
from daemons.framings.websocket.handshake import (
    Handshake,
    HandshakeError,
    accept_handshake,
    check_handshake,
    new_key,
    read_handshake,
    request_handshake,
)
from daemons.framings.websocket.messages import Close, Control, Encoded, Ping, Pong, Text

__all__ = [
    "Close",
    "Control",
    "Encoded",
    "Handshake",
    "HandshakeError",
    "Ping",
    "Pong",
    "Text",
    "WebSocket",
    "WebSocketDecoder",
    "accept_handshake",
    "check_handshake",
    "new_key",
    "read_handshake",
    "request_handshake",
]
