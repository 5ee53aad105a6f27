"""supervisord's [fcgi-program] keeps the listening socket: rolling restarts refuse no connection."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

from tests.operating.folder import Folder
from tests.operating.live import BIN, GRAIL, QUEST, environment, free_port, type_in, until

SUPERVISORD = """
    [supervisord]
    logfile = %(here)s/supervisord.log
    pidfile = %(here)s/supervisord.pid
    [unix_http_server]
    file = %(here)s/supervisor.sock
    [supervisorctl]
    serverurl = unix://%(here)s/supervisor.sock
    [rpcinterface:supervisor]
    supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
    [fcgi-program:launcelot]
    command = "{bin}/daemons" run launcelot
    socket = tcp://127.0.0.1:{port}
    process_name = %(program_name)s_%(process_num)d
    numprocs = 2
    directory = %(here)s
    redirect_stderr = true
    stdout_logfile = %(here)s/%(program_name)s.log
"""


class Visitors:
    """Connect, ask and leave, again and again, until told to stop."""

    def __init__(self, port: int) -> None:
        self.answered = 0
        self.failed: list[str] = []
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._visit, name="visitors")

    def __enter__(self) -> Visitors:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _visit(self) -> None:
        while not self._over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), 10.0) as peer:
                    peer.sendall(QUEST)
                    if peer.recv(100) != GRAIL:
                        raise EOFError("not answered")
                    self.answered += 1
            except (OSError, EOFError) as error:
                self.failed.append(repr(error))


@contextmanager
def supervisord(path: Path) -> Iterator[None]:
    process = subprocess.Popen(
        [str(BIN / "supervisord"), "-n", "-c", "supervisord.conf"],
        cwd=path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def test_rolling_restart_under_load_refuses_no_connection(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("launcelot", "[daemon]\nservice = launcelot\nlisten = fd://0\n")
    port = free_port()
    (tmp_path / "supervisord.conf").write_text(dedent(SUPERVISORD).format(bin=BIN, port=port), "utf-8")

    def control(*words: str) -> str:
        return type_in(tmp_path, str(BIN / "supervisorctl"), "-c", "supervisord.conf", *words).stdout

    with supervisord(tmp_path):
        until(lambda: control("status").count("RUNNING") == 2, "both run", 30.0)
        with Visitors(port) as visitors:
            until(lambda: visitors.answered > 100 or visitors.failed, "a hundred visitors")
            for number in (0, 1):
                name = f"launcelot:launcelot_{number}"
                assert f"launcelot_{number}: started" in control("restart", name)
                before = visitors.answered
                until(lambda: visitors.answered > before + 100 or visitors.failed, "a hundred more")  # noqa: B023
        assert visitors.failed == []
        assert visitors.answered > 300
    log = (tmp_path / "launcelot.log").read_text("utf-8")
    assert log.count(f"launcelot ready tcp://127.0.0.1:{port} ") == 4
