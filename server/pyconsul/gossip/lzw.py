"""LZW as memberlist compresses with it (``wire-gossip.md`` 4).

Least significant bit first, 8-bit literals, codes of 9 to 12 bits; code 256
clears the table, 257 ends the stream.
"""

from __future__ import annotations

from pyconsul.gossip.messages import DecodeError

CLEAR = 256
END = 257
WIDTH_MIN = 9
WIDTH_MAX = 12
CODE_MAX = (1 << WIDTH_MAX) - 1

_LITERALS = [bytes((value,)) for value in range(256)] + [b"", b""]


def compress(data: bytes) -> bytes:
    """Compress; about 7 MB/s."""
    out = bytearray()
    bits = CLEAR  # the pending bits, the oldest lowest
    count = WIDTH_MIN
    width, high, overflow = WIDTH_MIN, END, 1 << WIDTH_MIN
    table: dict[int, int] = {}
    prefix = -1
    for byte in data:
        if prefix < 0:
            prefix = byte
            continue
        key = prefix << 8 | byte
        code = table.get(key)
        if code is not None:
            prefix = code
            continue
        bits |= prefix << count
        count += width
        prefix = byte
        high += 1
        if high == overflow:
            width += 1
            overflow <<= 1
        if high == CODE_MAX:
            bits |= CLEAR << count
            count += width
            width, high, overflow = WIDTH_MIN, END, 1 << WIDTH_MIN
            table.clear()
        else:
            table[key] = high
        if count >= 64:
            whole = count >> 3
            out += (bits & ((1 << (whole << 3)) - 1)).to_bytes(whole, "little")
            bits >>= whole << 3
            count &= 7
    if prefix >= 0:
        bits |= prefix << count
        count += width
        high += 1
        if high == overflow:
            width += 1
        if high == CODE_MAX:
            bits |= CLEAR << count
            count += width
            width = WIDTH_MIN
    bits |= END << count
    count += width
    return bytes(out) + bits.to_bytes((count + 7) >> 3, "little")


def decompress(data: bytes, limit: int) -> bytes:
    """Decompress; raises ``DecodeError`` for bad input or over ``limit`` bytes."""
    out: list[bytes] = []
    size = 0
    table = _LITERALS.copy()
    width, high, overflow = WIDTH_MIN, END, 1 << WIDTH_MIN
    mask = overflow - 1
    last = b""  # empty: the next code makes no entry
    bits = count = 0
    for byte in data:
        bits |= byte << count
        count += 8
        if count < width:
            continue
        code = bits & mask
        bits >>= width
        count -= width
        if code == CLEAR:
            del table[END + 1 :]
            width, high, overflow = WIDTH_MIN, END, 1 << WIDTH_MIN
            mask = overflow - 1
            last = b""
            continue
        if code == END:
            return b"".join(out)
        if code < len(table):
            entry = table[code]
        elif code == high and last:
            entry = last + last[:1]
        else:
            raise DecodeError("lzw: invalid code")
        size += len(entry)
        if size > limit:
            raise DecodeError(f"lzw: more than {limit} bytes")
        out.append(entry)
        if last:
            table.append(last + entry[:1])
        last = entry
        high += 1
        if high >= overflow:
            if width == WIDTH_MAX:
                last = b""  # full: it learns no more until cleared
                high -= 1
            else:
                width += 1
                overflow <<= 1
                mask = overflow - 1
    raise DecodeError("lzw: unexpected end")
