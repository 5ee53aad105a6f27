"""twisted.web.xmlrpc on the epoll reactor, without an access log: `python -m benchmarks.peers.twisted_xmlrpc`."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.web.server import Site
from twisted.web.xmlrpc import XMLRPC

from benchmarks.peers.grail import BACKLOG, announce


class Sums(XMLRPC):
    """Every path is answered by this one."""

    isLeaf = True

    def xmlrpc_add(self, one: int, other: int) -> int:
        """The sum."""
        return one + other


def main() -> None:
    """Serves until SIGTERM."""
    port = reactor.listenTCP(0, Site(Sums()), backlog=BACKLOG, interface="127.0.0.1")
    announce("twisted-xmlrpc", port.getHost().port)
    reactor.run()


if __name__ == "__main__":
    main()
