"""The type of a reply."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from daemons.serving.conversation.file_slice import FileSlice

#: Reply to a message: complete, or an iterator of pieces that are requested as the peer reads them.
Reply: TypeAlias = bytes | Iterator[bytes] | Iterator[bytes | FileSlice]
