"""``daemons linecount FILE``: has the other end count the lines of a file that stays here, over RPyC.

The server is lent two things: the lines of the file, one after the other, and a function that prints one.  Of the file
itself, as of all else here, it can get nothing.  (With ``allow_public_attrs`` in the configuration of a client, as is
often seen, a server can get at whatever can be reached from what it was lent by names without an underscore.)
"""

from __future__ import annotations

import argparse
import socket
from typing import IO

from daemons.clients import tools
from daemons.clients.net.dial import NetworkError, dial
from daemons.printable import escape
from daemons.serving.listening.address import Address

#: RPyC's own.
PORT = 18861

#: Octets of the longest message that is taken: there is nothing long for the server to say.
LIMIT = 64 * 1024

#: Characters of the longest line that is read: /dev/zero has one without end.
LONGEST = 1024 * 1024


class Lines:
    """The lines of a file, for a server that iterates, and for one that calls ``readlines()`` first."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._read = 0
        #: Why there are no more lines, where that is not the end of the file.
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
        # They are not read before they are asked for.
        return self

    __iter__, __next__ = exposed___iter__, exposed___next__


class Nothing:
    """What this side offers before anything was lent."""

    def on_disconnect(self, conn: object) -> None:
        """RPyC's, at the end."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="whose lines")
    parser.add_argument(
        "server",
        metavar="HOST[:PORT]",
        nargs="?",
        type=lambda text: tools.host_and_port(text, PORT),
        default=("127.0.0.1", PORT),
        help=f"who counts; else 127.0.0.1:{PORT}",
    )
    tools.add_timeout(parser)
    parser.epilog = (
        "Prints each line as it is called back, and their number. Exit codes: 0 they are counted, 1 they are not, 2 a "
        "wrong command line."
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
        return tools.refuse("linecount", f"{address} says {escape(str(error))}")
    except NetworkError as error:
        return tools.refuse("linecount", str(error))
    except EOFError:
        return tools.refuse("linecount", f"{address} has closed before it had counted them")
    except (OSError, ValueError) as error:
        name = f"{options.file}: " if isinstance(error, OSError) and error.filename is not None else ""
        return tools.refuse("linecount", f"{name}{tools.reason_of(error)}")
    return tools.DONE


def noisy(line: str) -> None:
    """What the server calls with each line."""
    if not isinstance(line, str):
        raise ValueError("a line of text is expected")  # what it has not got from here
    print("Noisy:", escape(repr(line)))


def count(file: IO[str], address: Address, timeout: float) -> int:
    """How many lines there are, as `address` counts them; it has `timeout` seconds for each.  Raises `NetworkError`,
    `EOFError`, `RemoteError` where the other end refuses, and `ValueError` for a line longer than `LONGEST`."""
    from daemons.rpc.rpyc.frames import Frames
    from daemons.rpc.rpyc.netrefs import GuardedConnection, RemoteError, RemoteObject

    lines = Lines(file)

    with dial(address, timeout) as peer:
        assert isinstance(peer, socket.socket), "tcp:// was dialled"
        frames = Frames(peer, limit=LIMIT, idle=timeout, message=timeout, write=timeout)
        conn = GuardedConnection(Nothing(), frames, str(address))
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
        except StopIteration:  # the server may answer any request so
            found = None
        finally:
            conn.close()
    if type(found) is not int:
        raise NetworkError(address, ValueError("a number is expected; this is another service"))
    return found
