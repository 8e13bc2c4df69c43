"""How image files were read, in words: what is bad, not read as it stands, or scaled."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.complete import complete
from harness.datasets.records import content_of
from harness.errors import DataError, counted, listing

if TYPE_CHECKING:  # OpenCV takes 0.3 s to import, and the list of datasets does without
    from harness.datasets.decode import FileFacts

REMARKS = {
    "transparent": "",  # says on what ground
    "inverted": "{} white as 0 (TIFF, MinIsWhite): black is 0 now, as in other files",
    "lab": "{} L*a*b* (TIFF), turned into sRGB",
    "stacked": "{} three channels called gray (TIFF), which are read as red, green and blue",
    "band": "{} a fourth channel that is not called alpha, and it is left out",
    "first band": "{} two channels, of which the second is not called alpha and is left out",
    "turned": "{} an orientation, by which images are turned upright",
    "levels": "{} a white below 255 (PGM, PPM), and levels are spread over the whole range",
}
"""What may be said of a file, by the word under which it is remembered."""

ANEW = ("transparent", "inverted", "lab", "stacked", "turned", "levels")
"""Remarks on files whose pixels were others before the remark came to be: they are other content,
so that runs on the earlier pixels are not taken for runs on these. All other files keep theirs."""

MUCH = 0.25
"""Share of an image that a centre crop may cut off without a word."""

_DEPTHS = (1023, 4095, 16383, 65535)
"""Largest values of 10, 12, 14 and 16 bits."""


def bad(ids: Sequence[str], facts: "Sequence[FileFacts]") -> list[str]:
    """Return remarks on files that are left out, or not what their extension says."""
    pairs = list(zip(ids, facts, strict=True))
    hopeless = [f"{name} ({found.trouble})" for name, found in pairs if found.trouble]
    mislabelled = [f"{name} ({found.mislabelled})" for name, found in pairs if found.mislabelled]
    notes = []
    if hopeless:
        what = counted(
            len(hopeless), "file cannot be decoded and is", "files cannot be decoded and are"
        )
        notes.append(f"{what} left out: {complete(hopeless)}")
    if mislabelled:
        what = counted(len(mislabelled), "file is not what its", "files are not what their")
        notes.append(f"{what} extension says: {complete(mislabelled)}")
    return notes


def remarks(ids: Sequence[str], facts: "Sequence[FileFacts]", ground: str) -> list[str]:
    """Return remarks on what of the files is not read as it stands.

    Args:
        ids: N names.
        facts: What is known of each.
        ground: The field `alpha` of the dataset.
    """
    named: defaultdict[str, list[str]] = defaultdict(list)
    profiles: list[str] = []
    pages: list[str] = []
    for name, of_file in zip(ids, facts, strict=True):
        for remark in of_file.remarks:
            named[remark].append(name)
        if of_file.profile:
            profiles.append(f"{name} ({of_file.profile})")
        if of_file.pages > 1:
            pages.append(f"{name} ({of_file.pages})")
    notes = [_remark(remark, names, ground) for remark, names in named.items()]
    if profiles:
        what = counted(len(profiles), "file names", "files name")
        notes.append(
            f"{what} a colour profile other than sRGB, and colours are read as stored: "
            f"{listing(profiles, 3)}; convert to sRGB where colour tells classes apart"
        )
    if pages:
        what = counted(len(pages), "file holds", "files hold")
        notes.append(f"{what} several images, of which the first is read: {listing(pages, 5)}")
    return notes


def _remark(remark: str, names: Sequence[str], ground: str) -> str:
    if remark == "transparent":
        what = counted(len(names), "file has", "files have")
        done = (
            "whose colours are taken as if they were opaque (alpha: white lays them on a ground)"
            if ground == "ignore"
            else f"which are laid on {ground} (alpha: white, black or ignore)"
        )
        return f"{what} transparent pixels, {done}: {listing(names, 3)}"
    what = counted(len(names), "file has", "files have")
    return f"{REMARKS[remark].format(what)}: {listing(names, 3)}"


def cropped(ids: Sequence[str], facts: "Sequence[FileFacts]", size: int) -> list[str]:
    """Return a remark where a centre crop cuts much off an image, with the way round it.

    Args:
        ids: N names.
        facts: What is known of each.
        size: Side of the square.
    """
    short = np.array([min(of.height, of.width) for of in facts])
    long = np.array([max(of.height, of.width, 1) for of in facts])
    cut = np.where(short > 0, 1 - short / long, 0.0)  # 0 of what is gone since it was indexed
    much = int((cut > MUCH).sum())
    if not much:
        return []
    worst = int(cut.argmax())
    of_file = facts[worst]
    return [
        f"image_size: {size} keeps the centre square of each image: more than {MUCH:.0%} is cut "
        f"off {much:,} of {counted(len(facts), 'image')}, at most {cut[worst]:.0%} ({ids[worst]}, "
        f"{of_file.height} × {of_file.width}); `resize: squash` keeps all of it, in other "
        "proportions"
    ]


@dataclass(frozen=True)
class Depth:
    """The type that holds every image of a dataset.

    Attributes:
        dtype: uint8, uint16 or float32.
        top: What 255 of an 8-bit image becomes among 16-bit ones.
        notes: What the user should know.
    """

    dtype: np.dtype[Any]
    top: int = 65535
    notes: tuple[str, ...] = ()

    def of(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return an image in this depth."""
        if image.dtype != np.uint8 or self.dtype != np.uint16:
            return image
        return ((image.astype(np.uint32) * self.top + 127) // 255).astype(np.uint16)


def common_depth(ids: Sequence[str], facts: "Sequence[FileFacts]") -> Depth:
    """Return the type that holds every image, with a remark where some are scaled to it.

    Cameras of 10, 12 or 14 bits write files of 16 whose values stop at 1023, 4095 or 16383: among
    these, 8-bit images are scaled to that range, or either would be nearly black to the other.

    Raises:
        DataError: There are floating-point and integer images.
    """
    example: dict[str, str] = {}
    for name, of_file in zip(ids, facts, strict=True):
        example.setdefault(of_file.dtype, name)
    if "float32" in example and len(example) > 1:
        named = listing(f"{name} is {dtype}" for dtype, name in sorted(example.items()))
        raise DataError(f"floating-point and integer images do not go together: {named}")
    if "uint16" not in example:
        return Depth(np.dtype(next(iter(example))))
    wide = [(name, of.top) for name, of in zip(ids, facts, strict=True) if of.dtype == "uint16"]
    notes = _mixed_depths(wide)
    if len(example) == 1:
        return Depth(np.dtype(np.uint16), notes=notes)
    largest = max(top for _, top in wide)
    top = next(depth for depth in _DEPTHS if depth >= largest)
    eight = len(facts) - len(wide)
    told = "" if top == _DEPTHS[-1] else f" and none holds a value above {top:,}"
    by = "by 257 to the 16-bit range" if top == _DEPTHS[-1] else f"to 0–{top:,}"
    note = (
        f"{eight} of {len(facts)} images {'has' if eight == 1 else 'have'} 8 bits and the others "
        f"16{told}: those with 8, such as {example['uint8']}, are scaled {by}"
    )
    return Depth(np.dtype(np.uint16), top, (note, *notes))


def _mixed_depths(wide: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    """Return a remark where 16-bit files look like 12 bits beside others that use all 16."""
    low = [name for name, top in wide if 0 < top <= _DEPTHS[1]]
    high = [name for name, top in wide if top > _DEPTHS[2]]
    if not low or not high or len(low) + len(high) < len(wide):
        return ()
    what = counted(len(low), "16-bit file holds", "16-bit files hold")
    return (
        f"{what} no value above {_DEPTHS[1]:,}, as of a camera of 12 bits, and the others do: they "
        f"are read as stored, and so nearly black beside these: {listing(low, 3)}; if they are not "
        "dark, multiply their values by 16",
    )


def content(plain: str, facts: "Sequence[FileFacts]", depth: Depth) -> str:
    """Return the fingerprint of files that were once read otherwise, or `plain`."""
    anew = [[word for word in of_file.remarks if word in ANEW] for of_file in facts]
    if any(anew):
        plain = content_of(plain, "read anew", anew)
    return plain if depth.top == 65535 else content_of(plain, "255 becomes", depth.top)
