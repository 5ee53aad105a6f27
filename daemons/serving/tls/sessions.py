"""The session cache of OpenSSL, which a server does without.

For a client of TLS 1.2 that takes no session tickets, OpenSSL keeps each session for two hours, with the name that was
asked for and the client's certificates: up to 20,480 of them, which is 20 to 120 MiB beyond every limit.  Clients that
take tickets, which is nearly all of them, resume their sessions without the cache.

The `ssl` module has no setting for it: python/cpython has none at least up to 3.14.
"""

from __future__ import annotations

import _ssl
import ctypes
import ssl
import sys

#: openssl/ssl.h: commands of SSL_CTX_ctrl(3), and modes of SSL_CTX_set_session_cache_mode(3).
SET_MODE, GET_MODE = 44, 45
OFF, SERVER = 0, 2


def disable_cache(context: ssl.SSLContext) -> None:
    """Keep no sessions for `context`, that of a server.  Does nothing where OpenSSL cannot be called."""
    if sys.implementation.name != "cpython":
        return
    try:
        control = ctypes.CDLL(getattr(_ssl, "__file__", None)).SSL_CTX_ctrl
    except (OSError, AttributeError):  # OpenSSL is within the interpreter, and its functions have no names
        return
    control.restype = ctypes.c_long
    control.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    # The first member of PySSLContext (Modules/_ssl.c), behind what every object begins with.
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    if control(pointer, GET_MODE, 0, None) == SERVER:
        control(pointer, SET_MODE, OFF, None)
