"""One image file: is it sound, what does it hold, and its pixels in the form asked for.

`pixels` decodes. Pillow is asked first about what OpenCV hides: which format the content is, how
many pixels the header promises, whether the file ends before the image does, and its profile.
"""

import hashlib
import io
import os
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.datasets import alike, pixels, tiff
from harness.datasets.folders import IMAGE_FORMATS
from harness.datasets.picture import MAX_PIXELS, BadImage, Ground
from harness.files import read_bytes
from harness.terminal import Terminal

VERSION = f"3 cv2 {cv2.__version__} PIL {PIL.__version__}"
"""What decides how a file decodes: what is remembered of one is remembered under this."""

_ALIASES = {"MPO": "JPEG", "DIB": "BMP"}
_JPEG_END = b"\xff\xd9"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_CHUNK = 256

_SOME_COLOURS = 51 * np.indices((6, 6, 6), np.uint8).reshape(3, 6, 36).transpose(1, 2, 0)
_VISIBLE = 12
"""Levels of 255 by which colours may differ before a profile is told of."""

T = TypeVar("T")
R = TypeVar("R")


class FileFacts(NamedTuple):
    """What is known of one file.

    Attributes:
        digest: SHA-256 of its bytes; empty where it cannot be read.
        height: Rows, after EXIF rotation.
        width: Columns, after EXIF rotation.
        dtype: Of its pixels, one of `picture.PIXELS`.
        pages: Images in the file, of which the first counts.
        mislabelled: How content and extension differ; empty where they do not.
        trouble: Why it cannot be decoded; empty where it can.
        top: Of 16 bits, the largest value that the file can hold by its own word, else the largest
            that it holds; 0 for other types.
        remarks: What of it is not read as it stands, in the words of `readings.REMARKS`.
        profile: Name of a colour profile that asks for other colours than those read, or empty.
        thumbnail: As `alike.thumbnail` makes it, in Base64; empty where it cannot be decoded.
    """

    digest: str = ""
    height: int = 0
    width: int = 0
    dtype: str = ""
    pages: int = 1
    mislabelled: str = ""
    trouble: str = ""
    top: int = 0
    remarks: Sequence[str] = ()
    profile: str = ""
    thumbnail: str = ""


def examine(path: Path) -> FileFacts:
    """Read, verify and decode one file, and return what is known of it."""
    try:
        data = read_bytes(path)
    except OSError as error:
        return FileFacts(trouble=f"cannot be read: {error.strerror or error}")
    digest = hashlib.sha256(data).hexdigest()
    try:
        kind, pages, profile = _verify(data)
        picture = pixels.read(data)
    except BadImage as error:
        return FileFacts(digest, trouble=str(error))
    image = picture.colours
    claimed = IMAGE_FORMATS.get(path.suffix.lower(), kind)
    return FileFacts(
        digest=digest,
        height=image.shape[0],
        width=image.shape[1],
        dtype=image.dtype.name,
        pages=pages,
        mislabelled=f"its content is {kind}, not {claimed}" if kind and kind != claimed else "",
        top=picture.top or int(image.max()) if image.dtype == np.uint16 else 0,
        remarks=picture.remarks,
        profile=profile,
        thumbnail=b64encode(alike.thumbnail(image)).decode(),
    )


def read_image(path: Path, ground: Ground = "white") -> NDArray[Any]:
    """Return the pixels of one file, ``[H, W, 3]`` RGB of uint8, uint16 or float32.

    Args:
        path: The file.
        ground: What transparent pixels are laid on.

    Raises:
        BadImage: It cannot be read or decoded.
    """
    try:
        return pixels.read(read_bytes(path), ground).colours
    except OSError as error:
        raise BadImage(f"cannot be read: {error.strerror or error}") from None


def fit(
    image: NDArray[Any],
    size: int | None,
    resize: Literal["keep", "squash"],
    grayscale: bool,
) -> NDArray[Any]:
    """Return an image as a dataset wants it, in its own dtype.

    Args:
        image: ``[H, W, 3]`` RGB.
        size: Side of the square to return, or None to keep H and W.
        resize: ``keep`` scales the short side to `size` and cuts out the centre; ``squash``
            scales both sides.
        grayscale: One channel instead of three.
    """
    if grayscale:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = image.shape[:2]
    if size is not None and (height, width) != (size, size):
        if resize == "squash":
            image = _scale(image, size, size)
        else:
            scale = size / min(height, width)
            height, width = max(size, round(height * scale)), max(size, round(width * scale))
            top, left = (height - size) // 2, (width - size) // 2
            image = _scale(image, height, width)[top : top + size, left : left + size]
    return image.reshape(*image.shape[:2], -1)


def _scale(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Shrink by area, then enlarge linearly: INTER_AREA does the latter badly on either axis."""
    smaller = min(height, image.shape[0]), min(width, image.shape[1])
    if smaller != image.shape[:2]:
        image = cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA)
    if smaller != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def _verify(data: bytes) -> tuple[str, int, str]:
    """Return the format of the content, empty if Pillow does not know it, its pages and profile.

    Raises:
        BadImage: The file is empty, ends too early or promises absurdly many pixels.
    """
    if not data:
        raise BadImage("is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=_openable()) as image:
            kind = _ALIASES.get(image.format or "", image.format or "")
            _require_sane_size(*image.size)
            if not _ends_as_it_should(kind, data):
                _load(image)
            pages = getattr(image, "n_frames", 1) if image.format != "MPO" else 1
            return kind, pages, _profile(image.info.get("icc_profile"), image.mode)
    except Image.DecompressionBombError:
        raise BadImage(f"its header promises more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        return _tiff_beyond_pillow(data)
    except BadImage:
        raise
    except Exception as error:  # Pillow meets damage in whatever way it happens to
        raise BadImage(f"is damaged: {error}") from None


@cache
def _openable() -> list[str]:
    """Return our formats that this Pillow opens: never EPS, which would start Ghostscript."""
    Image.init()
    return [name for name in sorted(set(IMAGE_FORMATS.values())) if name in Image.OPEN]


def _require_sane_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImage(f"its header promises {width} × {height} pixels, more than {MAX_PIXELS:,}")


def _ends_as_it_should(kind: str, data: bytes) -> bool:
    if kind == "JPEG":
        return data.endswith(_JPEG_END)
    return kind == "PNG" and data.endswith(_PNG_END)


def _load(image: Image.Image) -> None:
    """Decode fully: OpenCV before 5 fills the missing part of a truncated file with gray."""
    try:
        image.load()
    except Exception as error:
        # any other complaint may be a variant that Pillow does not know: OpenCV has the last word
        if "truncated" in str(error).lower() or "broken" in str(error).lower():
            raise BadImage(f"is truncated or damaged: {error}") from None


def _tiff_beyond_pillow(data: bytes) -> tuple[str, int, str]:
    """Return the format of a TIFF whose pixels Pillow cannot hold (three channels of floats)."""
    if data[:4] not in tiff.MAGIC:
        return "", 1, ""
    entries = tiff.directory(data)
    _require_sane_size(entries.one(tiff.WIDTH, 0), entries.one(tiff.HEIGHT, 0))
    return "TIFF", 1, ""


@lru_cache(256)
def _profile(icc: bytes | None, mode: str) -> str:
    """Return the name of a colour profile by which colours are others than in sRGB, else nothing.

    Colours are read as they are stored; most profiles are sRGB under some name.
    """
    modes = {"RGB": "RGB", "RGBA": "RGB", "P": "RGB", "L": "L", "LA": "L", "CMYK": "CMYK"}
    if not icc or mode not in modes:
        return ""
    try:
        found = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        name = ImageCms.getProfileDescription(found).strip() or "without a name"
        there = modes[mode]
        sample = Image.fromarray(np.ascontiguousarray(_SOME_COLOURS)).convert(there)
        to = ImageCms.buildTransform(found, ImageCms.createProfile("sRGB"), there, "RGB")
        shown = np.asarray(ImageCms.applyTransform(sample, to)).astype(np.int64)
    except (ImageCms.PyCMSError, OSError, ValueError, ImportError):
        return ""  # a damaged profile, or one of another kind of pixels: nothing can be said
    off = np.abs(shown - np.asarray(sample.convert("RGB"))).max()
    return name if off > _VISIBLE else ""


def in_parallel(work: Callable[[T], R], items: Sequence[T], what: str) -> Iterator[R]:
    """Yield ``work(item)`` for each item in order, done by threads, under a progress bar.

    Args:
        work: What to do; image decoding and hashing run beside each other.
        items: What to do it to.
        what: What the bar says.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with (
        _quiet(),
        _progress(len(items), what) as advance,
        ThreadPoolExecutor(min(32, threads or 1)) as pool,
    ):
        for at in range(0, len(items), _CHUNK):  # in chunks: results wait for whoever takes them
            chunk = items[at : at + _CHUNK]
            yield from pool.map(work, chunk)
            advance(len(chunk))


@contextmanager
def _quiet() -> Iterator[None]:
    """Give OpenCV one thread, and let it and Pillow complain only through what they return."""
    threads, level = cv2.getNumThreads(), cv2.utils.logging.getLogLevel()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cv2.setNumThreads(1)
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            yield
        finally:
            cv2.setNumThreads(threads)
            cv2.utils.logging.setLogLevel(level)


@contextmanager
def _progress(total: int, what: str) -> Iterator[Callable[[int], object]]:
    """Draw a bar on stderr where somebody looks at it, and yield what moves it on."""
    console = Terminal(stderr=True)
    # a worker process shares the terminal with the display of its driver
    if not console.is_terminal or parent_process() is not None:
        yield lambda done: None
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        yield partial(bar.advance, bar.add_task(what, total=total))
