"""Networks of a test's own, in namespaces that it makes and removes: as root only, and with ip(8)."""

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
    """Hosts, each a namespace, linked as the commands for ip(8) say that are given by host.

    Their names are made unique: ``{a}`` in a command stands for the namespace of the host ``a``."""

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
        """Remove them, and with them their links."""
        for name in self._names.values():
            if os.path.exists(f"/run/netns/{name}"):
                subprocess.run(["ip", "netns", "delete", name], check=False)

    def at(self, host: str, call: Callable[[], T]) -> T:
        """What `call` returns in a thread that is at `host`; a socket that it makes stays there."""
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
        """What ip(8) complained of; nothing if all is well."""
        done = subprocess.run(
            ["ip", *options, "-batch", "-"],
            input="".join(f"{command.format_map(self._names)}\n" for command in commands),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stderr.strip() if done.returncode else ""
