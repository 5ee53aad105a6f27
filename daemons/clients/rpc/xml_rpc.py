"""Client of XML-RPC: xmlrpc.com/spec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xmlrpc.client import Fault

from daemons.clients.rpc.rpc import Call, Caller, ProtocolError, RemoteFault
from daemons.rpc.xml.encoding import UnreadableError
from daemons.rpc.xml.response import ResponseBuilder
from daemons.rpc.xml.writer import Writer

#: Introspection methods, which are idempotent.
_INTROSPECTION = frozenset(("system.listMethods", "system.methodSignature", "system.methodHelp"))

#: Maximum number of methods that are listed; each takes two calls.
MOST_METHODS = 10_000

#: Calls in one system.multicall when methods are listed; servers limit their number, those of this suite to 1000.
TOGETHER = 100

_WRITER = Writer(allow_none=True)


class XMLCaller(Caller):
    """XML-RPC client; dates and base64 values are `datetime` and `bytes`, and None is sent as ``<nil/>``."""

    media = "text/xml"

    def call(self, method: str, params: Sequence[Any]) -> Any:
        return self._call(method, params, method in _INTROSPECTION or self.repeatable(method))

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        return self._multicall(calls, self.repeatable(*(method for method, _ in calls)))

    def list_methods(self) -> list[tuple[str, str, str]]:
        """Return the name, the signatures and the description of each method, without the system's own methods."""
        names = self._call("system.listMethods", (), True)
        if not isinstance(names, list):
            raise ProtocolError(f"{self.endpoint} did not return a list of its methods")
        if len(names) > MOST_METHODS:
            raise ProtocolError(f"{self.endpoint} listed {len(names)} methods; at most {MOST_METHODS} are accepted")
        names = list(dict.fromkeys(map(str, names)))
        described = [name for name in names if not name.startswith("system.")]
        about = [(f"system.{part}", [name]) for name in described for part in ("methodSignature", "methodHelp")]
        results = iter(self._results(about, use_multicall="system.multicall" in names))
        found = []
        for name, signatures, text in zip(described, results, results, strict=True):
            known = isinstance(signatures, list) and signatures
            shown = "\n".join(f"{name}({way})" for way in signatures) if known else f"{name}(...)"
            found.append((name, shown, str(text)))
        return found

    def _results(self, calls: Sequence[Call], *, use_multicall: bool) -> list[Any]:
        """Return the results of idempotent calls, made in batches if the server has system.multicall.  Raises
        `RemoteFault` for the first call that failed."""
        if not use_multicall:
            return [self._call(method, params, True) for method, params in calls]
        groups = [calls[start : start + TOGETHER] for start in range(0, len(calls), TOGETHER)]
        results = [result for group in groups for result in self._multicall(group, True)]
        for result in results:
            if isinstance(result, RemoteFault):
                raise result
        return results

    def _multicall(self, calls: Sequence[Call], repeatable: bool) -> list[Any]:
        requests = [{"methodName": method, "params": list(params)} for method, params in calls]
        results = self._call("system.multicall", [requests], repeatable)
        if not isinstance(results, list) or len(results) != len(calls):
            raise ProtocolError(f"{self.endpoint} did not return {len(calls)} results")
        return [self._result(result) for result in results]

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
            raise ProtocolError(f"{self.endpoint} sent malformed XML-RPC: {error}") from error

    def _result(self, result: Any) -> Any:
        match result:
            case [result]:
                return result
            case {"faultCode": int(code), "faultString": str(text)}:
                return RemoteFault(code, text)
        raise ProtocolError(f"{self.endpoint} sent an invalid result for one of the calls")
