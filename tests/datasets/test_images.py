import io
import os
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from harness import cache
from harness.datasets import complete, decode
from harness.datasets.base import forget
from harness.datasets.images import ImageFiles, class_folders, class_source
from harness.datasets.picture import PIXELS, BadImage
from harness.errors import BadFilesError, DataError

RNG = np.random.default_rng(0)
PICTURE = cv2.resize(
    RNG.integers(0, 256, (6, 7, 3), dtype=np.uint8), (45, 40), interpolation=cv2.INTER_CUBIC
)


class Pictures(ImageFiles):
    """Class folders, as the plainest dataset of files."""

    root: Path

    def source(self):
        return class_source(self.root)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    forget()
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for k in range(3):
            image = RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)
            write(tmp_path / "set" / name / f"{k}.png", image)
    return tmp_path / "set"


def write(path, image):
    """Write RGB, gray or float pixels in the format of the extension."""
    swapped = image[..., ::-1] if image.ndim == 3 and image.shape[-1] == 3 else image
    path.write_bytes(cv2.imencode(path.suffix, np.ascontiguousarray(swapped))[1].tobytes())


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def file_of(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def pillow_rgb(path):
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


# One file: what it holds


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_t21_every_png_mode_becomes_rgb(tmp_path, mode):
    path = file_of(tmp_path, "a.png", encoded(Image.fromarray(PICTURE).convert(mode), "PNG"))
    np.testing.assert_array_equal(decode.read_image(path), pillow_rgb(path))


def test_t21_transparency_of_a_palette_shows_the_ground(tmp_path):
    palette = Image.fromarray(PICTURE).convert("P")
    path = file_of(tmp_path, "a.png", encoded(palette, "PNG", transparency=3))
    expected = np.array(palette.convert("RGB"))
    np.testing.assert_array_equal(decode.read_image(path, "ignore"), expected)
    expected[np.asarray(palette) == 3] = 255
    np.testing.assert_array_equal(decode.read_image(path), expected)


def test_t21_cmyk_jpeg_becomes_rgb(tmp_path):
    path = file_of(tmp_path, "a.jpg", encoded(Image.fromarray(PICTURE).convert("CMYK"), "JPEG"))
    difference = np.abs(decode.read_image(path).astype(int) - pillow_rgb(path))
    assert difference.max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_t21_exif_rotation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    path = file_of(tmp_path, "a.jpg", encoded(Image.fromarray(PICTURE), "JPEG", exif=exif))
    expected = pillow_rgb(path)
    found = decode.read_image(path)
    assert found.shape == expected.shape == ((40, 45, 3) if orientation < 5 else (45, 40, 3))
    assert np.abs(found.astype(int) - expected).max() <= 2
    facts = decode.examine(path)
    assert (facts.height, facts.width) == expected.shape[:2]


def test_t21_twelve_bit_levels_in_a_16_bit_file_stay(tmp_path):
    levels = RNG.integers(0, 4096, (8, 9), dtype=np.uint16)
    write(tmp_path / "a.png", levels)
    found = decode.read_image(tmp_path / "a.png")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, np.stack([levels] * 3, axis=-1))
    assert decode.examine(tmp_path / "a.png").dtype == "uint16"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_t21_float_tiff_keeps_its_values(tmp_path, channels, dtype):
    values = (RNG.random((8, 9, channels)) * 1000 - 500).astype(dtype)
    write(tmp_path / "a.tif", values)
    found = decode.read_image(tmp_path / "a.tif")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.broadcast_to(values, (8, 9, 3)).astype(np.float32))
    assert decode.examine(tmp_path / "a.tif").trouble == ""


@pytest.mark.parametrize("name", ["grün.png", "猫 и собака.png", "a b.png"])
def test_t21_names_beyond_ascii(tmp_path, name):
    write(tmp_path / name, PICTURE)
    np.testing.assert_array_equal(decode.read_image(tmp_path / name), PICTURE)


def test_one_pixel_is_an_image(tmp_path):
    write(tmp_path / "a.png", np.array([[[1, 2, 3]]], np.uint8))
    facts = decode.examine(tmp_path / "a.png")
    assert (facts.height, facts.width, facts.trouble) == (1, 1, "")
    image = decode.read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(
        decode.fit(image, 4, "keep", False), np.full((4, 4, 3), [1, 2, 3])
    )


# One file: what is wrong with it


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "PPM"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_t21_truncated_files_are_found(tmp_path, kind, share):
    whole = encoded(Image.fromarray(PICTURE), kind)
    path = file_of(tmp_path, "a.bin", whole[: int(len(whole) * share)])
    trouble = decode.examine(path).trouble
    assert trouble if share < 0.5 else "truncated" in trouble
    assert decode.examine(file_of(tmp_path, "b.bin", whole)).trouble == ""


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_t21_a_file_whose_end_was_never_written_is_found(tmp_path, kind):
    whole = encoded(Image.fromarray(PICTURE), kind)
    half = whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)
    assert decode.examine(file_of(tmp_path, "a.bin", half)).trouble


def test_t21_a_png_damaged_in_the_middle_is_found(tmp_path):
    content = bytearray(encoded(Image.fromarray(PICTURE), "PNG"))
    for at in range(len(content) // 2, len(content) // 2 + 30):
        content[at] ^= 0x5A
    assert "damaged" in decode.examine(file_of(tmp_path, "a.png", bytes(content))).trouble


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jpg", b"", "empty"),
        ("a.jpg", b"<html>404 not found</html>", "not an image"),
        ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        ("a.jpg", b"\xff\xd8\xff\xe0", "damaged"),
        ("a.tif", b"II*\x00\x08\x00\x00\x00", "damaged"),
    ],
)
def test_t21_what_is_no_image_is_found(tmp_path, name, content, reason):
    assert reason in decode.examine(file_of(tmp_path, name, content)).trouble


def test_t21_a_file_that_cannot_be_read_is_found(tmp_path):
    assert "cannot be read" in decode.examine(tmp_path / "absent.png").trouble
    with pytest.raises(BadImage, match="cannot be read"):
        decode.read_image(tmp_path / "absent.png")


def png_header(width, height):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + decode._PNG_END


@pytest.mark.parametrize("side", [14_000, 60_000])
def test_t21_a_decompression_bomb_is_not_decoded(tmp_path, monkeypatch, side):
    monkeypatch.setattr(decode.pixels, "read", lambda data: pytest.fail("decoded"))
    with decode._quiet():
        facts = decode.examine(file_of(tmp_path, "a.png", png_header(side, side)))
    assert "pixels" in facts.trouble


def test_t21_a_bomb_that_pillow_does_not_open_is_not_decoded(tmp_path, monkeypatch):
    write(tmp_path / "a.tif", np.zeros((20, 30, 3), np.float32))
    assert decode.examine(tmp_path / "a.tif").trouble == ""
    monkeypatch.setattr(decode, "MAX_PIXELS", 599)
    assert "30 × 20 pixels" in decode.examine(tmp_path / "a.tif").trouble


def test_t21_pixel_types_without_a_meaning_are_named(tmp_path):
    write(tmp_path / "a.tif", np.zeros((4, 4), np.int32))
    assert "int32" in decode.examine(tmp_path / "a.tif").trouble
    write(tmp_path / "b.tif", np.full((4, 4), np.nan, np.float32))
    assert "NaN" in decode.examine(tmp_path / "b.tif").trouble


def test_t21_an_extension_that_lies_is_found(tmp_path):
    content = encoded(Image.fromarray(PICTURE), "PNG")
    facts = decode.examine(file_of(tmp_path, "a.jpg", content))
    assert facts.mislabelled == "its content is PNG, not JPEG"
    assert facts.trouble == ""
    assert decode.examine(file_of(tmp_path, "a.PNG", content)).mislabelled == ""
    assert decode.examine(file_of(tmp_path, "a", content)).mislabelled == ""


@settings(max_examples=60)
@given(st.data())
def test_t21_no_damage_escapes_as_another_exception(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP"]))
    content = bytearray(encoded(Image.fromarray(PICTURE[:9, :9]), kind))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = file_of(tmp_path_factory.mktemp("damage"), "a.png", bytes(content))
    with decode._quiet():
        facts = decode.examine(path)
    assert facts.trouble or facts.dtype in PIXELS


# One image: the form asked for


def test_keep_takes_the_mean_of_each_area_and_the_centre():
    image = RNG.integers(0, 256, (8, 16, 3), dtype=np.uint8)
    blocks = image.reshape(4, 2, 8, 2, 3).mean(axis=(1, 3))
    found = decode.fit(image, 4, "keep", False)
    assert np.abs(found - blocks[:, 2:6]).max() <= 0.5


def test_squash_takes_the_mean_of_each_area():
    image = RNG.integers(0, 65536, (8, 16, 3), dtype=np.uint16)
    blocks = image.reshape(4, 2, 4, 4, 3).mean(axis=(1, 3))
    found = decode.fit(image, 4, "squash", False)
    assert np.abs(found - blocks).max() <= 0.5


def test_a_larger_size_is_interpolated_linearly():
    image = RNG.random((5, 5, 3)).astype(np.float32)
    expected = cv2.resize(image, (11, 11), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(decode.fit(image, 11, "keep", False), expected)


def test_squash_shrinks_one_axis_by_area_while_it_enlarges_the_other():
    image = np.zeros((2, 64, 3), np.float32)
    image[:, ::8] = 8.0  # a comb that linear sampling would hit or miss
    np.testing.assert_allclose(decode.fit(image, 8, "squash", False), 1.0)


@settings(max_examples=60)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 24),
    st.sampled_from(["keep", "squash"]),
    st.booleans(),
    st.sampled_from(PIXELS),
)
def test_a_size_is_always_met_in_the_own_dtype(height, width, size, resize, gray, dtype):
    image = np.full((height, width, 3), 200, dtype)
    found = decode.fit(image, size, resize, gray)
    assert found.shape == (size, size, 1 if gray else 3)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, 200, rtol=1e-5)


def test_the_own_size_is_left_alone():
    np.testing.assert_array_equal(decode.fit(PICTURE, None, "keep", False), PICTURE)
    square = PICTURE[:30, :30]
    np.testing.assert_array_equal(decode.fit(square, 30, "keep", False), square)


def test_gray_levels_survive_the_way_over_rgb(tmp_path):
    levels = RNG.integers(0, 65536, (8, 9), dtype=np.uint16)
    write(tmp_path / "a.png", levels)
    found = decode.fit(decode.read_image(tmp_path / "a.png"), None, "keep", True)
    np.testing.assert_array_equal(found, levels[..., None])


# A dataset


def test_images_are_read_in_the_order_of_the_index(root):
    source = Pictures(root=root)
    index = source.index()
    assert index.ids[:2] == ["cat/0.png", "cat/1.png"]
    assert index.shape == (9, 12, 3)
    images = source.read(index)
    for image, path in zip(images, index.files, strict=True):
        np.testing.assert_array_equal(image, pillow_rgb(path))


def test_the_second_index_opens_no_file(root, monkeypatch):
    first = Pictures(root=root).index()
    monkeypatch.setattr(decode, "examine", lambda path: pytest.fail(f"opened {path}"))
    second = Pictures(root=root).index()
    assert second.content == first.content
    assert list(second.digests) == list(first.digests)


def test_a_changed_file_is_looked_at_again(root):
    first = Pictures(root=root).index()
    path = root / "cat" / "0.png"
    write(path, RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    os.utime(path, ns=(1, 1))
    second = Pictures(root=root).index()
    assert second.digests[0] != first.digests[0]
    assert second.digests[1:] == first.digests[1:]
    assert second.content != first.content


def test_the_second_read_decodes_nothing(root, monkeypatch):
    source = Pictures(root=root)
    index = source.index()
    first = source.read(index)
    monkeypatch.setattr(decode, "read_image", lambda path: pytest.fail(f"decoded {path}"))
    np.testing.assert_array_equal(source.read(index), first)


def test_each_geometry_has_its_own_cache(root):
    variants = [{}, {"grayscale": True}, {"image_size": 6}, {"image_size": 6, "resize": "squash"}]
    for fields in (*variants, *variants):
        source = Pictures(root=root, **fields)
        index = source.index()
        expected = decode.fit(
            decode.read_image(index.files[3]), source.image_size, source.resize, source.grayscale
        )
        np.testing.assert_array_equal(source.read(index)[3], expected)
        assert index.shape == expected.shape


def test_a_torn_cache_is_read_again(root, cache_folder):
    source = Pictures(root=root)
    index = source.index()
    expected = np.array(source.read(index))
    (file,) = (cache_folder / "arrays").iterdir()
    os.truncate(file, 200)
    np.testing.assert_array_equal(source.read(index), expected)


@pytest.mark.parametrize("how", ["rewritten", "deleted"])
def test_a_file_that_changes_after_the_index_is_named(root, how):
    source = Pictures(root=root)
    index = source.index()
    if how == "deleted":
        (root / "dog" / "1.png").unlink()
    else:
        write(root / "dog" / "1.png", np.zeros((9, 12, 3), np.uint8))
    with pytest.raises(DataError, match=r"1\.png changed"):
        source.read(index)


def test_a_file_that_breaks_while_it_is_read_is_named(root, monkeypatch):
    source = Pictures(root=root)
    index = source.index()

    def breaks(path, ground):
        raise decode.BadImage("is truncated")

    monkeypatch.setattr(decode, "read_image", breaks)
    with pytest.raises(DataError, match=r"0\.png is truncated"):
        source.read(index)


def test_content_is_that_of_the_files_wherever_they_lie(root, tmp_path):
    shutil.copytree(root, tmp_path / "elsewhere" / "copy")
    here, there = (
        Pictures(root=place).index() for place in (root, tmp_path / "elsewhere" / "copy")
    )
    assert here.content == there.content
    assert here.ids == there.ids
    shutil.move(root / "cat" / "0.png", root / "dog" / "9.png")
    assert Pictures(root=root).index().content != here.content


def spoil(root):
    (root / "cat" / "7.png").write_bytes(b"")
    (root / "dog" / "8.png").write_bytes((root / "dog" / "0.png").read_bytes()[:200])
    (root / "dog" / "9.jpg").write_bytes((root / "dog" / "0.png").read_bytes())


def test_t21_all_bad_files_are_named_in_one_error(root, capfd):
    spoil(root)
    with pytest.raises(DataError) as caught:
        Pictures(root=root).index()
    message = str(caught.value)
    for path, reason in (
        (root / "cat" / "7.png", "empty"),
        (root / "dog" / "8.png", "truncated"),
        (root / "dog" / "9.jpg", "its content is PNG, not JPEG"),
    ):
        assert any(str(path) in line and reason in line for line in message.splitlines())
    assert "3 bad image files of 9" in message
    assert "on_bad_image: skip" in message
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("many", [25, complete.MOST + 5])
def test_t21_every_bad_file_is_named_however_many_there_are(root, many):
    names = [f"bad{k:03}.png" for k in range(many)]
    for name in names:
        (root / "cat" / name).write_bytes(b"no image")
    with pytest.raises(BadFilesError) as caught:
        Pictures(root=root).index()
    _require_all(str(caught.value), names)
    assert sorted(caught.value.reasons) == [str(root / "cat" / name) for name in names]
    index = Pictures(root=root, on_bad_image="skip").index()
    assert index.bad_files == caught.value.reasons
    (note,) = index.warnings
    _require_all(note, names)


def _require_all(message, names):
    """Check that every name is in the message or in the file that the message names."""
    if "all are listed in" in message:
        assert len(message.splitlines()) < 30
        message = Path(message.split("listed in ")[1].splitlines()[0]).read_text()
        assert len(message.splitlines()) == len(names)
    for name in names:
        assert name in message


def test_t21_files_of_a_lying_extension_are_kept_and_told_as_bad(root):
    spoil(root)
    bad = Pictures(root=root, on_bad_image="skip").index().bad_files
    assert sorted(os.path.basename(path) for path in bad) == ["7.png", "8.png", "9.jpg"]
    assert bad[str(root / "dog" / "9.jpg")] == "its content is PNG, not JPEG"


def test_t21_skip_leaves_out_what_cannot_be_decoded_and_says_so(root):
    clean = Pictures(root=root).index()
    spoil(root)
    source = Pictures(root=root, on_bad_image="skip")
    index = source.index()
    assert len(index.labels) == len(index.files) == len(index.digests) == 7
    assert list(index.ids) == [*clean.ids, "dog/9.jpg"]
    assert index.content != clean.content
    left_out, kept = index.warnings
    assert "2 files cannot be decoded" in left_out
    assert "cat/7.png (is empty" in left_out
    assert "dog/8.png" in left_out
    assert "dog/9.jpg (its content is PNG" in kept
    assert len(source.read(index)) == 7


def test_nothing_left_after_skipping_is_an_error(root):
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no image can be decoded"):
        Pictures(root=root, on_bad_image="skip").index()


def test_t23_a_class_emptied_by_skipping_is_named(root):
    for path in (root / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="without a sample: 'dog'"):
        Pictures(root=root, on_bad_image="skip").indexed()


def test_files_of_different_sizes_need_an_image_size(root):
    write(root / "dog" / "1.png", np.zeros((5, 7, 3), np.uint8))
    with pytest.raises(DataError, match=r"cat/0\.png is 9 × 12.*dog/1\.png is 5 × 7.*image_size"):
        Pictures(root=root).index()
    source = Pictures(root=root, image_size=6)
    assert source.read(source.index()).shape == (6, 6, 6, 3)


def test_t21_eight_bits_among_sixteen_are_scaled_and_named(root):
    levels = RNG.integers(0, 65536, (9, 12), dtype=np.uint16)
    write(root / "cat" / "9.png", levels)
    source = Pictures(root=root)
    index = source.index()
    (warning,) = index.warnings
    assert "6 of 7 images have 8 bits" in warning
    images = source.read(index)
    assert images.dtype == np.uint16
    np.testing.assert_array_equal(images[3], np.stack([levels] * 3, axis=-1))
    np.testing.assert_array_equal(images[0], pillow_rgb(index.files[0]).astype(np.uint16) * 257)


def test_t21_floats_do_not_go_with_integers(root):
    write(root / "cat" / "9.tif", np.zeros((9, 12), np.float32))
    with pytest.raises(DataError, match=r"cat/9\.tif is float32, cat/0\.png is uint8"):
        Pictures(root=root).index()


def test_a_file_of_several_images_is_named(root):
    pages = [Image.fromarray(np.full((9, 12), k, np.uint8)) for k in range(3)]
    (root / "cat" / "9.tif").write_bytes(
        encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    )
    index = Pictures(root=root).index()
    assert index.warnings == (
        "1 file holds several images, of which the first is read: cat/9.tif (3)",
    )


def test_t15_one_image_in_train_and_test_is_named(root):
    for part in ("train", "test"):
        shutil.copytree(root, root.parent / "parts" / part)
    info = Pictures(root=root.parent / "parts", val_fraction=0.0).info()
    assert any("6 images are both in train and in test" in warning for warning in info.warnings)


def test_opencv_gets_its_threads_back(root):
    before = cv2.getNumThreads(), cv2.utils.logging.getLogLevel()
    source = Pictures(root=root)
    source.read(source.index())
    assert (cv2.getNumThreads(), cv2.utils.logging.getLogLevel()) == before


def test_a_bar_is_drawn_on_a_terminal_only(root, monkeypatch, capsys):
    Pictures(root=root).index()
    assert capsys.readouterr().err == ""
    monkeypatch.setenv(cache.VARIABLE, str(root.parent / "cache2"))
    monkeypatch.setenv("FORCE_COLOR", "1")
    Pictures(root=root).index()
    drawn = capsys.readouterr()
    assert "checking images" in drawn.err
    assert drawn.out == ""


def test_class_folders_tells_what_other_datasets_need(root):
    files, labels, class_names, split = class_folders(root)
    assert [path.name for path in files] == ["0.png", "1.png", "2.png"] * 2
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert class_names == ("cat", "dog")
    assert split is None
