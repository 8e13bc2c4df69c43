"""TIFF: what its first directory says of the pixels, and these in RGB.

OpenCV unpacks and decompresses them and turns them upright. It heeds the photometric interpretation
of 8-bit files only, and multiplies 8-bit colours by their alpha: so where that matters it is handed
a copy whose directory calls the samples plain RGB, and the interpretation is done here. Two
channels, and 2 or 4 bits, Pillow reads.
"""

import io
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.datasets.picture import BadImage, Picture, rgb, too_many, unpack

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

WIDTH, HEIGHT = 256, 257
_BITS, _PHOTOMETRIC, _SAMPLES = 258, 262, 277
_STRIPS, _STRIP_BYTES, _PLANAR, _EXTRA, _FORMAT = 273, 279, 284, 338, 339
_TILES, _TILE_BYTES = 324, 325
_NO_TAG = 335
"""What no reader knows, and stands where an entry is not to be seen."""

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB, _ICC_LAB = (
    0,
    1,
    2,
    3,
    5,
    6,
    8,
    9,
)
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3, 9: 3}
_NAMES = {4: "transparency mask", 10: "ITU Lab", 32803: "colour filter array", 34892: "linear raw"}
_NAMES |= {32844: "LogL", 32845: "LogLuv"}

_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MOST_VALUES = 1 << 22


class Directory(NamedTuple):
    """The first directory of a file.

    Attributes:
        order: ``<`` or ``>``, as in `struct`.
        values: The numbers of each entry, by tag; entries of other types are left out.
        places: Where the first of them stands in the file, by tag.
        heads: Where the entry begins, by tag.
    """

    order: str
    values: Mapping[int, tuple[int, ...]]
    places: Mapping[int, int]
    heads: Mapping[int, int]

    def one(self, tag: int, otherwise: int) -> int:
        """Return the first number of an entry."""
        return self.values.get(tag, (otherwise,))[0]


def directory(data: bytes) -> Directory:
    """Return the first directory of a TIFF or BigTIFF.

    Raises:
        BadImage: It is damaged, or what it speaks of lies beyond the end of the file.
    """
    try:
        found = _directory(data)
    except (struct.error, KeyError, IndexError, MemoryError) as error:
        raise BadImage(f"is truncated or damaged: its directory ends early ({error})") from None
    for starts, lengths in ((_STRIPS, _STRIP_BYTES), (_TILES, _TILE_BYTES)):
        ends = zip(found.values.get(starts, ()), found.values.get(lengths, ()), strict=False)
        if any(start + length > len(data) for start, length in ends):
            raise BadImage("is truncated or damaged: its pixels end early")
    return found


def _directory(data: bytes) -> Directory:
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    at = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    count = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
    at += 8 if big else 2
    head, room = ("HHQ", 8) if big else ("HHI", 4)
    values: dict[int, tuple[int, ...]] = {}
    places: dict[int, int] = {}
    heads: dict[int, int] = {}
    for _ in range(min(count, 4096)):
        tag, kind, many = struct.unpack_from(order + head, data, at)
        begin = at
        place = at + struct.calcsize(order + head)
        at = place + room
        if kind not in _TYPES or not 0 < many <= _MOST_VALUES:
            continue
        code = f"{order}{many}{_TYPES[kind]}"
        if struct.calcsize(code) > room:
            place = struct.unpack_from(order + ("Q" if big else "I"), data, place)[0]
        values[tag] = struct.unpack_from(code, data, place)
        places[tag], heads[tag] = place, begin
    return Directory(order, values, places, heads)


class _Layout(NamedTuple):
    """How the samples of a file stand for colours."""

    photometric: int
    bits: int
    samples: int
    colours: int
    extra: tuple[int, ...]

    @property
    def alpha(self) -> int:
        """What the sample beyond the colours is: 0 no alpha, 1 premultiplied, 2 alpha."""
        extra = self.extra[-1:] if self.colours == 3 else self.extra[:1]
        return extra[0] if self.samples > self.colours and extra else 0

    @property
    def inverted(self) -> bool:
        """Whether 0 is white, and OpenCV does not see to it."""
        return self.photometric == _WHITE_IS_ZERO and (self.bits > 8 or self.colours == 3)


def read(data: bytes) -> Picture:
    """Return the pixels of the first image.

    Raises:
        BadImage: The file is damaged, or of a kind that is not read; the message says which.
    """
    entries = directory(data)
    layout = _layout(entries)
    if layout.bits in (2, 4) or (layout.samples == 2 and layout.bits == 8):
        return _by_pillow(data, layout)
    if layout.photometric in (_PALETTE, _YCBCR) or (layout.photometric, layout.bits) == (_CMYK, 8):
        return Picture(rgb(_unpacked(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)))
    image = _unpacked(_plainly(data, entries, layout), cv2.IMREAD_UNCHANGED)
    if layout.photometric == _CMYK:
        return _from_cmyk(image)
    if layout.photometric in (_LAB, _ICC_LAB):
        return _from_lab(rgb(image), layout)
    return _as_it_stands(image, layout)


def _layout(entries: Directory) -> _Layout:
    """Return how samples stand for colours.

    Raises:
        BadImage: They do so in a way that is not read.
    """
    samples, planar = entries.one(_SAMPLES, 1), entries.one(_PLANAR, 1)
    depths, form = set(entries.values.get(_BITS, (1,))), entries.one(_FORMAT, 1)
    photometric = entries.one(_PHOTOMETRIC, _BLACK_IS_ZERO if samples < 3 else _RGB)
    if photometric not in _COLOURS:
        name = _NAMES.get(photometric, "unknown")
        raise BadImage(
            f"its photometric interpretation is {photometric} ({name}), which is not read: save it "
            "as RGB or gray"
        )
    if samples > 4:
        raise too_many(samples)
    if len(depths) > 1:
        raise BadImage(f"its channels have different depths: {sorted(depths)} bits")
    bits = depths.pop()
    colours = _COLOURS[photometric]
    if colours == 1 and samples > 2 and photometric != _PALETTE:
        colours = 3  # what scientific software calls gray of three channels
    if samples < colours:
        raise BadImage(f"is damaged: {samples} channels, and {colours} colours are promised")
    what = f"{samples} channels of {bits} bits"
    if planar == 2 and samples > 1 and bits > 8:
        raise BadImage(f"its {what} lie one after the other, which is not read: interleave them")
    if form == 3 and (samples == 2 or samples == 4):
        raise BadImage(f"has {samples} channels of floating-point numbers, and 1 or 3 are read")
    if form == 3 and bits < 32:
        raise BadImage(f"its pixels are float{bits} and not one of uint8, uint16, float32")
    if bits > 8 and (samples == 2 or photometric in (_PALETTE, _YCBCR)):
        name = {_PALETTE: " through a palette", _YCBCR: " in YCbCr"}.get(photometric, "")
        raise BadImage(f"has {what}{name}, which are not read: save it as RGB or gray")
    if photometric in (_LAB, _ICC_LAB) and bits not in (8, 16):
        raise BadImage(f"has {what} in L*a*b*, of which 8 and 16 bits are read")
    return _Layout(photometric, bits, samples, colours, entries.values.get(_EXTRA, ()))


def _unpacked(data: bytes, flags: int) -> NDArray[Any]:
    image = unpack(data, flags)
    if image is None and flags != cv2.IMREAD_UNCHANGED:
        image = unpack(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise BadImage("is not an image, or is damaged")
    return image


def _plainly(data: bytes, entries: Directory, layout: _Layout) -> bytes:
    """Return the file with a directory that has OpenCV hand out the samples as stored."""
    renamed = layout.colours > 1 and layout.photometric != _RGB
    stacked = renamed and layout.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    if not renamed and layout.alpha != 2:
        return data
    copy, short = bytearray(data), entries.order + "H"
    if renamed and _PHOTOMETRIC in entries.places:
        struct.pack_into(short, copy, entries.places[_PHOTOMETRIC], _RGB)
    if stacked and _EXTRA in entries.heads:  # of two or three extra channels, two are colours now
        struct.pack_into(short, copy, entries.heads[_EXTRA], _NO_TAG)
    elif layout.alpha == 2:
        struct.pack_into(short, copy, entries.places[_EXTRA], 1)
    return bytes(copy)


def _as_it_stands(image: NDArray[Any], layout: _Layout) -> Picture:
    """Return gray or RGB, perhaps with alpha or a band to leave out."""
    colours = rgb(image)
    if layout.samples <= layout.colours:
        picture = Picture(colours)
    elif layout.alpha:
        top = _top(layout.bits) if image.dtype == np.uint16 else 0
        picture = Picture(colours, image[..., 3], top, premultiplied=layout.alpha == 1)
    else:
        picture = Picture(colours).with_remark("band")
    gray = layout.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    if gray and layout.colours == 3 and layout.bits <= 8:  # of more bits, OpenCV takes them so
        picture = picture.with_remark("stacked")
    if not layout.inverted:
        return picture
    # smaller is whiter: of floats, whose range is fitted, the sign says so
    floats = colours.dtype == np.float32
    inverse = -colours if floats else colours.dtype.type(_top(layout.bits)) - colours
    return picture._replace(colours=inverse).with_remark("inverted")


def _top(bits: int) -> int:
    """Return what OpenCV makes of the largest value: it shifts 10, 12 and 14 bits to 16."""
    return ((1 << bits) - 1) << (16 - bits if bits > 8 else 0)


def _from_cmyk(image: NDArray[Any]) -> Picture:
    """Return 16-bit inks as RGB: what neither a colour nor black covers."""
    top = np.iinfo(image.dtype).max
    bare = top - image.astype(np.uint64)
    shown = (bare[..., 2::-1] * bare[..., 3:] + top // 2) // top
    return Picture(shown.astype(image.dtype))


def _from_lab(samples: NDArray[Any], layout: _Layout) -> Picture:
    """Return L*a*b* as sRGB of the same depth, white as white."""
    wide = samples.dtype == np.uint16
    top = int(np.iinfo(samples.dtype).max)
    if layout.photometric == _LAB:
        light = samples[..., :1] * np.float32(100 / top)
        signed = samples[..., 1:].view(np.int16 if wide else np.int8).astype(np.float32)
        opponents = signed / np.float32(256 if wide else 1)
    else:
        light = samples[..., :1] * np.float32(100 / (0xFF00 if wide else top))
        opponents = samples[..., 1:] / np.float32(256 if wide else 1) - np.float32(128)
    lab = np.concatenate([light, opponents], axis=-1).astype(np.float32)
    shown = np.clip(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB), 0, 1)
    return Picture(np.rint(shown * top).astype(samples.dtype)).with_remark("lab")


def _by_pillow(data: bytes, layout: _Layout) -> Picture:
    try:
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            bare = image.convert("RGB")
            if image.mode in ("LA", "PA", "RGBA"):
                alpha = np.asarray(image.convert("RGBA"))[..., 3]
                return Picture(np.asarray(bare), alpha)
    except Exception as error:
        what = f"{layout.samples} channels of {layout.bits} bits"
        raise BadImage(f"has {what}, which are not read ({error})") from None
    picture = Picture(np.array(bare))
    return picture.with_remark("first band") if layout.samples == 2 else picture
