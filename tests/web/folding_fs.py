"""A file system that ignores case, read-only and in memory: the kernel's FUSE protocol, linux/fuse.h.

To be mounted in a mount namespace of its own: it ends with its process."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import threading
from typing import TypeAlias

Tree: TypeAlias = "dict[str, bytes | Tree]"

#: FUSE opcodes.
LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT = 1, 2, 3, 14, 15, 18, 25, 26
OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 27, 28, 29, 36, 38, 42

READ_ONLY = 1  # MS_RDONLY, mount(2)


class FoldingFileSystem:
    """Serves `tree`. A name in another case is the same file; with `stable`, its inode has the same number, else one of
    its own, as where FUSE's library makes the numbers."""

    def __init__(self, target: str, tree: Tree, *, stable: bool) -> None:
        self._stable = stable
        self._nodes: dict[int, bytes | Tree] = {1: tree}
        self._numbers: dict[tuple[int, str], int] = {}
        self._device = os.open("/dev/fuse", os.O_RDWR)
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self._device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}".encode()
        if libc.mount(b"folding", os.fsencode(target), b"fuse", READ_ONLY, options):
            raise OSError(ctypes.get_errno(), "mount")
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            data = os.read(self._device, 1 << 17)
            _, opcode, unique, node = struct.unpack_from("=IIQQ", data)
            if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            try:
                reply = self._reply(opcode, node, data[40:])
                code = 0
            except OSError as error:
                reply, code = b"", -(error.errno or errno.EIO)
            os.write(self._device, struct.pack("=IiQ", 16 + len(reply), code, unique) + reply)

    def _reply(self, opcode: int, node: int, body: bytes) -> bytes:
        if opcode == INIT:
            return struct.pack("=IIIIHHIIHHI28x", 7, 31, 65536, 0, 12, 9, 65536, 1, 0, 0, 0)
        if opcode == LOOKUP:
            found = self._look_up(node, body.rstrip(b"\0").decode())
            return struct.pack("=QQQQII", found, 0, 0, 0, 0, 0) + self._attributes(found)
        if opcode == GETATTR:
            return struct.pack("=QII", 0, 0, 0) + self._attributes(node)
        if opcode in (OPEN, OPENDIR):
            return struct.pack("=QII", 0, 0, 0)
        if opcode in (RELEASE, RELEASEDIR, FLUSH, DESTROY):
            return b""
        _, offset, size = struct.unpack_from("=QQI", body) if opcode in (READ, READDIR) else (0, 0, 0)
        content = self._nodes[node]
        if opcode == READ and isinstance(content, bytes):
            return content[offset : offset + size]
        if opcode == READDIR and not isinstance(content, bytes):
            entries = b""
            for place, name in list(enumerate(content, 1))[offset:]:
                entry = struct.pack("=QQII", 99, place, len(name), 0) + name.encode()
                entries += entry + bytes(-len(entry) % 8)
            return entries
        raise OSError(errno.ENOSYS, "not needed")

    def _look_up(self, above: int, name: str) -> int:
        tree = self._nodes[above]
        assert not isinstance(tree, bytes)
        for own, content in tree.items():
            if own.casefold() == name.casefold():
                number = self._numbers.setdefault((above, own if self._stable else name), len(self._nodes) + 1)
                self._nodes[number] = content
                return number
        raise OSError(errno.ENOENT, name)

    def _attributes(self, node: int) -> bytes:
        content = self._nodes[node]
        plain = isinstance(content, bytes)
        mode = stat.S_IFREG | 0o644 if plain else stat.S_IFDIR | 0o755
        times = (1_760_256_000,) * 3
        return struct.pack(
            "=6Q10I",
            node,
            len(content) if plain else 0,
            0,
            *times,
            0,
            0,
            0,
            mode,
            1,
            os.getuid(),
            os.getgid(),
            0,
            4096,
            0,
        )
