"""The XOR mask of a client's frames (RFC 6455, section 5.3), without a loop over the bytes."""

from __future__ import annotations

#: Bytes of the shortest payload that is masked in four lanes; a shorter one is masked as one integer, which has less
#: overhead, but takes twice the time per byte.
LANES = 1024

#: Bytes that are masked at a time: the copies stay in the processor's cache, and a payload needs no second one.
BLOCK = 16 * 1024


def apply_mask(data: bytes, mask: bytes) -> bytes:
    """Return `data` with the four bytes of `mask` applied.  A second call with the same mask is the inverse."""
    size = len(data)
    if size >= LANES:
        masked = bytearray(size)
        for lane in range(4):
            masked[lane::4] = data[lane::4].translate(_TABLES[mask[lane]])
        return bytes(masked)
    pattern = mask * (size + 3 >> 2)
    return (int.from_bytes(data, "little") ^ int.from_bytes(pattern[:size], "little")).to_bytes(size, "little")


def apply_mask_to_part(data: bytes | bytearray, start: int, end: int, mask: bytes) -> bytes:
    """Return ``data[start:end]`` with `mask` applied, in blocks of `BLOCK` bytes."""
    if end - start <= BLOCK:
        return apply_mask(bytes(data[start:end]), mask)
    return b"".join(apply_mask(bytes(data[at : min(at + BLOCK, end)]), mask) for at in range(start, end, BLOCK))


def rotate(mask: bytes, count: int) -> bytes:
    """Return the mask for the bytes after the first `count` bytes of a payload."""
    count &= 3
    return mask[count:] + mask[:count]


#: For each byte of a mask, the table for `bytes.translate`.
_TABLES = [apply_mask(bytes(range(256)), bytes([byte]) * 4) for byte in range(256)]
