"""States of a conversation, which an engine reads once per turn."""

#: IDLE      between two messages: nothing is held
#: PARTIAL   part of a message is held
#: PENDING   more output follows: write the returned bytes, then call `Conversation.proceed`
#: OVER      write the returned bytes, then close; `Conversation.ending` is the reason
#: SHAKING   a TLS handshake or a PROXY header is not complete (`daemons.serving.conversation.wrapper`)
#: WAITING   write the returned bytes, but do not read; call `Conversation.resume` when it is `ready`, or after its
#:           `timeout`
IDLE, PARTIAL, PENDING, OVER, SHAKING, WAITING = range(6)
