"""The measured servers. To add one, add a line.

Each prints `NAME ready tcp://127.0.0.1:PORT` on standard error, and ends on SIGTERM.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Side(Enum):
    """Origin of the code, which determines how the server is started."""

    REFERENCE = "reference"
    OURS = "ours"
    PEER = "peer"


@dataclass(frozen=True)
class Contestant:
    """A server that answers Sir Launcelot's questions, or HTTP requests."""

    name: str
    what: str
    side: Side
    words: tuple[str, ...] = ()
    """A peer's module in benchmarks.peers and its arguments, or our options of `daemons run DAEMON`; {files} stands for
    the folder of the served files."""
    packages: tuple[str, ...] = ()
    """Packages that a peer needs beyond the standard library."""
    daemon: str = "launcelot"
    """The daemon whose ini is used, for our servers."""

    def command(self, reference: Path, peer_python: Path, scratch: Path, files: Path) -> list[str]:
        """Return the command line, to be run in the root of the repository."""
        if self.side is Side.REFERENCE:
            return [str(reference)]
        if self.side is Side.PEER:
            module, *arguments = self.words
            python = str(peer_python) if self.packages else sys.executable
            return [python, "-m", f"benchmarks.peers.{module}", *arguments]
        installed = Path(sys.executable).with_name("daemons")
        daemons = [str(installed)] if installed.exists() else [sys.executable, "-m", "daemons"]
        words = [word.replace("{files}", str(files)) for word in self.words]
        return [*daemons, "run", self.daemon, "--port", "0", "--run", str(scratch), *words]


def _ours(engine: str, *more: str, name: str = "", what: str = "") -> Contestant:
    words = ("--engine", engine, *more)
    return Contestant(name or engine, what or f"Launcelot, engine = {engine}", Side.OURS, words)


def _of_web(name: str, what: str, daemon: str, engine: str, *settings: str) -> Contestant:
    """Return one of our servers that speaks HTTP."""
    words = [word for setting in settings for word in ("--set", setting)]
    return Contestant(name, f"{what}, engine = {engine}", Side.OURS, ("--engine", engine, *words), daemon=daemon)


def _peer(name: str, what: str, *words: str, package: str = "") -> Contestant:
    return Contestant(name, what, Side.PEER, words, tuple(package.split()))


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("c", "C on epoll", Side.REFERENCE),
        _ours("loop"),
        _ours(
            "loop",
            "--set",
            "daemon.service=benchmarks.impure:ImpureLauncelot",
            name="impure",
            what="Launcelot not pure, engine = loop",
        ),
        _ours("pool"),
        _ours("threads"),
        _ours("forks"),
        _ours("one"),
        _peer("uvloop", "asyncio Protocol on uvloop", "protocol", "uvloop", package="uvloop"),
        _peer("asyncio", "asyncio Protocol", "protocol", "asyncio"),
        _peer("gevent", "gevent StreamServer", "gevent_stream", package="gevent"),
        _peer("twisted", "Twisted Protocol", "twisted_protocol", package="Twisted"),
        _peer("stock-threads", "stock ThreadingTCPServer", "stock", "threads"),
        _peer("stock-batched", "stock ThreadingTCPServer, one write a batch", "stock", "threads", "batched"),
        _peer("stock-forks", "stock ForkingTCPServer", "stock", "forks"),
        _peer("stock-one", "stock TCPServer", "stock", "one"),
        _of_web("httpd", "httpd", "httpd", "loop", "httpd.root={files}"),
        _of_web("httpd-pool", "httpd", "httpd", "pool", "httpd.root={files}"),
        # Launcelot's ini has no section of another service, so the service can be replaced here.
        _of_web(
            "handler", "a handler of http.server", "launcelot", "loop", "daemon.handler=benchmarks.unchanged:Hello"
        ),
        _of_web("wsgi", "a WSGI application", "launcelot", "loop", "daemon.wsgi=benchmarks.unchanged:hello"),
        _of_web("files", "SimpleHTTPRequestHandler", "launcelot", "loop", "daemon.handler=benchmarks.unchanged:Files"),
        _of_web("calc", "calc", "calc", "loop"),
        _of_web("jsonrpc", "jsonrpc", "jsonrpc", "loop", "daemon.jsonrpc=daemons.adder"),
        Contestant("cached", "cached, engine = loop", Side.OURS, ("--engine", "loop"), daemon="cached"),
        _peer("memcached", "memcached, one thread", "memcached"),
        _peer("nginx", "nginx, one worker", "nginx"),
        _peer("nginx-copying", "nginx, one worker, without sendfile", "nginx", "copying"),
        _peer("gunicorn", "gunicorn gthread", "wsgi_gunicorn", "hello", package="gunicorn"),
        _peer("waitress", "waitress", "wsgi_waitress", "hello", package="waitress"),
        _peer("cheroot", "cheroot", "wsgi_cheroot", "hello", package="cheroot"),
        _peer(
            "gunicorn-file",
            "gunicorn gthread with whitenoise",
            "wsgi_gunicorn",
            "files",
            package="gunicorn whitenoise",
        ),
        _peer("waitress-file", "waitress with whitenoise", "wsgi_waitress", "files", package="waitress whitenoise"),
        _peer("cheroot-file", "cheroot with whitenoise", "wsgi_cheroot", "files", package="cheroot whitenoise"),
        _peer("stock-files", "SimpleHTTPRequestHandler, stock ThreadingHTTPServer", "stock_files"),
        _peer(
            "stock-files-undelayed",
            "SimpleHTTPRequestHandler, stock ThreadingHTTPServer, without Nagle's algorithm",
            "stock_files",
            "undelayed",
        ),
        _peer("stock-xmlrpc", "stock SimpleXMLRPCServer with ThreadingMixIn", "stock_xmlrpc"),
        _peer("twisted-xmlrpc", "twisted.web.xmlrpc", "twisted_xmlrpc", package="Twisted"),
        _peer("stock-jsonrpc", "jsonrpcserver on ThreadingHTTPServer", "stock_jsonrpc", package="jsonrpcserver"),
    )
}
