"""JSON-RPC 2.0 (jsonrpc.org/specification): JSON request to JSON response, independent of the transport."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from daemons.rpc.faults import log_fault, reported_text
from daemons.rpc.json import codec
from daemons.rpc.methods import LONGEST_RESULTS, Method
from daemons.rpc.xml.parameter_types import ParameterTypes

#: Error codes of section 5.1, and one for an exception in `daemons.rpc.methods.REPORTED_ERRORS`.
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
METHOD_ERROR = 1

#: Error code of a call that is refused since the results of its batch are too long.
RESULTS_ERROR = -32000

#: Error messages of the specification.
MESSAGES = {
    PARSE_ERROR: "Parse error",
    INVALID_REQUEST: "Invalid Request",
    METHOD_NOT_FOUND: "Method not found",
    INVALID_PARAMS: "Invalid params",
    INTERNAL_ERROR: "Internal error",
    RESULTS_ERROR: "Server error",
}

#: Maximum number of requests in a batch.
MAX_CALLS = 1000

#: Types of an id.
_IDS = frozenset({str, int, float, type(None)})

_NO_ID = object()

_Parameter = inspect.Parameter


class InvalidParams(Exception):
    """The parameters do not match the method.  The text is sent to the peer."""


class Callee:
    """A method and the parameters that it accepts."""

    __slots__ = ("_fewest", "_function", "_most", "_named", "_required", "_types")

    def __init__(self, method: Method) -> None:
        self._function = method.function
        self._types = ParameterTypes(method.signature)
        parameters = method.signature.parameters.values()
        repeated = any(each.kind is _Parameter.VAR_POSITIONAL for each in parameters)
        in_order = [each for each in parameters if each.kind in (_Parameter.POSITIONAL_ONLY, 1)]
        by_name = [each for each in parameters if each.kind in (1, _Parameter.KEYWORD_ONLY)]
        required = [each for each in (*in_order, *by_name) if each.default is each.empty]
        self._fewest = len([each for each in in_order if each.default is each.empty])
        self._most = math.inf if repeated else len(in_order)
        if any(each.kind is _Parameter.KEYWORD_ONLY for each in required):
            self._most = -1  # callable with named parameters only
        #: Accepted types of each parameter that may be given by name.
        self._named = {each.name: self._types.by_name[each.name] for each in by_name}
        self._required = {each.name for each in required}

    def call(self, params: list[Any] | dict[str, Any]) -> Any:
        """Call the method.  Raises `InvalidParams`, and any exception of the method."""
        if type(params) is list:
            if not self._fewest <= len(params) <= self._most:
                raise InvalidParams(self._expected(len(params)))
            if (complaint := self._types.complaint(params)) is not None:
                raise InvalidParams(complaint)
            return self._function(*params)
        assert isinstance(params, dict)
        for name, value in params.items():
            if name not in self._named:
                raise InvalidParams("unknown parameter name")
            kinds = self._named[name]
            if kinds is not None and type(value) not in kinds:
                raise InvalidParams(self._types.expected(name))
        if missing := self._required - params.keys():
            raise InvalidParams(f"missing {', '.join(sorted(missing))}")
        return self._function(**params)

    def _expected(self, given: int) -> str:
        if self._most < 0:
            return "expected parameters by name"
        few, most = self._fewest, self._most
        expected = f"{few}" if few == most else f"{few} or more" if most == math.inf else f"{few} to {most}"
        return f"{given} given, {expected} expected"


class Calls:
    """Dispatcher of requests to `methods`: at most `batch` requests at once, with at most `depth` nested brackets."""

    def __init__(self, methods: Mapping[str, Method], *, batch: int = MAX_CALLS, depth: int = codec.DEPTH) -> None:
        self._callees = {name: Callee(method) for name, method in methods.items()}
        self._batch = batch
        self._depth = depth

    def answer(self, text: bytes) -> str | None:
        """Return the response to a request or a batch, or None for notifications alone.  Raises nothing."""
        try:
            request = codec.read(text, self._depth)
        except (ValueError, MemoryError):
            return error(PARSE_ERROR)
        if type(request) is not list:
            return self._respond(request)
        if not request:
            return _INVALID
        if len(request) > self._batch:
            return error(INVALID_REQUEST, data=f"{len(request)} requests; at most {self._batch} are allowed in a batch")
        responses = []
        left = LONGEST_RESULTS
        for each in request:
            response = self._respond(each, refuse=left < 0)
            if response is not None:
                responses.append(response)
                left -= len(response)
        return f"[{','.join(responses)}]" if responses else None

    def _respond(self, request: Any, *, refuse: bool = False) -> str | None:
        """Return the response to one request, or None for a notification.  With `refuse`, no method is called for a
        request that needs a response."""
        if type(request) is not dict:
            return _INVALID
        number = request.get("id", _NO_ID)
        method, params = request.get("method"), request.get("params", [])
        if (
            (number is not _NO_ID and type(number) not in _IDS)
            or request.get("jsonrpc") != "2.0"
            or type(method) is not str
            or type(params) not in (list, dict)
        ):
            return _INVALID if number is _NO_ID else error(INVALID_REQUEST, number if type(number) in _IDS else None)
        if refuse and number is not _NO_ID:
            text = f"not called: the results of this batch exceed {LONGEST_RESULTS} characters"
            return error(RESULTS_ERROR, number, data=text)
        response = self._call(method, params, None if number is _NO_ID else number)
        # A notification has no response, not even an error: section 4.1.
        return None if number is _NO_ID else response

    def _call(self, method: str, params: Any, number: Any) -> str:
        callee = self._callees.get(method)
        if callee is None:
            return error(METHOD_NOT_FOUND, number)
        try:
            result = callee.call(params)
        except InvalidParams as failure:
            return error(INVALID_PARAMS, number, data=str(failure))
        except KeyboardInterrupt:
            raise
        except BaseException as failure:
            if (text := reported_text(failure, method)) is not None:
                return error(METHOD_ERROR, number, text, data={"exception": type(failure).__name__})
            return error(INTERNAL_ERROR, number, data={"fault": log_fault(failure, method)})
        try:
            encoded_id = str(number) if type(number) is int else codec.write(number)
            return f'{{"jsonrpc":"2.0","result":{codec.write(result)},"id":{encoded_id}}}'
        except Exception as failure:  # the result has no JSON representation
            return error(INTERNAL_ERROR, number, data={"fault": log_fault(failure, method)})


def error(code: int, number: Any = None, message: str = "", data: Any = None) -> str:
    """Return an error response."""
    # The text of an exception may hold an unpaired surrogate, which has no UTF-8.
    text = message.encode("utf-8", "backslashreplace").decode() or MESSAGES[code]
    member = {"code": code, "message": text} | ({} if data is None else {"data": data})
    return codec.write({"jsonrpc": "2.0", "error": member, "id": number})


#: Response to a request without a readable id.  A batch of 2 KB may hold a thousand of them.
_INVALID = error(INVALID_REQUEST)
