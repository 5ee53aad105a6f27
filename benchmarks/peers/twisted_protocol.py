"""A Twisted Protocol on the epoll reactor. `python -m benchmarks.peers.twisted_protocol`."""

from __future__ import annotations

from twisted.internet import reactor  # on Linux the epoll reactor
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, Protocol

from benchmarks.peers.grail import BACKLOG, announce, answer


class Launcelot(Protocol):
    """One visitor."""

    transport: ITCPTransport
    pending = b""

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        answers, self.pending = answer(self.pending + data if self.pending else data)
        if answers:
            self.transport.write(answers)


def main() -> None:
    """Serves until SIGTERM."""
    port = reactor.listenTCP(0, Factory.forProtocol(Launcelot), backlog=BACKLOG, interface="127.0.0.1")
    announce("twisted", port.getHost().port)
    reactor.run()


if __name__ == "__main__":
    main()
