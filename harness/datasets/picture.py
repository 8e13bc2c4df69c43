"""What decoding yields of one file, whatever its format: colours, opacity, and what to tell."""

from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Ground = Literal["white", "black", "ignore"]
"""What transparent pixels are laid on; ``ignore`` takes their colours as if they were opaque."""

MAX_PIXELS = 178_956_970
"""Larger images are taken for decompression bombs, as by Pillow (half a GiB in RGB)."""

PIXELS = ("uint8", "uint16", "float32")


class BadImage(Exception):
    """A file that does not hold an image that can be decoded; the message says why."""


class Picture(NamedTuple):
    """One decoded file.

    Attributes:
        colours: ``[H, W, 3]`` RGB of one of `PIXELS`.
        alpha: Opacity, ``[H, W]`` of the same dtype, or None where the file has none.
        top: The value that stands for full intensity; 0 where the file does not tell.
        premultiplied: Whether colours are stored multiplied by their opacity.
        remarks: What of the file is not read as it stands, in the words of `REMARKS`.
    """

    colours: NDArray[Any]
    alpha: NDArray[Any] | None = None
    top: int = 0
    premultiplied: bool = False
    remarks: tuple[str, ...] = ()

    def with_remark(self, remark: str) -> "Picture":
        """Return the same with one more remark."""
        return self._replace(remarks=(*self.remarks, remark))


def unpack(data: bytes, flags: int) -> NDArray[Any] | None:
    """Return what OpenCV makes of a file, in its order of channels, or None.

    Raises:
        BadImage: It gives up with an error.
    """
    try:
        found: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise BadImage(f"cannot be decoded: {error.err}") from None
    return found


def rgb(image: NDArray[Any]) -> NDArray[Any]:
    """Return the colours of ``[H, W]`` gray or ``[H, W, 3 or 4]`` BGR as RGB."""
    if image.dtype == np.float64:
        image = image.astype(np.float32)
    if image.dtype.name not in PIXELS:
        raise BadImage(f"its pixels are {image.dtype.name} and not one of {', '.join(PIXELS)}")
    if image.dtype == np.float32 and not np.isfinite(image).all():
        raise BadImage("holds pixels that are NaN or infinite")
    if image.ndim == 2 or image.shape[2] == 1:
        found: NDArray[Any] = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    else:
        code = cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGB
        found = cv2.cvtColor(image, code)
    return found


def laid_on(picture: Picture, ground: Ground) -> Picture:
    """Return an opaque picture: transparent pixels laid on a ground, with a remark that they were.

    A colour c of opacity a on a ground g becomes a·c + (1 − a)·g, of the stored values: no light
    is made linear, as browsers and Pillow do not either.
    """
    alpha = picture.alpha
    if alpha is None:
        return picture
    top = picture.top or int(np.iinfo(alpha.dtype).max)
    if int(alpha.min()) >= top:
        return picture._replace(alpha=None)
    if ground == "ignore":
        return picture._replace(alpha=None).with_remark("transparent")
    opacity = alpha.astype(np.uint64)[..., None]
    colours = picture.colours.astype(np.uint64)
    shown = colours * (top if picture.premultiplied else opacity)
    behind = (top - np.minimum(opacity, top)) * (top if ground == "white" else 0)
    laid = np.minimum((shown + behind + top // 2) // top, top).astype(picture.colours.dtype)
    return picture._replace(colours=laid, alpha=None).with_remark("transparent")


def turned(picture: Picture, orientation: int) -> Picture:
    """Return the picture the way up that an EXIF orientation of 1 to 8 asks for."""
    if orientation not in range(2, 9):
        return picture

    def turn(image: NDArray[Any]) -> NDArray[Any]:
        if orientation > 4:
            image = image.swapaxes(0, 1)
        if orientation in (3, 4, 7, 8):
            image = image[::-1]
        if orientation in (2, 3, 6, 7):
            image = image[:, ::-1]
        return np.ascontiguousarray(image)

    alpha = None if picture.alpha is None else turn(picture.alpha)
    return picture._replace(colours=turn(picture.colours), alpha=alpha)


def too_many(channels: int) -> BadImage:
    """Return the error on a file of more channels than an image has."""
    return BadImage(
        f"has {channels} channels (bands), and an image has 1 (gray) or 3 (RGB), perhaps with "
        "alpha: write the three to be used into a file"
    )
