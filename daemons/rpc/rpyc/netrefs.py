"""RPyC with its doors closed: what a peer may ask of this side.

In RPyC each side can call the other: what is not copied (numbers, text, octets, and tuples of those are) is a *netref*,
a name for an object of the other side.  So each side needs to be guarded, the client too.  Here is a `Connection` of
`rpyc` in which a peer can do two things with what it was given: call a function or method, and get what is exposed:
what the class of an object has under a name ``exposed_…``.  Nothing else: no other attribute (not ``__class__``, not
``__globals__``), no setting, no pickle, no repr, no comparison.

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

#: Nothing that RPyC's own configuration can forbid is allowed, but for what is exposed.
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

#: Objects that a peer may have in use: each method that it gets is one.
MOST_LENT = 1000

#: Objects of the peer's that may be in use here.  A call brings two or three; each is a message more when it is done.
MOST_BORROWED = 100

#: Requests within each other: a peer may send one while it is asked for something, and another while that asks.
MOST_NESTED = 16


class Closed(Refused):
    """What the peer wants to get is not exposed."""


class RemoteError(Exception):
    """What was called at the other side has raised.  `dump` is that exception as it came."""

    def __init__(self, dump: Any) -> None:
        self.dump = dump
        match dump:
            case ((str(), str(name)), tuple(args), _, _):
                super().__init__(f"{name}: {', '.join(map(str, args))}")
            case _:
                super().__init__("an exception that cannot be read")


class Theirs(netref.class_factory(("Theirs", 0, 0), [(name, "") for name in ("__call__", "__iter__", "__next__")])):  # type: ignore[misc]
    """An object of the other side.  RPyC makes a class for each, of names that the peer says; this one is for all."""

    __slots__ = ()
    #: RPyC's own asks the peer, whenever isinstance() asks.
    __class__ = property(lambda self: Theirs)

    def __del__(self) -> None:
        # No answer is waited for: RPyC would remember that it is missing, for as long as the peer likes.
        with suppress(Exception):
            conn = object.__getattribute__(self, "____conn__")
            conn.let_go(self)


class Guarded(Connection):  # type: ignore[misc]
    """A connection whose peer may use what it was given, and no more.  In one thread."""

    def __init__(self, root: Any, frames: Frames, peer: str) -> None:
        super().__init__(root, frames, CONFIG)
        self._peer = peer
        self._nested = 0

    def close(self) -> None:
        """Forget the peer.  RPyC's own asks the peer first, and waits for what it says."""
        if not self._closed:
            self._cleanup()

    def let_go(self, theirs: Theirs) -> None:
        """Tell the peer that an object of its is needed no more."""
        if not self._closed:
            boxed = self._box((theirs, theirs.____refcount__))
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
        # What the peer has got is kept until it says that it needs it no more.
        if len(self._local_objects._dict) >= MOST_LENT and not brine.dumpable(obj):
            raise Refused(f"{MOST_LENT} objects are in use")
        return super()._box(obj)

    def _unbox(self, package: Any) -> Any:
        """Return the value or object that was sent.  A netref can pose as anything that is iterated, compared or
        looked up; so each type is checked, and never by a method of the value.  Raises `Refused`."""
        if type(package) is not tuple or len(package) != 2 or type(package[0]) is not int:
            raise Refused("a value with its label is expected")
        label, value = package
        if label == consts.LABEL_VALUE:
            return value
        if label == consts.LABEL_TUPLE:
            if type(value) is not tuple:
                raise Refused("a tuple of values with labels is expected")
            return tuple([self._unbox(item) for item in value])
        _check_id_pack(value)
        if (
            label == consts.LABEL_REMOTE_REF
            and value not in self._proxy_cache
            and len(self._proxy_cache) >= MOST_BORROWED
        ):
            raise Refused(f"{MOST_BORROWED} objects of the peer's are in use")
        try:
            return super()._unbox(package)
        except KeyError as error:
            raise Refused("that was not given") from error

    def _netref_factory(self, id_pack: Any) -> Theirs:
        return Theirs(self, id_pack)

    def _unbox_exc(self, raw: Any) -> Any:
        # RPyC's own makes a class for each name that the peer says, and keeps it for ever.
        return StopIteration if raw == consts.EXC_STOP_ITERATION else RemoteError(raw)

    def _dispatch(self, data: bytes) -> None:
        brine_limits.check(data[1:])  # the first byte says whether it is a request
        try:
            super()._dispatch(data)
        except (EOFError, OSError):
            raise
        except Exception as error:  # brine does not say which: requests deal with their own
            raise Refused("a message that cannot be read") from error

    def _seq_request_callback(self, msg: int, seq: Any, is_exc: bool, obj: Any) -> None:
        if type(seq) is not int:
            raise Refused("the number of a request is expected")
        super()._seq_request_callback(msg, seq, is_exc, obj)

    def _dispatch_request(self, seq: Any, raw_args: Any) -> None:
        if type(seq) is not int:
            raise Refused("the number of a request is expected")
        try:
            result = self._box(self._perform(raw_args))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if self._closed:
                raise EOFError("the peer has left") from error
            if error is self._channel.over and not isinstance(error, Refused | TimeoutError):
                raise  # there is nobody to be told
            self._send(consts.MSG_EXCEPTION, seq, self._told(error))
            return
        if not self._closed:
            self._send(consts.MSG_REPLY, seq, result)

    def _perform(self, raw_args: Any) -> Any:
        if type(raw_args) is not tuple or len(raw_args) != 2 or type(raw_args[0]) is not int:
            raise Refused("a request that cannot be read")
        number, boxed = raw_args
        if self._nested >= MOST_NESTED:
            raise Refused(f"{MOST_NESTED} requests within each other")
        args = self._unbox(boxed)
        if type(args) is not tuple:
            raise Refused("a request that cannot be read: a tuple of arguments is expected")
        handler = self._HANDLERS.get(number, type(self)._refuse)
        try:
            inspect.signature(handler).bind(self, *args)
        except TypeError as error:
            raise Refused("a request that cannot be read: it has another number of arguments") from error
        self._nested += 1
        try:
            return handler(self, *args)
        finally:
            self._nested -= 1

    def _refuse(self, *args: Any) -> None:
        raise Refused("that is not done here; what is exposed can be got and called")

    def _told(self, error: BaseException) -> Any:
        """What the peer is told of an exception: its own as it was; of ours, what was said to it; of any other, an id
        that is in the log."""
        if isinstance(error, RemoteError):
            return error.dump
        if isinstance(error, StopIteration):
            return consts.EXC_STOP_ITERATION
        if isinstance(error, Closed):
            name, text = "AttributeError", str(error)
        elif isinstance(error, Refused):
            name, text = "ValueError", str(error)
        elif isinstance(error, TimeoutError):
            name, text = "TimeoutError", "the answer took too long"
        else:
            number = secrets.token_hex(4)
            log.error("%s: a call failed: error %s", self._peer, number, exc_info=error)
            name, text = "RuntimeError", f"error {number}"
        return ("builtins", name), (text,), (), ""

    def _handle_getattr(self, obj: Any, name: Any) -> Any:
        if isinstance(obj, Theirs) or type(name) is not str or not hasattr(type(obj), "exposed_" + name):
            raise Closed("nothing of that name is exposed")
        return super()._handle_getattr(obj, name)

    def _handle_call(self, obj: Any, args: Any, kwargs: Any = ()) -> Any:
        # Such cannot come over the wire, so that it is one that was given.
        if not isinstance(obj, FunctionType | MethodType):
            raise Refused("a function that was given is expected")
        if type(args) is not tuple or type(kwargs) is not tuple or not all(map(_is_keyword, kwargs)):
            raise Refused("a tuple of arguments, and one of names with arguments, is expected")
        try:
            inspect.signature(obj).bind(*args, **dict(kwargs))
        except (TypeError, ValueError) as error:
            raise Refused(f"{obj.__name__.removeprefix('exposed_')}{inspect.signature(obj)} is expected") from error
        return super()._handle_call(obj, args, kwargs)

    def _handle_callattr(self, obj: Any, name: Any, args: Any, kwargs: Any = ()) -> Any:
        return self._handle_call(self._handle_getattr(obj, name), args, kwargs)

    def _handle_inspect(self, id_pack: Any) -> Any:
        """The exposed methods with underscores, which Python looks for in a class: that of the peer's netref."""
        _check_id_pack(id_pack)
        try:
            kind = type(self._local_objects[id_pack])
        except KeyError as error:
            raise Refused("that was not given") from error
        names = [name.removeprefix("exposed_") for name in dir(kind) if name.startswith("exposed___")]
        return tuple((name, None) for name in names)

    def _handle_del(self, obj: Any, count: Any = 1) -> None:
        if type(count) is not int or count < 1 or isinstance(obj, Theirs):
            raise Refused("an object that was given, and how often, is expected")
        with suppress(KeyError):
            self._local_objects.decref(get_id_pack(obj), count)


def _check_id_pack(value: Any) -> None:
    """Raise `Refused` unless `value` names an object as `rpyc.lib.get_id_pack` does.  Larger integers can be chosen to
    have one hash."""
    if type(value) is tuple and tuple(map(type, value)) == (str, int, int) and all(0 <= n < 2**64 for n in value[1:]):
        return
    raise Refused("the name of an object is expected")


def _is_keyword(pair: Any) -> bool:
    return type(pair) is tuple and len(pair) == 2 and type(pair[0]) is str
