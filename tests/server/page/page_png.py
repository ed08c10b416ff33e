"""Makes a PNG smaller: at most 256 colours, rarer ones replaced by the nearest, with zlib's best compression."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

Colour = tuple[int, int, int]


def smaller(png: bytes) -> bytes:
    """Return the picture with a palette. It must have 8 bits per channel, no transparency, no interlacing."""
    width, height, channels, rows = _read(png)
    lines = [[tuple(row[at : at + 3]) for at in range(0, len(row), channels)] for row in rows]
    counted: Counter[Colour] = Counter()
    for line in lines:
        counted.update(line)  # type: ignore[arg-type]
    palette = [colour for colour, _ in counted.most_common(256)]
    place = {colour: at for at, colour in enumerate(palette)}
    for colour in counted:
        if colour not in place:
            place[colour] = min(range(len(palette)), key=lambda at: _distance(palette[at], colour))
    body = b"".join(b"\0" + bytes([place[colour] for colour in line]) for line in lines)  # type: ignore[index]
    return b"".join(
        [
            png[:8],
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes(value for colour in palette for value in colour)),
            _chunk(b"IDAT", zlib.compress(body, 9)),
            _chunk(b"IEND", b""),
        ]
    )


def _distance(one: Colour, two: Colour) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, two, strict=True))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += size + 12


def _read(png: bytes) -> tuple[int, int, int, list[bytearray]]:
    """Return width, height, bytes per pixel, and the rows."""
    parts = list(_chunks(png))
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", parts[0][1])
    assert depth == 8 and kind in (2, 6) and not interlaced
    channels = 3 if kind == 2 else 4
    raw = zlib.decompress(b"".join(data for name, data in parts if name == b"IDAT"))
    rows: list[bytearray] = []
    above = bytearray(width * channels)
    for at in range(height):
        begin = at * (width * channels + 1)
        above = _unfiltered(raw[begin], bytearray(raw[begin + 1 : begin + 1 + width * channels]), above, channels)
        rows.append(above)
    return width, height, channels, rows


def _unfiltered(kind: int, row: bytearray, above: bytearray, step: int) -> bytearray:
    for at in range(len(row)) if kind else ():
        left = row[at - step] if at >= step else 0
        corner = above[at - step] if at >= step else 0
        guess = (0, left, above[at], (left + above[at]) // 2, _paeth(left, above[at], corner))[kind]
        row[at] = (row[at] + guess) & 255
    return row


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda one: abs(guess - one))
