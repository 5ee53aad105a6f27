"""The examples of the JSON-RPC 2.0 specification (jsonrpc.org/specification, section 7), and their methods."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["get_data", "notify_hello", "notify_sum", "subtract", "sum", "update"]


def subtract(minuend: int, subtrahend: int) -> int:
    """Return the difference."""
    return minuend - subtrahend


def sum(*numbers: int) -> int:
    """Return the sum."""
    total = 0
    for number in numbers:
        total += number
    return total


def get_data() -> list[Any]:
    """Return data."""
    return ["hello", 5]


def update(*values: int) -> None:
    """A notification."""


notify_hello = notify_sum = update

#: Requests and responses as in the specification; "" stands for no response.
EXAMPLES = """
{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}
{"jsonrpc": "2.0", "result": 19, "id": 1}

{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}
{"jsonrpc": "2.0", "result": -19, "id": 2}

{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}
{"jsonrpc": "2.0", "result": 19, "id": 3}

{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}
{"jsonrpc": "2.0", "result": 19, "id": 4}

{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}
""

{"jsonrpc": "2.0", "method": "foobar"}
""

{"jsonrpc": "2.0", "method": "foobar", "id": "1"}
{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "1"}

{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]
{"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null}

{"jsonrpc": "2.0", "method": 1, "params": "bar"}
{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}

[ {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method" ]
{"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null}

[]
{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}

[1]
[{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}]

[1,2,3]
[{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
 {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
 {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}]

[ {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
  {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
  {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
  {"foo": "boo"},
  {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
  {"jsonrpc": "2.0", "method": "get_data", "id": "9"} ]
[ {"jsonrpc": "2.0", "result": 7, "id": "1"},
  {"jsonrpc": "2.0", "result": 19, "id": "2"},
  {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
  {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "5"},
  {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"} ]

[ {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
  {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]} ]
""
"""


def examples() -> list[tuple[str, Any]]:
    """Return pairs of a request and the decoded response."""
    found = []
    for example in EXAMPLES.strip().split("\n\n"):
        lines = example.split("\n")
        # The answer begins at the last line that is not indented.
        start = max(number for number, line in enumerate(lines) if not line.startswith(" "))
        found.append(("\n".join(lines[:start]), json.loads("\n".join(lines[start:]))))
    return found
