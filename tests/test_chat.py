"""The daemons in which peers meet: chat and guess; and slow, where they do not wait for each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from daemons.chat import Chat
from daemons.guess import Guess
from daemons.serving.pump import Pump
from daemons.slow import Slow
from tests.serving.conftest import within as within
from tests.serving.peers import ask, connect, eventually, hear, hear_all
from tests.serving.running import Within

Start = Callable[..., Within]

NAME = b"What is your name?\n"
CHOOSE = b"Choose a number from 1 to 100.\n"
GUESS = b"Guess a number from 1 to 100.\n"

ENGINES = pytest.mark.parametrize("engine", ["threads", "pool", "loop"])


@ENGINES
def test_chat_passes_each_line_to_everyone(engine: str, within: Start) -> None:
    chat = Chat()
    running = within(engine, Pump.for_service(chat))
    with connect(running.address) as arthur:
        hear(arthur, NAME)
        ask(arthur, b"Arthur\n", b"* Arthur enters\n")
        with connect(running.address) as robin:
            hear(robin, NAME)
            ask(robin, b"Robin\n", b"* Robin enters\n")
            hear(arthur, b"* Robin enters\n")
            robin.sendall("Brave Sir Robin \u263a\x1b[2J\n".encode())
            for peer in (arthur, robin):
                hear(peer, "Robin: Brave Sir Robin \u263a\\x1b[2J\n".encode())
        hear(arthur, b"* Robin leaves\n")
    eventually(lambda: not chat.room)


@ENGINES
def test_number_is_guessed(engine: str, within: Start) -> None:
    running = within(engine, Pump.for_service(Guess()))
    with connect(running.address) as first, connect(running.address) as second:
        hear(first, CHOOSE)
        hear(second, CHOOSE)
        for wrong in (b"0\n", b"101\n", b"x\n", b"\xb2\n"):
            ask(first, wrong, CHOOSE)
        ask(first, b"42\n", b"Your number is 42. Waiting for another player.\n")
        with connect(running.address) as player:
            hear(player, GUESS)
            ask(player, b"50\n", b"Lower.\n")
            ask(player, b"25\n", b"Higher.\n")
            ask(player, b"forty-two\n", b"A number is expected.\n")
            ask(player, b"42\n", b"Right.\n")
            assert hear_all(player) == b""
        assert hear_all(first) == b"Your number was guessed with 4 guesses.\n"


@ENGINES
def test_players_do_not_wait_forever(engine: str, within: Start) -> None:
    running = within(engine, Pump.for_service(Guess(Guess.Options(guesses=1, patience=0.01))))
    with connect(running.address) as first:
        ask(first, b"42\n", CHOOSE)
        assert hear_all(first) == b"Your number is 42. Waiting for another player.\nNobody came.\n"


@ENGINES
def test_player_that_leaves_ends_the_game(engine: str, within: Start) -> None:
    game = Guess()
    running = within(engine, Pump.for_service(game))
    with connect(running.address) as first:
        ask(first, b"42\n", CHOOSE + b"Your number is 42. Waiting for another player.\n")
        with connect(running.address) as player:
            hear(player, GUESS)
        assert hear_all(first) == b"The other player has left.\n"
    assert not game.chosen


@ENGINES
def test_query_does_not_delay_other_peers(engine: str, within: Start) -> None:
    running = within(engine, Pump.for_service(Slow(Slow.Options(query_time=0.2))))
    with connect(running.address) as waiting, connect(running.address) as peer:
        waiting.sendall("Gr\u00fc\u00dfe\n".encode())
        peer.sendall(b"time\n")
        assert peer.recv(100).count(b":") == 2
        hear(waiting, b"5 characters\n")
