"""One image file: is it sound, what does it hold, and its pixels in the form asked for.

OpenCV decodes, because it is fast, keeps the depth, applies EXIF rotation and leaves other threads
running meanwhile. Pillow is asked first about what OpenCV hides: which format the content is, how
many pixels the header promises, and whether the file ends before the image does.
"""

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.datasets.folders import IMAGE_FORMATS
from harness.terminal import Terminal

MAX_PIXELS = 178_956_970
"""Larger images are taken for decompression bombs, as by Pillow (half a GiB in RGB)."""

PIXELS = ("uint8", "uint16", "float32")
VERSION = f"1 cv2 {cv2.__version__} PIL {PIL.__version__}"
"""What decides how a file decodes: what is remembered of one is remembered under this."""

_ALIASES = {"MPO": "JPEG", "DIB": "BMP"}
_JPEG_END = b"\xff\xd9"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_CHUNK = 256

T = TypeVar("T")
R = TypeVar("R")


class FileFacts(NamedTuple):
    """What is known of one file.

    Attributes:
        digest: SHA-256 of its bytes; empty where it cannot be read.
        height: Rows, after EXIF rotation.
        width: Columns, after EXIF rotation.
        dtype: Of its pixels, one of `PIXELS`.
        pages: Images in the file, of which the first counts.
        mislabelled: How content and extension differ; empty where they do not.
        trouble: Why it cannot be decoded; empty where it can.
    """

    digest: str = ""
    height: int = 0
    width: int = 0
    dtype: str = ""
    pages: int = 1
    mislabelled: str = ""
    trouble: str = ""


class BadImage(Exception):
    """A file that does not hold an image that can be decoded; the message says why."""


def examine(path: Path) -> FileFacts:
    """Read, verify and decode one file, and return what is known of it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return FileFacts(trouble=f"cannot be read: {error.strerror or error}")
    digest = hashlib.sha256(data).hexdigest()
    try:
        kind, pages = _verify(data)
        image = _decode(data)
    except BadImage as error:
        return FileFacts(digest, trouble=str(error))
    claimed = IMAGE_FORMATS.get(path.suffix.lower(), kind)
    wrong = f"its content is {kind}, not {claimed}" if kind and kind != claimed else ""
    height, width = image.shape[:2]
    return FileFacts(digest, height, width, image.dtype.name, pages, wrong)


def read_image(path: Path) -> NDArray[Any]:
    """Return the pixels of one file, ``[H, W, 3]`` RGB of uint8, uint16 or float32.

    Raises:
        BadImage: It cannot be read or decoded.
    """
    try:
        return _decode(path.read_bytes())
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


def _verify(data: bytes) -> tuple[str, int]:
    """Return the format of the content, empty if Pillow does not know it, and its pages.

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
            return kind, getattr(image, "n_frames", 1) if kind in ("TIFF", "GIF") else 1
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


def _tiff_beyond_pillow(data: bytes) -> tuple[str, int]:
    """Return the format of a TIFF whose pixels Pillow cannot hold (three channels of floats)."""
    if data[:4] not in (b"II*\x00", b"MM\x00*"):
        return "", 1
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        stream = io.BytesIO(data)
        stream.seek(directory.next)
        directory.load(stream)
        width, height = (
            int(directory[tag]) for tag in (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH)
        )
    except Exception as error:
        raise BadImage(f"is truncated or damaged: {error}") from None
    _require_sane_size(width, height)
    return "TIFF", 1


def _decode(data: bytes) -> NDArray[Any]:
    if not data:
        raise BadImage("is empty (0 bytes)")
    packed = np.frombuffer(data, np.uint8)
    try:
        image = cv2.imdecode(packed, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if image is None:  # one-channel float TIFF comes in its own channels only
            image = cv2.imdecode(packed, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise BadImage(f"cannot be decoded: {error.err}") from None
    if image is None:
        raise BadImage("is not an image, or is damaged")
    if image.dtype == np.float64:
        image = image.astype(np.float32)
    if image.dtype.name not in PIXELS:
        raise BadImage(f"its pixels are {image.dtype.name} and not one of {', '.join(PIXELS)}")
    if image.dtype == np.float32 and not np.isfinite(image).all():
        raise BadImage("holds pixels that are NaN or infinite")
    to_rgb = cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB
    rgb: NDArray[Any] = cv2.cvtColor(image, to_rgb)
    return rgb


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
