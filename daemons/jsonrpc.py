"""Return the lengths of the arguments over JSON-RPC.

[daemon]
jsonrpc = daemons.jsonrpc
port = 7002
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from daemons import idempotent

__all__ = ["lengths"]


@idempotent
def lengths(*args: Any) -> list[Any]:
    """Return a pair of length and value for each argument; the length is null for a value without one."""
    return [[len(arg) if isinstance(arg, Sized) else None, arg] for arg in args]
