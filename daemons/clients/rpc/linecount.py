"""``daemons linecount FILE``: have an RPyC server count the lines of a local file.

The client passes two objects to the server: an iterator of the lines and a function that prints one line.  The server
can use nothing else, not even the file.  (A client configured with ``allow_public_attrs``, as many are, gives the
server access to every object that is reachable by public attributes.)
"""

from __future__ import annotations

import argparse
import socket
from typing import IO

from daemons.clients import tools
from daemons.clients.net.dial import NetworkError, dial
from daemons.printable import escape
from daemons.serving.listening.address import Address

#: RPyC's default port.
PORT = 18861

#: Maximum bytes of a message from the server; its requests are short.
LIMIT = 64 * 1024

#: Maximum characters of a line; a device such as /dev/zero has no line end at all.
LONGEST = 1024 * 1024


class Lines:
    """The lines of a file, for servers that iterate over it and for those that call ``readlines()`` first."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._read = 0
        #: The error that ended the iteration, None if that was the end of the file.
        self.error: ValueError | None = None

    def exposed___iter__(self) -> Lines:
        return self

    def exposed___next__(self) -> str:
        self._read += 1
        line = self._file.readline(LONGEST + 1)
        if not line:
            raise StopIteration
        if len(line) > LONGEST:
            self.error = ValueError(f"line {self._read} of the file has more than {LONGEST} characters")
            raise self.error
        return line

    def exposed_readlines(self) -> Lines:
        # Not a list: lines are read only on demand.
        return self

    __iter__, __next__ = exposed___iter__, exposed___next__


class EmptyService:
    """The service that this side exposes: none."""

    def on_disconnect(self, conn: object) -> None:
        """Called by RPyC when the connection closes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the file")
    parser.add_argument(
        "server",
        metavar="HOST[:PORT]",
        nargs="?",
        type=lambda text: tools.host_and_port(text, PORT),
        default=("127.0.0.1", PORT),
        help=f"the RPyC server (default 127.0.0.1:{PORT})",
    )
    tools.add_timeout(parser)
    parser.epilog = (
        "Prints each line that the server passes to the callback, then the number of lines. Exit codes: 0 counted, "
        "1 failed, 2 wrong command line."
    )


def run(options: argparse.Namespace) -> int:
    try:
        from daemons.rpc.rpyc.netrefs import RemoteError
    except ModuleNotFoundError as error:
        if error.name != "rpyc":
            raise
        return tools.refuse("linecount", "the package rpyc is not installed: pip install 'camelot-daemons[rpyc]'")
    address = Address("tcp", *options.server)
    try:
        with open(options.file, encoding="utf-8", errors="backslashreplace") as file:
            print(f"The number of lines in the file was {count(file, address, options.timeout)}")
    except RemoteError as error:
        return tools.refuse("linecount", f"{address} raised {escape(str(error))}")
    except NetworkError as error:
        return tools.refuse("linecount", str(error))
    except EOFError:
        return tools.refuse("linecount", f"{address} closed the connection before it returned the number")
    except (OSError, ValueError) as error:
        name = f"{options.file}: " if isinstance(error, OSError) and error.filename is not None else ""
        return tools.refuse("linecount", f"{name}{tools.reason_of(error)}")
    return tools.DONE


def noisy(line: str) -> None:
    """Print a line; the callback that the server calls with each line."""
    if not isinstance(line, str):
        raise ValueError("a line of text is expected")  # an object of the server's own
    print("Noisy:", escape(repr(line)))


def count(file: IO[str], address: Address, timeout: float) -> int:
    """Return the number of lines as counted by the server at `address`, which has `timeout` seconds for each line.

    Raises `NetworkError`, `EOFError`, `RemoteError` for an exception of the server, and `ValueError` for a line longer
    than `LONGEST`."""
    from daemons.rpc.rpyc.frames import Frames
    from daemons.rpc.rpyc.netrefs import GuardedConnection, RemoteError, RemoteObject

    lines = Lines(file)

    with dial(address, timeout) as peer:
        assert isinstance(peer, socket.socket), "tcp:// was dialled"
        frames = Frames(peer, limit=LIMIT, idle=timeout, message=timeout, write=timeout)
        conn = GuardedConnection(EmptyService(), frames, str(address))
        try:
            root = conn.root
            counter = root.line_counter if isinstance(root, RemoteObject) else None
            found = counter(lines, noisy) if isinstance(counter, RemoteObject) else None
        except RemoteError as error:
            if lines.error is not None:  # the server reports our own exception
                raise lines.error from error
            raise
        except (OSError, ValueError) as error:
            raise NetworkError(address, error) from error
        except StopIteration:  # the server may raise it in response to any request
            found = None
        finally:
            conn.close()
    if type(found) is not int:
        raise NetworkError(address, ValueError("a number is expected; this is another service"))
    return found
