"""Every way in which a format may store a picture is read right, or told of.

What is right comes from the pixels that were written, not from another reader.
"""

import io
import itertools
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from harness import cache
from harness.datasets import decode, pixels
from harness.datasets.base import forget
from harness.datasets.image_folder import ImageFolder
from harness.datasets.picture import BadImage, Picture, turned
from harness.errors import BadFilesError
from tests.datasets import rasters
from tests.datasets.rasters import png, tiff

HEIGHT, WIDTH = 6, 9
RAMP = np.linspace(0, 1, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1)
COLOURS = np.concatenate([RAMP, RAMP[::-1], np.abs(RAMP - 0.5) * 2], axis=-1)
OPACITY = np.tile(np.linspace(0, 1, WIDTH)[:, None], (HEIGHT, 1, 1))
TURNS = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    forget()


@pytest.fixture(autouse=True)
def quiet():
    with decode._quiet():
        yield


def stored(shares, bits):
    """Return shares of full intensity as levels of a number of bits."""
    return np.rint(shares * (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)


def seen(levels, bits):
    """Return levels as they should come out: over all 8 bits, or on top of 16."""
    if bits < 8:
        levels = levels.astype(np.int64) * 255 // (2**bits - 1)
    elif bits > 8:
        levels = levels.astype(np.int64) << (16 - bits)
    wide = np.broadcast_to(levels, (*levels.shape[:2], 3))
    return wide.astype(np.uint8 if bits <= 8 else np.uint16)


def over(colours, alpha, ground, top):
    """Return colours of an opacity on a ground."""
    shares = alpha.astype(np.float64) / top
    return colours * shares + ground * top * (1 - shares)


def check(data, expected, *remarks, within=0, ground="white"):
    found = pixels.read(data, ground)
    assert found.remarks == remarks
    assert found.colours.dtype == expected.dtype or within
    assert found.colours.shape == expected.shape
    difference = np.abs(found.colours.astype(np.float64) - expected)
    assert difference.max() <= within


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif.tobytes()


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


# PNG


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("colour", "bits"),
    [
        *itertools.product([rasters.GRAY], [1, 2, 4, 8, 16]),
        *itertools.product([rasters.RGB, rasters.GRAY_ALPHA, rasters.RGBA], [8, 16]),
    ],
)
def test_png_of_every_colour_type_and_depth(colour, bits, interlaced):
    shown = stored(RAMP if colour in (rasters.GRAY, rasters.GRAY_ALPHA) else COLOURS, bits)
    if colour not in (rasters.GRAY_ALPHA, rasters.RGBA):
        check(png(shown, colour, bits, interlaced=interlaced), seen(shown, bits))
        return
    alpha, top = stored(OPACITY, bits), 2**bits - 1
    data = png(np.concatenate([shown, alpha], -1), colour, bits, interlaced=interlaced)
    for name, ground in (("white", 1), ("black", 0)):
        laid = over(seen(shown, bits), alpha, ground, top).astype(shown.dtype)
        check(data, laid, "transparent", within=1, ground=name)
    check(data, seen(shown, bits), "transparent", ground="ignore")
    opaque = np.concatenate([shown, np.full_like(alpha, top)], -1)
    check(png(opaque, colour, bits, interlaced=interlaced), seen(shown, bits))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_png_with_a_palette(bits, transparent):
    indices = stored(RAMP, bits)
    palette = np.random.default_rng(bits).integers(0, 256, (2**bits, 3), np.uint8)
    chunks = [(b"PLTE", palette.tobytes())]
    expected = palette[indices[..., 0]]
    if transparent:
        chunks.append((b"tRNS", b"\x00"))
        expected = np.where(indices == 0, np.uint8(255), expected)
    remarks = ("transparent",) if transparent else ()
    check(png(indices, rasters.PALETTE, bits, chunks), expected, *remarks)


@pytest.mark.parametrize(
    ("colour", "bits"),
    [*itertools.product([rasters.GRAY], [1, 2, 4, 8, 16]), (rasters.RGB, 8), (rasters.RGB, 16)],
)
def test_png_with_one_transparent_colour(colour, bits):
    levels = stored(RAMP if colour == rasters.GRAY else COLOURS, bits)
    key = levels[0, 0]
    data = png(levels, colour, bits, [(b"tRNS", key.astype(">u2").tobytes())])
    white = 255 if bits <= 8 else 65535
    hit = (levels == key).all(-1, keepdims=True)
    expected = np.where(hit, white, seen(levels, bits)).astype(seen(levels, bits).dtype)
    check(data, expected, "transparent")


# Orientation


@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientation_in_every_format_that_carries_it(orientation):
    smooth = np.zeros((32, 48, 3), np.uint8)
    smooth[:16, :16], smooth[16:, :16], smooth[:16, 16:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    upright = np.ascontiguousarray(TURNS[orientation](smooth))
    exif = exif_of(orientation)
    bare = exif.removeprefix(b"Exif\0\0")
    check(png(smooth, rasters.RGB, 8, [(b"eXIf", bare)]), upright)
    late = png(smooth, rasters.RGB)
    late = late[:-12] + rasters.chunk(b"eXIf", bare) + late[-12:]
    check(late, upright)
    check(encoded(smooth, "WEBP", lossless=True, exif=exif), upright)
    check(tiff(smooth, rasters.TIFF_RGB, orientation=orientation), upright)
    # within 16: chroma is subsampled, or the transform inexact
    check(encoded(smooth, "JPEG", quality=95, subsampling=0, exif=exif), upright, within=16)
    progressive = encoded(smooth, "JPEG", quality=95, subsampling=0, exif=exif, progressive=True)
    check(progressive, upright, within=16)
    avif = encoded(smooth, "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    check(avif, upright, "turned", within=16)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize(("kind", "bits"), [("png", 16), ("tiff", 12), ("tiff", 16), ("tiff", 8)])
def test_orientation_of_deep_and_transparent_files(orientation, kind, bits):
    levels = np.concatenate([stored(COLOURS, bits), stored(OPACITY, bits)], -1)
    shifted = levels.astype(np.int64) << (16 - bits if bits > 8 else 0)
    top = int(shifted.max())
    laid = over(shifted[..., :3], shifted[..., 3:], 1, top).astype(levels.dtype)
    if kind == "png":
        chunks = [(b"eXIf", exif_of(orientation).removeprefix(b"Exif\0\0"))]
        data = png(levels, rasters.RGBA, bits, chunks)
    else:
        data = tiff(levels, rasters.TIFF_RGB, bits, orientation=orientation, extra=(2,))
    check(data, TURNS[orientation](laid), "transparent", within=1)


def test_turning_turns_opacity_too():
    colours, alpha = np.arange(18).reshape(2, 3, 3), np.arange(6).reshape(2, 3)
    for orientation, turn in TURNS.items():
        found = turned(Picture(colours, alpha), orientation)
        np.testing.assert_array_equal(found.colours, turn(colours))
        np.testing.assert_array_equal(found.alpha, turn(alpha))


# TIFF


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 14, 16])
def test_tiff_gray_whichever_end_is_white(bits, order):
    levels = stored(RAMP, bits)
    check(tiff(levels, rasters.MIN_IS_BLACK, bits, order), seen(levels, bits))
    remarks = ("inverted",) if bits > 8 else ()  # below, it was always heeded
    inverse = seen(2**bits - 1 - levels, bits)
    check(tiff(levels, rasters.MIN_IS_WHITE, bits, order), inverse, *remarks)


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_rgb(bits, order, planar):
    levels = stored(COLOURS, bits)
    data = tiff(levels, rasters.TIFF_RGB, bits, order, planar)
    if planar == 2 and bits > 8:
        with pytest.raises(BadImage, match="one after the other"):
            pixels.read(data)
    else:
        check(data, seen(levels, bits))


@pytest.mark.parametrize("photometric", [rasters.TIFF_RGB, rasters.MIN_IS_BLACK])
@pytest.mark.parametrize("kind", [None, 0, 1, 2])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_tiff_of_four_channels(bits, kind, photometric):
    stacked = photometric == rasters.MIN_IS_BLACK
    top = (2**bits - 1) << (16 - bits if bits > 8 else 0)
    colours, alpha = COLOURS * OPACITY if kind == 1 else COLOURS, OPACITY
    levels = stored(np.concatenate([colours, alpha], -1), bits)
    extra = () if kind is None else (0, 0, kind) if stacked else (kind,)
    data = tiff(levels, photometric, bits, extra=extra)
    out = seen(levels[..., :3], bits)
    how = ("stacked",) if stacked and bits == 8 else ()
    if not kind:
        check(data, out, "band", *how)
        return
    opacity = levels[..., 3:].astype(np.int64) << (16 - bits if bits > 8 else 0)
    laid = out + (top - opacity) * 1.0 if kind == 1 else over(out, opacity, 1, top)
    check(data, laid.astype(out.dtype), *how, "transparent", within=1)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", [rasters.MIN_IS_BLACK, rasters.MIN_IS_WHITE])
def test_tiff_of_three_channels_called_gray_is_rgb(bits, photometric):
    levels = stored(COLOURS, bits)
    data = tiff(levels, photometric, bits, extra=(0, 0))
    how = ("stacked",) if bits == 8 else ()
    if photometric == rasters.MIN_IS_BLACK:
        check(data, levels, *how)
    else:
        check(data, 2**bits - 1 - levels, *how, "inverted")


def test_tiff_of_gray_and_another_channel():
    both = stored(np.concatenate([RAMP, OPACITY], -1), 8)
    gray = seen(both[..., :1], 8)
    check(tiff(both, rasters.MIN_IS_BLACK, extra=(0,)), gray, "first band")
    laid = over(gray, both[..., 1:], 1, 255).astype(np.uint8)
    check(tiff(both, rasters.MIN_IS_BLACK, extra=(2,)), laid, "transparent", within=1)
    with pytest.raises(BadImage, match="2 channels of 16 bits"):
        pixels.read(tiff(stored(both / 255, 16), rasters.MIN_IS_BLACK, extra=(2,)))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("samples", [5, 7, 12])
@pytest.mark.parametrize("photometric", [rasters.TIFF_RGB, rasters.MIN_IS_BLACK])
def test_more_channels_than_an_image_has_are_counted(bits, samples, photometric):
    levels = np.repeat(stored(RAMP, bits), samples, axis=-1)
    colours = 3 if photometric == rasters.TIFF_RGB else 1
    with pytest.raises(BadImage, match=f"has {samples} channels"):
        pixels.read(tiff(levels, photometric, extra=(0,) * (samples - colours)))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_tiff_with_a_palette(bits):
    indices = stored(RAMP, bits)
    palette = np.random.default_rng(bits).integers(0, 256, (3, 2**bits)) * 257
    data = tiff(indices, rasters.TIFF_PALETTE, bits, tags={320: (3, palette.ravel().tolist())})
    check(data, (palette.T[indices[..., 0]] // 257).astype(np.uint8))


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_of_four_inks(bits, planar):
    inks = stored(np.concatenate([COLOURS, RAMP[:, ::-1] / 2], -1), bits)
    data = tiff(inks, rasters.CMYK, bits, planar=planar)
    if (bits, planar) == (16, 2):
        with pytest.raises(BadImage, match="one after the other"):
            pixels.read(data)
        return
    bare = 2**bits - 1 - inks.astype(np.float64)
    shown = (bare[..., :3] * bare[..., 3:] / (2**bits - 1)).astype(inks.dtype)
    check(data, shown, within=1)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", [rasters.CIELAB, rasters.ICCLAB])
def test_tiff_in_lab(bits, photometric):
    # white, mid gray, and the Lab of sRGB red (Lindbloom's calculator): 53.24, 80.09, 67.20
    lab = np.array([[[100.0, 0, 0], [53.585, 0, 0], [53.24, 80.09, 67.2]]])
    unit = 256 if bits == 16 else 1
    light = lab[..., :1] * (0xFF00 if photometric == rasters.ICCLAB and bits == 16 else 2**bits - 1)
    opponents = lab[..., 1:] * unit
    if photometric == rasters.ICCLAB:
        opponents = opponents + 128 * unit
    whole = np.rint(np.concatenate([light / 100, opponents], -1)).astype(np.int64)
    data = tiff((whole % 2**bits).astype(f"u{bits // 8}"), photometric, bits)
    expected = np.array([[[255, 255, 255], [128, 128, 128], [255, 0, 0]]]) * (
        257 if unit > 1 else 1
    )
    check(data, expected.astype(f"u{bits // 8}"), "lab", within=3 * unit)


def test_tiff_in_ycbcr():
    gray = np.full((4, 4, 3), 128, np.uint8)
    gray[..., 0] = 77
    tags = {530: (3, (1, 1))}
    check(tiff(gray, rasters.YCBCR, tags=tags), np.full((4, 4, 3), 77, np.uint8), within=1)
    with pytest.raises(BadImage, match="16 bits in YCbCr"):
        pixels.read(tiff(gray.astype(np.uint16), rasters.YCBCR, tags=tags))


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_tiff_of_floats(dtype, samples):
    values = (COLOURS[..., :samples] * 7 - 2).astype(dtype)
    expected = np.broadcast_to(values, COLOURS.shape).astype(np.float32)
    plain = rasters.MIN_IS_BLACK if samples == 1 else rasters.TIFF_RGB
    check(tiff(values, plain), expected)
    if samples == 1:
        check(tiff(values, rasters.MIN_IS_WHITE), -expected, "inverted")


@pytest.mark.parametrize(
    ("pixels_", "options", "reason"),
    [
        (COLOURS.astype("f2"), {"photometric": 2}, "float16"),
        (RAMP.astype("i1"), {"photometric": 1}, "int8"),
        (RAMP.astype("i2"), {"photometric": 1}, "int16"),
        (RAMP.astype("u4"), {"photometric": 1}, "uint32"),
        (COLOURS.astype("f4"), {"photometric": 2, "planar": 2}, "one after the other"),
        (np.tile(RAMP, 4).astype("f4"), {"photometric": 2, "extra": (2,)}, "4 channels of float"),
        (RAMP.astype("u2"), {"photometric": 32803}, "32803 .colour filter array"),
        (COLOURS.astype("u2"), {"photometric": 32845}, "LogLuv"),
        (stored(RAMP, 1), {"photometric": 4, "bits": 1}, "transparency mask"),
        (stored(COLOURS, 4), {"photometric": 2, "bits": 4}, "3 channels of 4 bits"),
        (RAMP.astype("u2"), {"photometric": 3}, "palette"),
    ],
)
def test_what_of_tiff_is_not_read_is_named(pixels_, options, reason):
    with pytest.raises(BadImage, match=reason):
        pixels.read(tiff(pixels_, **options))


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
@pytest.mark.parametrize(("bits", "photometric"), [(10, 2), (16, 2), (16, 0), (8, 8)])
def test_a_tiff_that_ends_early_is_damaged(tmp_path, kept, bits, photometric):
    samples = COLOURS if photometric else RAMP
    whole = tiff(stored(samples, bits), photometric, bits)
    (tmp_path / "a.tif").write_bytes(whole[: int(kept * len(whole))])
    assert "damaged" in decode.examine(tmp_path / "a.tif").trouble


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
@pytest.mark.parametrize(
    ("shape", "photometric", "extra"),
    [
        ((8, 9), "minisblack", None),
        ((8, 9), "miniswhite", None),
        ((8, 9, 3), "rgb", None),
        ((8, 9, 4), "rgb", ["unassalpha"]),
        ((8, 9, 3), "minisblack", None),
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_tiff_as_tifffile_reads_it(shape, photometric, extra, dtype, compression):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    if compression in ("lzw", "packbits"):
        pytest.importorskip("imagecodecs", reason="tifffile compresses so by imagecodecs")
    top = np.iinfo(dtype).max
    values = np.random.default_rng(0).integers(0, top, shape, dtype, endpoint=True)
    if extra:
        values[..., 3] = top
    file = io.BytesIO()
    options = {"planarconfig": "contig"} if len(shape) == 3 else {}
    tifffile.imwrite(
        file,
        values,
        photometric=photometric,
        extrasamples=extra,
        compression=compression,
        **options,
    )
    read = tifffile.imread(io.BytesIO(file.getvalue()))
    read = top - read if photometric == "miniswhite" else read
    expected = np.broadcast_to(read[..., :3] if read.ndim == 3 else read[..., None], (8, 9, 3))
    np.testing.assert_array_equal(pixels.read(file.getvalue()).colours, expected)


# Other formats


@pytest.mark.parametrize(
    ("kind", "options", "within"),
    [
        ("WEBP", {"lossless": True, "exact": True}, 1),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 4),
        ("JPEG2000", {}, 1),
        ("PNG", {}, 1),
        ("TIFF", {}, 1),
        ("TIFF", {"compression": "tiff_lzw"}, 1),
        ("GIF", {}, 12),
    ],
)
@pytest.mark.parametrize("gray", [False, True])
def test_transparent_pixels_lie_on_white(kind, options, within, gray):
    levels = stored(RAMP if gray else COLOURS, 8)
    alpha = np.where(OPACITY < 0.5, np.uint8(0), np.uint8(255))  # all that a GIF knows
    data = encoded(np.concatenate([levels, alpha], -1), kind, **options)
    if kind == "GIF" and gray:
        return  # Pillow writes none
    laid = over(seen(levels, 8), alpha, 1, 255).astype(np.uint8)
    check(data, laid, "transparent", within=within)


def bitmap(pixels_, masks):
    """Return a 32-bit BMP, with the masks of its four channels or none."""
    body = pixels_[::-1].tobytes()
    size = 108 if masks else 40
    header = struct.pack(
        "<IiiHHIIiiII", size, WIDTH, HEIGHT, 1, 32, 3 if masks else 0, len(body), 0, 0, 0, 0
    )
    if masks:
        header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 14 + size + len(body), 0, 0, 14 + size) + header + body


def test_a_bitmap_is_transparent_where_it_says_so():
    colours, alpha = stored(COLOURS, 8), stored(OPACITY, 8)
    content = np.concatenate([colours[..., ::-1], alpha], -1)
    laid = over(colours, alpha, 1, 255).astype(np.uint8)
    check(bitmap(content, masks=True), laid, "transparent", within=1)
    check(bitmap(content, masks=False), colours)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])  # Pillow inverts inks as Adobe does
def test_jpeg_of_every_mode(mode, progressive):
    smooth = Image.fromarray(stored(COLOURS, 8)).resize((72, 48), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image = smooth.convert(mode)
    image.save(buffer, "JPEG", quality=98, subsampling=0, progressive=progressive)
    check(buffer.getvalue(), np.asarray(image.convert("RGB")), within=6)


@pytest.mark.parametrize(("white", "dtype"), [(100, "u1"), (255, "u1"), (4095, ">u2")])
def test_pgm_says_what_white_is(white, dtype):
    levels = np.array([[white, white // 2, 0]])
    data = b"P5\n# made by hand\n3 1\n%d\n" % white + levels.astype(dtype).tobytes()
    expected = levels if white > 255 else np.rint(levels * 255 / white)
    wide = np.repeat(expected[..., None], 3, -1).astype(np.uint16 if white > 255 else np.uint8)
    check(data, wide, *(("levels",) if white < 255 else ()), within=1)
    assert pixels.read(data).top == max(white, 255)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_a_file_of_several_images_is_told_of(tmp_path, kind):
    frames = [Image.new("RGB", (9, 6), (value,) * 3) for value in (10, 100, 200)]
    path = tmp_path / f"a.{kind.lower()}"
    frames[0].save(path, kind, save_all=True, append_images=frames[1:])
    facts = decode.examine(path)
    assert (facts.trouble, facts.pages) == ("", 3)
    assert np.abs(decode.read_image(path).astype(int) - 10).max() <= 2


# A dataset of such files


def folder(tmp_path, *contents):
    """Return a dataset of two classes that hold these files in turn, five of each."""
    for k in range(5):
        for number, (suffix, data) in enumerate(contents):
            place = tmp_path / "set" / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}-{k}{suffix}").write_bytes(data)
    return ImageFolder(path=tmp_path / "set", image_size=8)


def test_a_shape_that_is_only_in_alpha_is_seen(tmp_path):
    shape = np.zeros((8, 8, 4), np.uint8)
    shape[2:6, 2:6, 3] = 255
    solid = png(stored(COLOURS, 8), rasters.RGB)
    source = folder(tmp_path, (".png", png(shape, rasters.RGBA)), (".png", solid))
    index = source.index()
    (remark,) = index.warnings
    assert "5 files have transparent pixels, which are laid on white" in remark
    image = source.read(index)[0]
    assert image[3, 3].max() == 0
    assert image[0, 0].min() == 255
    black = source.model_copy(update={"alpha": "black"})
    assert black.read(black.index())[0].max() == 0
    assert black.identity() != source.identity()
    assert (
        "as if they were opaque"
        in source.model_copy(update={"alpha": "ignore"}).index().warnings[0]
    )


def test_only_what_is_read_anew_is_other_content(tmp_path, monkeypatch):
    plain = folder(tmp_path / "plain", *[(".png", png(stored(COLOURS, 8), rasters.RGB))] * 2)
    levels = stored(RAMP, 16)
    anew = folder(tmp_path / "anew", *[(".tif", tiff(levels, rasters.MIN_IS_WHITE))] * 2)
    now = plain.index().content, anew.index().content
    monkeypatch.setattr("harness.datasets.readings.ANEW", ())
    assert plain.index().content == now[0]
    assert anew.index().content != now[1]


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_eight_bits_among_the_levels_of_a_camera(tmp_path, bits):
    top = 2**bits - 1
    camera = np.tile(np.array([[[0], [top]]], np.uint16), (4, 2, 1))
    eight = np.tile(np.array([[[0], [255]]], np.uint8), (4, 2, 1))
    files = (".png", png(camera, rasters.GRAY, 16)), (".png", png(eight, rasters.GRAY))
    source = folder(tmp_path, *files).model_copy(update={"image_size": 4})
    index = source.index()
    assert f"none holds a value above {top:,}" in index.warnings[0]
    assert f"scaled to 0–{top:,}" in index.warnings[0]
    images = source.read(index)
    assert images.dtype == np.uint16
    assert (images == images[0]).all()
    assert images.max() == top


def test_levels_of_a_camera_among_full_16_bits_are_told_of(tmp_path):
    files = [
        (".png", png(np.full((4, 4, 1), value, np.uint16), rasters.GRAY, 16))
        for value in (4000, 60000)
    ]
    assert "nearly black" in folder(tmp_path, *files).index().warnings[0]


def test_another_colour_profile_is_told_of(tmp_path):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    colours = stored(COLOURS, 8)
    same = encoded(colours, "PNG", icc_profile=srgb)
    assert folder(tmp_path / "same", (".png", same), (".png", same)).index().warnings == ()
    # the same profile with red and green exchanged: red looks green
    swapped = srgb.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    other = encoded(colours, "PNG", icc_profile=swapped)
    (remark,) = folder(tmp_path / "other", (".png", other), (".png", same)).index().warnings
    assert "5 files name a colour profile other than sRGB" in remark
    broken = encoded(colours, "PNG", icc_profile=lab[:100])
    assert folder(tmp_path / "broken", (".png", broken), (".png", same)).index().warnings == ()


def test_too_many_channels_are_named_with_the_file(tmp_path):
    bands = tiff(np.repeat(stored(RAMP, 8), 6, -1), rasters.TIFF_RGB, extra=(0, 0, 0))
    source = folder(tmp_path, (".tif", bands), (".png", png(stored(RAMP, 8), rasters.GRAY)))
    with pytest.raises(BadFilesError, match=r"0-0\.tif: has 6 channels"):
        source.index()
