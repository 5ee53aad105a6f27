"""Disabling of OpenSSL's server-side session cache.

For a TLS 1.2 client without session tickets, OpenSSL keeps each session for two hours, with the server name and the
client's certificates: up to 20,480 sessions, 20 to 120 MiB outside of every limit.  Nearly all clients use session
tickets, and resume their sessions without the cache.

The `ssl` module has no setting for it, at least up to Python 3.14.
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
    """Disable the session cache of a server's context.  Do nothing if OpenSSL cannot be called."""
    if sys.implementation.name != "cpython":
        return
    try:
        control = ctypes.CDLL(getattr(_ssl, "__file__", None)).SSL_CTX_ctrl
    except (OSError, AttributeError):  # OpenSSL is linked into the interpreter without exported symbols
        return
    control.restype = ctypes.c_long
    control.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    # The first member of PySSLContext (Modules/_ssl.c), after PyObject_HEAD.
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    if control(pointer, GET_MODE, 0, None) == SERVER:
        control(pointer, SET_MODE, OFF, None)
