"""PNG and TIFF files written by hand: what their headers may say, and no library writes."""

import struct
import zlib

import numpy as np

GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
"""Colour types of a PNG."""

MIN_IS_WHITE, MIN_IS_BLACK, TIFF_RGB, TIFF_PALETTE, MASK, CMYK, YCBCR = range(7)
CIELAB, ICCLAB = 8, 9
"""Photometric interpretations of a TIFF."""

_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))
_ADAM7 = (*_ADAM7, (1, 0, 2, 1))


def png(pixels, colour, bits=8, chunks=(), interlaced=False):
    """Return a PNG of samples ``[H, W, S]``; `chunks` go before the image data."""
    header = struct.pack(
        ">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, colour, 0, 0, int(interlaced)
    )
    passes = [pixels]
    if interlaced:
        passes = [pixels[top::down, left::right] for top, left, down, right in _ADAM7]
    lines = b"".join(
        b"\0" + _packed(row, bits, ">") for part in passes if part.size for row in part
    )
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def chunk(name, data):
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(pixels, photometric, bits=None, order="<", planar=1, orientation=1, extra=(), tags=None):
    """Return an uncompressed TIFF of samples ``[H, W, S]`` in one strip, or one for each plane.

    Args:
        pixels: What to write; unsigned, signed and float types say their sample format.
        photometric: Photometric interpretation.
        bits: Of a sample, where not those of the type.
        order: ``<`` or ``>``.
        planar: 1 for samples beside each other, 2 for one plane after the other.
        orientation: 1 to 8, or None for no such entry.
        extra: What each sample beyond the colours is: 0 unknown, 1 premultiplied alpha, 2 alpha.
        tags: Further entries, ``{tag: (type, values)}``.
    """
    height, width, samples = pixels.shape
    bits = bits or pixels.dtype.itemsize * 8
    planes = [pixels[..., [k]] for k in range(samples)] if planar == 2 else [pixels]
    strips = [b"".join(_packed(row, bits, order) for row in plane) for plane in planes]
    short, long = 3, 4
    entries = {
        256: (long, (width,)),
        257: (long, (height,)),
        258: (short, (bits,) * samples),
        259: (short, (1,)),
        262: (short, (photometric,)),
        273: (long, tuple(8 + sum(map(len, strips[:k])) for k in range(len(strips)))),
        274: (short, (orientation,)),
        277: (short, (samples,)),
        278: (long, (height,)),
        279: (long, tuple(map(len, strips))),
        284: (short, (planar,)),
        338: (short, tuple(extra)),
        339: (short, ({"u": 1, "i": 2, "f": 3}[pixels.dtype.kind],) * samples),
        **(tags or {}),
    }
    entries = {tag: entry for tag, entry in entries.items() if entry[1] and entry[1][0] is not None}
    data = b"".join(strips)
    data += b"\0" * (len(data) % 2)
    at = 8 + len(data)
    beyond = at + 2 + 12 * len(entries) + 4
    directory, values = struct.pack(order + "H", len(entries)), b""
    for tag, (kind, numbers) in sorted(entries.items()):
        count = len(numbers)
        packed = struct.pack(f"{order}{count}{'H' if kind == short else 'I'}", *numbers)
        if len(packed) > 4:
            directory += struct.pack(order + "HHII", tag, kind, count, beyond + len(values))
            values += packed + b"\0" * (len(packed) % 2)
        else:
            directory += struct.pack(order + "HHI", tag, kind, count) + packed.ljust(4, b"\0")
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", at)
    return head + data + directory + struct.pack(order + "I", 0) + values


def _packed(row, bits, order):
    """Return the samples of a row, packed to a number of bits each."""
    if bits in (8, 16, 32, 64) and bits == row.dtype.itemsize * 8:
        return row.astype(row.dtype.newbyteorder(order)).tobytes()
    values = row.reshape(-1, 1).astype(np.uint32)
    return np.packbits((values >> np.arange(bits - 1, -1, -1)) & 1).tobytes()
