"""Bytes per transfer between a socket and a conversation, for all engines."""

from __future__ import annotations

#: Bytes per recv(2).  Larger reads are not faster for messages, and cost memory per connection.
RECEIVE = 16 * 1024

#: Maximum bytes per blocking send(2).  The peer must take this much of a file within one write_timeout.
PORTION = 64 * 1024

#: Bytes of a file that an event-driven engine sends before other connections are handled.
SENDFILE = 1024 * 1024
