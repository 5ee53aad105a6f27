"""The type of a reply."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeAlias

from daemons.serving.conversation.file_slice import FileSlice

#: Reply to a message: complete, an iterator of pieces that are requested as the peer reads them, or a reply that comes
#: later.
Reply: TypeAlias = bytes | Iterator[bytes] | Iterator[bytes | FileSlice] | Future[Any] | Coroutine[Any, Any, Any]
