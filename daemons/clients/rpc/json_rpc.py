"""Client of JSON-RPC 2.0: jsonrpc.org/specification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daemons.clients.net.dial import NetworkError, dial
from daemons.clients.net.total_deadline import ReplyDeadline
from daemons.clients.rpc.rpc import LONGEST, RECEIVE, Call, Caller, ProtocolError, RemoteFault, Sent
from daemons.rpc.json import codec
from daemons.rpc.json.schema import describe

#: The method that describes the service: spec.open-rpc.org, "Service Discovery Method".
DISCOVER = "rpc.discover"


class JSONCaller(Caller):
    """JSON-RPC client over HTTP, or with `lines` over a plain connection with one message per line."""

    media = "application/json"

    def __init__(self, *arguments: Any, lines: bool = False, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._lines = lines

    def call(self, method: str, params: Sequence[Any]) -> Any:
        return self._call(method, params, self.repeatable(method))

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        if not calls:
            return []  # an empty batch is an invalid request (section 6)
        requests = [_request(method, params, number) for number, (method, params) in enumerate(calls)]
        response = self._exchange(requests, self.repeatable(*(method for method, _ in calls)))
        if isinstance(response, dict):
            fault = self._result(response, None)
            assert isinstance(fault, RemoteFault), "a result has an id"
            raise fault
        # The server may return the responses in any order (section 6).
        by_id = {}
        for each in response if isinstance(response, list) else ():
            if isinstance(each, dict) and type(number := each.get("id")) is int:
                by_id[number] = each
        if by_id.keys() != set(range(len(calls))) or len(response) != len(calls):
            raise ProtocolError(f"{self.endpoint} did not return {len(calls)} results")
        return [self._result(by_id[number], number) for number in range(len(calls))]

    def list_methods(self) -> list[tuple[str, str, str]]:
        document = self._call(DISCOVER, (), True)
        try:
            return [
                (each["name"], _signature(each), str(each.get("description") or each.get("summary") or ""))
                for each in document["methods"]
            ]
        except (TypeError, LookupError, AttributeError) as error:
            raise ProtocolError(f"{self.endpoint} described its methods in a format other than OpenRPC") from error

    def _call(self, method: str, params: Sequence[Any], repeatable: bool) -> Any:
        answer = self._result(self._exchange(_request(method, params, 0), repeatable), 0)
        if isinstance(answer, RemoteFault):
            raise answer
        return answer

    def _exchange(self, requests: Any, repeatable: bool) -> Any:
        try:
            body = codec.write(requests).encode("ascii")
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"the parameters cannot be encoded as JSON: {error}") from error
        try:
            return codec.read(self.post(body, repeatable))
        except ValueError as error:
            raise ProtocolError(f"{self.endpoint} sent a response that is not JSON") from error

    def _result(self, answer: Any, number: int | None) -> Any:
        """Return the result in a response, or a `RemoteFault`.  Raises `ProtocolError`."""
        match answer:
            case {"jsonrpc": "2.0", "error": {"code": int(code), "message": str(text), **more}, "id": found} if type(
                code
            ) is int and (found is None or (type(found) is int and found == number)):
                data = more.get("data")
                shown_data = data if isinstance(data, str) else codec.write(data)
                return RemoteFault(code, text if data is None else f"{text}: {shown_data}")
            # type() and not isinstance(): bool is a subclass of int.
            case {"jsonrpc": "2.0", "result": result, "id": int(found)} if type(found) is int and found == number:
                return result
        raise ProtocolError(f"{self.endpoint} sent a response that is not JSON-RPC")

    def _post(self, body: bytes, sent: Sent) -> bytes:
        if not self._lines:
            return super()._post(body, sent)
        endpoint = self.endpoint
        received = bytearray()
        with dial(endpoint.address, endpoint.timeout, endpoint.cafile) as peer:
            try:
                sent.maybe = True
                peer.sendall(body + b"\n")
                searched = 0
                deadline = ReplyDeadline(endpoint.timeout)
                while (end := received.find(b"\n", searched)) < 0:
                    searched = len(received)
                    if searched > LONGEST:
                        raise ProtocolError(f"{endpoint} sent a response of more than {LONGEST} bytes")
                    deadline.check(searched)
                    data = peer.recv(RECEIVE)
                    if not data:
                        raise ConnectionResetError("closed in the middle of the response")
                    received += data
            except OSError as error:
                raise NetworkError(endpoint.address, error) from error
        return bytes(received[:end])


def _request(method: str, params: Sequence[Any], number: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": list(params), "id": number}


def _signature(method: dict[str, Any]) -> str:
    """Return a method's signature, such as ``subtract(minuend: integer, subtrahend: integer) -> integer``."""
    params = [
        f"*{_typed(each)}" if each.get("x-repeated") else _typed(each) if each.get("required") else f"[{_typed(each)}]"
        for each in method.get("params", ())
    ]
    result = _word(method.get("result"))
    return f"{method['name']}({', '.join(params)}){result and f' -> {result}'}"


def _typed(param: dict[str, Any]) -> str:
    word = _word(param)
    return f"{param['name']}: {word}" if word else str(param["name"])


def _word(described: Any) -> str:
    """Return the type of a parameter or a result; empty if its schema is not of the form this suite produces."""
    try:
        return describe(described["schema"])
    except (TypeError, LookupError):
        return ""
