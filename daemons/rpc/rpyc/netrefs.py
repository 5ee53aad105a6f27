"""Guarded RPyC connection: a peer can use only the methods and objects that are exposed to it.

In RPyC each side can call the other.  Objects that are not copied (numbers, text, bytes, and tuples of those are) are
passed as *netrefs*, references to an object of the other side, so both sides need to be guarded.  This subclass of
RPyC's `Connection` allows a peer two operations on objects passed to it: to call a function or method, and to get an
exposed attribute, which its class defines as ``exposed_…``.  There is no access to other attributes (such as
``__class__`` or ``__globals__``), no assignment, no pickling, no repr and no comparison.

RPyC is not in the standard library: ``pip install 'camelot-daemons[rpyc]'``.
"""

from __future__ import annotations

import inspect
import secrets
from contextlib import suppress
from types import FunctionType, MethodType
from typing import Any

from rpyc.core import brine, consts, netref
from rpyc.core.protocol import Connection
from rpyc.lib import get_id_pack

from daemons.rpc.rpyc import brine_limits
from daemons.rpc.rpyc.frames import Frames, Refused
from daemons.serving.safe_logger import SafeLogger

log = SafeLogger(__name__)

#: Everything that RPyC's configuration can forbid is forbidden, except exposed attributes.
CONFIG = {
    "allow_safe_attrs": False,  # __mul__ is among them: "a" * 10**10
    "allow_exposed_attrs": True,
    "allow_public_attrs": False,
    "allow_all_attrs": False,
    "allow_getattr": True,
    "allow_setattr": False,
    "allow_delattr": False,
    "allow_pickle": False,
    "include_local_traceback": False,
    "include_local_version": False,
    "import_custom_exceptions": False,
    "instantiate_custom_exceptions": False,
    "propagate_SystemExit_locally": False,
    "propagate_KeyboardInterrupt_locally": False,  # by default the peer may raise one here
    "bind_threads": False,
    "sync_request_timeout": None,  # `Frames` has the deadlines
}

#: Maximum number of local objects referenced by the peer.  Each method that it gets is one.
MAX_EXPORTED = 1000

#: Maximum number of objects of the peer referenced here.  A call passes two or three; releasing each takes a message.
MAX_IMPORTED = 100

#: Maximum nesting of requests: either side may send a request while it executes one for the other.
MAX_NESTED = 16


class NotExposed(Refused):
    """The requested attribute is not exposed."""


class RemoteError(Exception):
    """A call to the other side raised an exception.  `dump` is that exception as received."""

    def __init__(self, dump: Any) -> None:
        self.dump = dump
        match dump:
            case ((str(), str(name)), tuple(args), _, _):
                super().__init__(f"{name}: {', '.join(map(str, args))}")
            case _:
                super().__init__("malformed exception")


_METHODS = [(name, "") for name in ("__call__", "__iter__", "__next__")]


class RemoteObject(netref.class_factory(("RemoteObject", 0, 0), _METHODS)):  # type: ignore[misc]
    """Reference to an object of the peer.  RPyC would create a class per object, with method names sent by the peer."""

    __slots__ = ()
    #: RPyC's own property sends a request to the peer for each isinstance().
    __class__ = property(lambda self: RemoteObject)

    def __del__(self) -> None:
        # Without waiting for a response: RPyC would keep the pending request until the peer responds.
        with suppress(Exception):
            conn = object.__getattribute__(self, "____conn__")
            conn.release(self)


class GuardedConnection(Connection):  # type: ignore[misc]
    """Connection that lets the peer use only exported objects.  Not thread-safe."""

    def __init__(self, root: Any, frames: Frames, peer: str) -> None:
        super().__init__(root, frames, CONFIG)
        self._peer = peer
        self._nested = 0

    def close(self) -> None:
        """Close the connection.  RPyC's own method sends a request first, and waits for the response."""
        if not self._closed:
            self._cleanup()

    def release(self, remote: RemoteObject) -> None:
        """Notify the peer that one of its objects is no longer referenced."""
        if not self._closed:
            boxed = self._box((remote, remote.____refcount__))
            self._send(consts.MSG_REQUEST, self._get_seq_id(), (consts.HANDLE_DEL, boxed))

    @classmethod
    def _request_handlers(cls) -> dict[int, Any]:
        return {
            consts.HANDLE_PING: cls._handle_ping,
            consts.HANDLE_CLOSE: cls._handle_close,
            consts.HANDLE_GETROOT: cls._handle_getroot,
            consts.HANDLE_GETATTR: cls._handle_getattr,
            consts.HANDLE_CALL: cls._handle_call,
            consts.HANDLE_CALLATTR: cls._handle_callattr,
            consts.HANDLE_INSPECT: cls._handle_inspect,
            consts.HANDLE_DEL: cls._handle_del,
        }

    def _box(self, obj: Any) -> Any:
        # An exported object is kept until the peer releases it.
        if len(self._local_objects._dict) >= MAX_EXPORTED and not brine.dumpable(obj):
            raise Refused(f"limit reached: {MAX_EXPORTED} objects are referenced by the peer")
        return super()._box(obj)

    def _unbox(self, package: Any) -> Any:
        """Return the received value or object.  Raises `Refused`.

        Any method of a netref may run code of the peer, so types are checked without calling a method of the value."""
        if type(package) is not tuple or len(package) != 2 or type(package[0]) is not int:
            raise Refused("expected a labeled value")
        label, value = package
        if label == consts.LABEL_VALUE:
            return value
        if label == consts.LABEL_TUPLE:
            if type(value) is not tuple:
                raise Refused("expected a tuple of labeled values")
            return tuple([self._unbox(item) for item in value])
        _check_id_pack(value)
        if (
            label == consts.LABEL_REMOTE_REF
            and value not in self._proxy_cache
            and len(self._proxy_cache) >= MAX_IMPORTED
        ):
            raise Refused(f"limit reached: {MAX_IMPORTED} objects of the peer are referenced")
        try:
            return super()._unbox(package)
        except KeyError as error:
            raise Refused("unknown object") from error

    def _netref_factory(self, id_pack: Any) -> RemoteObject:
        return RemoteObject(self, id_pack)

    def _unbox_exc(self, raw: Any) -> Any:
        # RPyC's own method creates a class for each name sent by the peer, and never releases it.
        return StopIteration if raw == consts.EXC_STOP_ITERATION else RemoteError(raw)

    def _dispatch(self, data: bytes) -> None:
        # The first byte says whether it is a request.
        brine_limits.check(data[1:], getattr(self._channel, "values", None))
        try:
            super()._dispatch(data)
        except (EOFError, OSError):
            raise
        except Exception as error:  # decoding errors only: errors of requests are handled below
            raise Refused("malformed message") from error

    def _seq_request_callback(self, msg: int, seq: Any, is_exc: bool, obj: Any) -> None:
        if type(seq) is not int:
            raise Refused("expected a request number")
        super()._seq_request_callback(msg, seq, is_exc, obj)

    def _dispatch_request(self, seq: Any, raw_args: Any) -> None:
        if type(seq) is not int:
            raise Refused("expected a request number")
        try:
            result = self._box(self._perform(raw_args))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if self._closed:
                raise EOFError("connection closed by the peer") from error
            if error is self._channel.over and not isinstance(error, Refused | TimeoutError):
                raise  # the connection has failed, so no response can be sent
            self._send(consts.MSG_EXCEPTION, seq, self._encode_error(error))
            return
        if not self._closed:
            self._send(consts.MSG_REPLY, seq, result)

    def _perform(self, raw_args: Any) -> Any:
        if type(raw_args) is not tuple or len(raw_args) != 2 or type(raw_args[0]) is not int:
            raise Refused("malformed request")
        number, boxed = raw_args
        if self._nested >= MAX_NESTED:
            raise Refused(f"more than {MAX_NESTED} nested requests")
        args = self._unbox(boxed)
        if type(args) is not tuple:
            raise Refused("malformed request: expected a tuple of arguments")
        handler = self._HANDLERS.get(number, type(self)._refuse)
        try:
            inspect.signature(handler).bind(self, *args)
        except TypeError as error:
            raise Refused("malformed request: wrong number of arguments") from error
        self._nested += 1
        try:
            return handler(self, *args)
        finally:
            self._nested -= 1

    def _refuse(self, *args: Any) -> None:
        raise Refused("unsupported request; exposed attributes can be got and called")

    def _encode_error(self, error: BaseException) -> Any:
        """Return the representation of an exception for the peer.

        An exception that the peer itself sent is unchanged, and a refusal has its text.  Any other exception is logged,
        and the peer gets the id of the log entry."""
        if isinstance(error, RemoteError):
            return error.dump
        if isinstance(error, StopIteration):
            return consts.EXC_STOP_ITERATION
        if isinstance(error, NotExposed):
            name, text = "AttributeError", str(error)
        elif isinstance(error, Refused):
            name, text = "ValueError", str(error)
        elif isinstance(error, TimeoutError):
            name, text = "TimeoutError", "the response took too long"
        else:
            number = secrets.token_hex(4)
            log.error("%s: a call failed: error %s", self._peer, number, exc_info=error)
            name, text = "RuntimeError", f"error {number}"
        return ("builtins", name), (text,), (), ""

    def _handle_getattr(self, obj: Any, name: Any) -> Any:
        if isinstance(obj, RemoteObject) or type(name) is not str or not hasattr(type(obj), "exposed_" + name):
            raise NotExposed("no such exposed attribute")
        return super()._handle_getattr(obj, name)

    def _handle_call(self, obj: Any, args: Any, kwargs: Any = ()) -> Any:
        # RPyC never copies a function, so a function or method here is a local object that the peer references.
        if not isinstance(obj, FunctionType | MethodType):
            raise Refused("expected an exported function")
        if type(args) is not tuple or type(kwargs) is not tuple or not all(map(_is_keyword, kwargs)):
            raise Refused("expected a tuple of arguments and a tuple of keyword arguments")
        try:
            inspect.signature(obj).bind(*args, **dict(kwargs))
        except (TypeError, ValueError) as error:
            raise Refused(f"{obj.__name__.removeprefix('exposed_')}{inspect.signature(obj)} is expected") from error
        return super()._handle_call(obj, args, kwargs)

    def _handle_callattr(self, obj: Any, name: Any, args: Any, kwargs: Any = ()) -> Any:
        return self._handle_call(self._handle_getattr(obj, name), args, kwargs)

    def _handle_inspect(self, id_pack: Any) -> Any:
        """Return the exposed special methods, which Python looks up in the class of the peer's netref."""
        _check_id_pack(id_pack)
        try:
            kind = type(self._local_objects[id_pack])
        except KeyError as error:
            raise Refused("unknown object") from error
        names = [name.removeprefix("exposed_") for name in dir(kind) if name.startswith("exposed___")]
        return tuple((name, None) for name in names)

    def _handle_del(self, obj: Any, count: Any = 1) -> None:
        if type(count) is not int or count < 1 or isinstance(obj, RemoteObject):
            raise Refused("expected an exported object and a reference count")
        with suppress(KeyError):
            self._local_objects.decref(get_id_pack(obj), count)


def _check_id_pack(value: Any) -> None:
    """Raise `Refused` unless `value` is an object id in the format of `rpyc.lib.get_id_pack`.  Integers above 64 bits
    can be chosen to collide."""
    if type(value) is tuple and tuple(map(type, value)) == (str, int, int) and all(0 <= n < 2**64 for n in value[1:]):
        return
    raise Refused("expected an object id")


def _is_keyword(pair: Any) -> bool:
    return type(pair) is tuple and len(pair) == 2 and type(pair[0]) is str
