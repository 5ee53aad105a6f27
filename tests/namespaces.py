"""Networks in network namespaces, created and removed by a test with ip(8); root only."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TypeVar

import pytest

T = TypeVar("T")

#: unshare(2), linux/sched.h.
CLONE_NEWNET = 0x40000000


class Network:
    """Hosts, each a namespace, linked by the given arguments of ip(8) for each host.

    Namespaces get unique names: ``{a}`` in a command stands for the namespace of the host ``a``."""

    def __init__(self, links: Iterable[str], hosts: dict[str, Iterable[str]]) -> None:
        if shutil.which("ip") is None:
            pytest.skip("ip is missing: make engines")
        self._names = {host: f"camelot-{os.getpid()}-{host}" for host in hosts}
        try:
            if complaint := self._ip((), [f"netns add {name}" for name in self._names.values()]):
                pytest.skip(f"network namespaces cannot be made here: {complaint}")
            complaint = self._ip((), links)
            assert not complaint, complaint
            for host, commands in hosts.items():
                complaint = self._ip(("-n", self._names[host]), ["link set lo up", *commands])
                assert not complaint, complaint
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the namespaces with their links."""
        for name in self._names.values():
            if os.path.exists(f"/run/netns/{name}"):
                subprocess.run(["ip", "netns", "delete", name], check=False)

    def at(self, host: str, call: Callable[[], T]) -> T:
        """Return the result of `call` in a thread inside the host's namespace; sockets created by it stay there."""
        outcome: list[T] = []
        failure: list[BaseException] = []

        def be_there() -> None:
            try:
                descriptor = os.open(f"/run/netns/{self._names[host]}", os.O_RDONLY)
                try:
                    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                finally:
                    os.close(descriptor)
                outcome.append(call())
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=be_there)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    def _ip(self, options: Iterable[str], commands: Iterable[str]) -> str:
        """Run ip(8) and return its error output, "" on success."""
        done = subprocess.run(
            ["ip", *options, "-batch", "-"],
            input="".join(f"{command.format_map(self._names)}\n" for command in commands),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stderr.strip() if done.returncode else ""
