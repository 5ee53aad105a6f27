"""XML-RPC, the client's end: xmlrpc.com/spec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xmlrpc.client import Fault

from daemons.clients.rpc.rpc import Call, Caller, ProtocolError, RemoteFault
from daemons.rpc.xml.encoding import UnreadableError
from daemons.rpc.xml.response import ResponseBuilder
from daemons.rpc.xml.writer import Writer

#: Methods that tell of others.
_ABOUT = frozenset(("system.listMethods", "system.methodSignature", "system.methodHelp"))

#: Methods that are described at most: each takes two calls.
MOST_METHODS = 10_000

#: Calls in one system.multicall when methods are described; servers bound their number, ours at 1000.
TOGETHER = 100

_WRITER = Writer(allow_none=True)


class XMLCaller(Caller):
    """Calls by XML-RPC; dates and octets are `datetime` and `bytes`, and None is sent as ``<nil/>``."""

    media = "text/xml"

    def call(self, method: str, params: Sequence[Any]) -> Any:
        return self._call(method, params, method in _ABOUT or self.repeatable(method))

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        return self._multicall(calls, self.repeatable(*(method for method, _ in calls)))

    def listed(self) -> list[tuple[str, str, str]]:
        """As the classic introspecting client has it: methods of the system are left out."""
        names = self._call("system.listMethods", (), True)
        if not isinstance(names, list):
            raise ProtocolError(f"{self.place} has not listed its methods")
        if len(names) > MOST_METHODS:
            raise ProtocolError(f"{self.place} has listed {len(names)} methods; {MOST_METHODS} are described at most")
        names = list(dict.fromkeys(map(str, names)))
        described = [name for name in names if not name.startswith("system.")]
        about = [(f"system.{part}", [name]) for name in described for part in ("methodSignature", "methodHelp")]
        answers = iter(self._answers(about, together="system.multicall" in names))
        found = []
        for name, ways, text in zip(described, answers, answers, strict=True):
            known = isinstance(ways, list) and ways
            shown = "\n".join(f"{name}({way})" for way in ways) if known else f"{name}(...)"
            found.append((name, shown, str(text)))
        return found

    def _answers(self, calls: Sequence[Call], *, together: bool) -> list[Any]:
        """The results of calls that may be repeated; many in one request if the server has system.multicall.  Raises
        `RemoteFault` for the first that has failed."""
        if not together:
            return [self._call(method, params, True) for method, params in calls]
        groups = [calls[start : start + TOGETHER] for start in range(0, len(calls), TOGETHER)]
        answers = [answer for group in groups for answer in self._multicall(group, True)]
        for answer in answers:
            if isinstance(answer, RemoteFault):
                raise answer
        return answers

    def _multicall(self, calls: Sequence[Call], repeatable: bool) -> list[Any]:
        told = [{"methodName": method, "params": list(params)} for method, params in calls]
        answers = self._call("system.multicall", [told], repeatable)
        if not isinstance(answers, list) or len(answers) != len(calls):
            raise ProtocolError(f"{self.place} has not answered {len(calls)} calls")
        return [self._answer(answer) for answer in answers]

    def _call(self, method: str, params: Sequence[Any], repeatable: bool) -> Any:
        try:
            body = _WRITER.call(method, params)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{method}: {error}") from error
        received = self.post(body, repeatable)
        try:
            return ResponseBuilder().read(received)
        except Fault as fault:
            raise RemoteFault(fault.faultCode, fault.faultString) from None
        except UnreadableError as error:
            raise ProtocolError(f"{self.place} has sent malformed XML-RPC: {error}") from error

    def _answer(self, answer: Any) -> Any:
        match answer:
            case [result]:
                return result
            case {"faultCode": int(code), "faultString": str(text)}:
                return RemoteFault(code, text)
        raise ProtocolError(f"{self.place} has answered one of the calls with what is no answer")
