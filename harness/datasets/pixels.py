"""The bytes of an image file of any format as RGB pixels.

OpenCV decodes, because it is fast, keeps the depth and leaves other threads running meanwhile; what
it passes over is seen to here: transparency, orientation in AVIF, the range of a PGM. TIFF, whose
pixels can mean many things, has a module of its own.
"""

import io
import re
import struct
from collections.abc import Mapping

import cv2
import numpy as np
from PIL import Image

from harness.datasets import tiff
from harness.datasets.picture import (
    BadImage,
    Ground,
    Picture,
    laid_on,
    rgb,
    too_many,
    turned,
    unpack,
)

_JPEG, _PNG, _JP2 = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"\0\0\0\x0cjP  \r\n\x87\n"
_RAW_EXIF = b"Raw profile type exif"
_AVIF = (b"ftypavif", b"ftypavis")


def read(data: bytes, ground: Ground = "white") -> Picture:
    """Return the pixels of a file, opaque and upright.

    Raises:
        BadImage: It cannot be decoded.
    """
    if not data:
        raise BadImage("is empty (0 bytes)")
    if data[:4] in tiff.MAGIC:
        picture = tiff.read(data)
    elif data[:2] == _JPEG:
        picture = _of_colours(data)
    else:
        picture = _of_anything(data)
    return laid_on(picture, ground)


def _of_colours(data: bytes) -> Picture:
    image = unpack(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise BadImage("is not an image, or is damaged")
    return Picture(rgb(image))


def _of_anything(data: bytes) -> Picture:
    """Return the pixels of a file that is neither JPEG nor TIFF."""
    channels = _channels_of_jp2(data)
    if channels > 4:
        raise too_many(channels)
    if channels == 2:
        return _gray_and_alpha(data)
    image = unpack(data, cv2.IMREAD_UNCHANGED)
    if image is None:
        return _of_colours(data)
    alpha = image[..., 3] if image.ndim == 3 and image.shape[2] == 4 else None
    picture = Picture(rgb(image), alpha)
    if data[:8] == _PNG:
        chunks = _chunks(data)
        picture = _keyed(picture, data, chunks)
        texts = chunks.get(b"zTXt", b"") + chunks.get(b"tEXt", b"")
        oriented = b"eXIf" in chunks or _RAW_EXIF in texts
    elif data[4:12] in _AVIF:
        picture, oriented = picture._replace(top=_top_of_avif(data)), True
    elif data[:1] == b"P":
        picture, oriented = _scaled(picture._replace(top=_top_of_ppm(data))), False
    else:
        oriented = data[8:12] == b"WEBP" and b"EXIF" in data
    return _upright(picture, data) if oriented else picture


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a PNG beside its pixels, by name; of several texts, all of them."""
    found: dict[bytes, bytes] = {}
    at = 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name != b"IDAT":
            found[name] = found.get(name, b"") + data[at + 8 : at + 8 + length]
        at += 12 + length
    return found


def _top_of_avif(data: bytes) -> int:
    """Return the largest value of a pixel, or 0 where the file does not tell."""
    at = data.find(b"pixi")  # its version and flags, the number of channels, then their depths
    return (1 << data[at + 9]) - 1 if 0 < at < len(data) - 9 else 0


def _top_of_ppm(data: bytes) -> int:
    """Return what a PGM or PPM says that white is, or 0."""
    header = re.match(rb"P[2356](?:\s+|#[^\n]*\n)+" + rb"(\d+)(?:\s+|#[^\n]*\n)+" * 3, data)
    return int(header[3]) if header else 0


def _scaled(picture: Picture) -> Picture:
    """Return bytes of a file that says what white is, and it is less than 255, over the range."""
    if picture.colours.dtype != np.uint8 or not 0 < picture.top < 255:
        return picture
    values = picture.colours.astype(np.uint32) * 255 + picture.top // 2
    scaled = np.minimum(values // picture.top, 255).astype(np.uint8)
    return picture._replace(colours=scaled, top=255).with_remark("levels")


def _keyed(picture: Picture, data: bytes, chunks: Mapping[bytes, bytes]) -> Picture:
    """Return a gray PNG with the level that it calls transparent so: OpenCV passes over it."""
    if picture.alpha is not None or data[25] != 0 or len(chunks.get(b"tRNS", b"")) < 2:
        return picture
    bits, key = data[24], int.from_bytes(chunks[b"tRNS"][:2], "big")
    level = key if bits >= 8 else (key & ((1 << bits) - 1)) * 255 // ((1 << bits) - 1)
    gray = picture.colours[..., 0]
    alpha = np.where(gray == level, 0, np.iinfo(gray.dtype).max).astype(gray.dtype)
    return picture._replace(alpha=alpha)


def _upright(picture: Picture, data: bytes) -> Picture:
    """Return the picture the way up that a PNG, WebP or AVIF asks for; OpenCV turns the others."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "WEBP", "AVIF"]) as image:
            orientation = int(image.getexif().get(0x112, 1))
    except Exception:  # what cannot be parsed asks for nothing
        return picture
    found = turned(picture, orientation)
    before = found is picture or (image.format != "AVIF" and _RAW_EXIF not in data)
    return found if before else found.with_remark("turned")


def _channels_of_jp2(data: bytes) -> int:
    """Return how many channels a JPEG 2000 says that it has, or 0."""
    if data[:12] != _JP2 and data[:4] != b"\xff\x4f\xff\x51":
        return 0
    at = data.find(b"\xff\x4f\xff\x51")  # start of the codestream, then its size
    return int.from_bytes(data[at + 40 : at + 42], "big") if at >= 0 else 0


def _gray_and_alpha(data: bytes) -> Picture:
    """Return a JPEG 2000 of two channels, which OpenCV does not read."""
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG2000"]) as image:
            if image.mode != "LA":
                raise BadImage(f"has 2 channels that are {image.mode}, which are not read")
            both = np.array(image)
    except BadImage:
        raise
    except Exception as error:
        raise BadImage(f"is truncated or damaged: {error}") from None
    return Picture(rgb(both[..., 0]), both[..., 1])
