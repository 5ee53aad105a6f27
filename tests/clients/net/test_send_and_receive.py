"""Simultaneous sending and receiving."""

from __future__ import annotations

import socket
import threading

from daemons.clients.net.send_and_receive import send_and_receive

SENT = 16 * 1024 * 1024
RECEIVED = 1024 * 1024


def test_bytes_are_yielded_while_the_peer_does_not_receive() -> None:
    passed_on = threading.Event()
    totals: list[int] = []

    def talk(peer: socket.socket) -> None:
        with peer:
            peer.settimeout(20)
            peer.sendall(bytes(RECEIVED))
            if passed_on.wait(20):
                total = 0
                while data := peer.recv(65536):
                    total += len(data)
                totals.append(total)

    client, peer = socket.socketpair()
    thread = threading.Thread(target=talk, args=(peer,))
    thread.start()
    with client:
        received = 0
        for piece in send_and_receive(client, bytes(SENT), 20.0):
            received += len(piece)
            if received == RECEIVED:
                passed_on.set()
    thread.join()
    assert (received, totals) == (RECEIVED, [SENT])
