"""JSON-RPC 2.0, the client's end: jsonrpc.org/specification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daemons.clients.net.dial import NetworkError, dial
from daemons.clients.net.total_deadline import Due
from daemons.clients.rpc.rpc import LONGEST, RECEIVE, Call, Caller, ProtocolError, RemoteFault, Sent
from daemons.rpc.json import codec
from daemons.rpc.json.schema import describe

#: Asks which methods there are: spec.open-rpc.org, "Service Discovery Method".
DISCOVER = "rpc.discover"


class JSONCaller(Caller):
    """Calls by JSON-RPC, over HTTP; or with `lines` over a bare connection, a request and its response a line each."""

    media = "application/json"

    def __init__(self, *arguments: Any, lines: bool = False, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._lines = lines

    def call(self, method: str, params: Sequence[Any]) -> Any:
        return self._call(method, params, self.repeatable(method))

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        if not calls:
            return []  # an empty batch is an invalid request: section 6
        told = [_request(method, params, number) for number, (method, params) in enumerate(calls)]
        heard = self._ask(told, self.repeatable(*(method for method, _ in calls)))
        if isinstance(heard, dict):
            fault = self._answer(heard, None)
            assert isinstance(fault, RemoteFault), "a result has a number"
            raise fault
        # In any order: section 6.
        answers = {}
        for each in heard if isinstance(heard, list) else ():
            if isinstance(each, dict) and type(number := each.get("id")) is int:
                answers[number] = each
        if answers.keys() != set(range(len(calls))) or len(heard) != len(calls):
            raise ProtocolError(f"{self.place} has not answered {len(calls)} calls")
        return [self._answer(answers[number], number) for number in range(len(calls))]

    def listed(self) -> list[tuple[str, str, str]]:
        document = self._call(DISCOVER, (), True)
        try:
            return [
                (each["name"], _way(each), str(each.get("description") or each.get("summary") or ""))
                for each in document["methods"]
            ]
        except (TypeError, LookupError, AttributeError) as error:
            raise ProtocolError(f"{self.place} has listed its methods in another way than OpenRPC's") from error

    def _call(self, method: str, params: Sequence[Any], repeatable: bool) -> Any:
        answer = self._answer(self._ask(_request(method, params, 0), repeatable), 0)
        if isinstance(answer, RemoteFault):
            raise answer
        return answer

    def _ask(self, told: Any, repeatable: bool) -> Any:
        try:
            body = codec.write(told).encode("ascii")
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"that is not to be had in JSON: {error}") from error
        try:
            return codec.read(self.post(body, repeatable))
        except ValueError as error:
            raise ProtocolError(f"{self.place} has answered with what is no JSON") from error

    def _answer(self, answer: Any, number: int | None) -> Any:
        """The result, or a `RemoteFault`.  Raises `ProtocolError`."""
        match answer:
            case {"jsonrpc": "2.0", "error": {"code": int(code), "message": str(text), **more}, "id": found} if type(
                code
            ) is int and (found is None or (type(found) is int and found == number)):
                data = more.get("data")
                shown_data = data if isinstance(data, str) else codec.write(data)
                return RemoteFault(code, text if data is None else f"{text}: {shown_data}")
            # In Python, false is an int, too.
            case {"jsonrpc": "2.0", "result": result, "id": int(found)} if type(found) is int and found == number:
                return result
        raise ProtocolError(f"{self.place} has answered with what is no JSON-RPC")

    def _post(self, body: bytes, sent: Sent) -> bytes:
        if not self._lines:
            return super()._post(body, sent)
        place = self.place
        received = bytearray()
        with dial(place.address, place.timeout, place.cafile) as peer:
            try:
                sent.maybe = True
                peer.sendall(body + b"\n")
                searched = 0
                due = Due(place.timeout)
                while (end := received.find(b"\n", searched)) < 0:
                    searched = len(received)
                    if searched > LONGEST:
                        raise ProtocolError(f"{place} has answered with more than {LONGEST} octets")
                    due.check(searched)
                    data = peer.recv(RECEIVE)
                    if not data:
                        raise ConnectionResetError("closed in the middle of the answer")
                    received += data
            except OSError as error:
                raise NetworkError(place.address, error) from error
        return bytes(received[:end])


def _request(method: str, params: Sequence[Any], number: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": list(params), "id": number}


def _way(method: dict[str, Any]) -> str:
    """As a signature: ``subtract(minuend: integer, subtrahend: integer) -> integer``."""
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
    """The type of a parameter or a result, where its schema is one of ours."""
    try:
        return describe(described["schema"])
    except (TypeError, LookupError):
        return ""
