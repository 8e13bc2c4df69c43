"""No YAML tree and no image file gets a traceback: 10,000 cases in the whole suite."""

import io
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

from harness.datasets import base
from harness.errors import HarnessError
from harness.experiment.expand import expand
from harness.experiment.schema import load
from tests.conftest import tiny

QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
WHOLE = settings(QUICK, max_examples=5_000)

WORDS = st.sampled_from(
    [
        "shapes",
        "digits",
        "mixup",
        "smote",
        "none",
        "name",
        "alpha",
        "p",
        "tiny_cnn",
        "best",
        "../x",
        "weighted_sampler",
        "balanced",
        "nothing",
        "factorial",
        "<script>",
        "🦊",
        "nan",
        "1e-3",
        "",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 10)
    | st.integers()
    | st.floats()
    | WORDS
    | st.text(max_size=8)
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "name",
        "datasets",
        "base",
        "factors",
        "design",
        "exclude",
        "recipes",
        "references",
        "models",
        "seeds",
        "folds",
        "training",
        "metric",
        "keep_weights",
        "tracking",
        "weights_gb",
        "plugin",
        "description",
    ]
)


def read_and_expanded(path: Path) -> None:
    """Do with a file what every verb does first; only what a user can mend may be raised."""
    try:
        experiment = load(path)
        if len(experiment.seeds) <= 20 and (experiment.folds or 1) <= 10:
            expand(experiment)
    except HarnessError as error:
        explains(error)


def explains(error: HarnessError) -> None:
    assert str(error).strip()


def check_tree(changes: dict[str, Any], home: Path) -> None:
    path = home / "x.yaml"
    yaml = YAML(typ="safe")
    with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
        yaml.dump({**tiny(), **changes}, file)
    read_and_expanded(path)


def check_text(text: bytes, home: Path) -> None:
    path = home / "x.yaml"
    path.write_bytes(text)
    read_and_expanded(path)


TREE = st.dictionaries(KEYS, TREES, min_size=1, max_size=3)
TEXT = st.binary(max_size=60) | st.text(alphabet="{}[]:-&*!|>#'\"% \n\tabcé1.", max_size=60).map(
    lambda text: text.encode()
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad")


@QUICK
@given(changes=TREE)
def test_i27_no_tree_gets_a_traceback(changes: dict[str, Any], home: Path) -> None:
    check_tree(changes, home)


@pytest.mark.slow
@WHOLE
@given(changes=TREE)
def test_i27_no_tree_gets_a_traceback_whole(changes: dict[str, Any], home: Path) -> None:
    check_tree(changes, home)


@QUICK
@given(text=TEXT)
def test_i27_no_text_gets_a_traceback(text: bytes, home: Path) -> None:
    check_text(text, home)


@pytest.mark.slow
@settings(WHOLE, max_examples=2_500)
@given(text=TEXT)
def test_i27_no_text_gets_a_traceback_whole(text: bytes, home: Path) -> None:
    check_text(text, home)


def picture(kind: str, mode: str, size: tuple[int, int]) -> bytes:
    content = io.BytesIO()
    Image.new(mode, size, 3).save(content, kind)
    return content.getvalue()


KINDS = "PNG RGB, PNG P, PNG LA, JPEG L, JPEG CMYK, GIF P, TIFF I;16, BMP RGB, WEBP RGB"
SOUND = [picture(*kind.split(), size) for kind in KINDS.split(", ") for size in [(1, 1), (9, 7)]]
BOMB = SOUND[0].replace(struct.pack(">II", 1, 1), struct.pack(">II", 60_000, 60_000))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw the bytes of an image, cut, changed or made up."""
    content = bytearray(draw(st.sampled_from([*SOUND, BOMB])))
    for _ in range(draw(st.integers(0, 4))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    end = draw(st.integers(0, len(content)) | st.just(len(content)))
    return bytes(content[:end]) + draw(st.binary(max_size=4))


def check_image(content: bytes, suffix: str, home: Path) -> int:
    """A folder with one damaged image among sound ones is read, or refused with a message."""
    read = 0
    folder = home / "photos"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(6):
            path = folder / name / f"{i}.png"
            if not path.exists():
                rng = np.random.default_rng(i + 10 * (name == "b"))
                Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    for old in (folder / "a").glob("x.*"):
        old.unlink()
    (folder / "a" / f"x{suffix}").write_bytes(content)
    base.forget()
    keys = {"name": "image_folder", "path": str(folder), "image_size": 8}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow's, on what it makes of the file
        try:
            for spec in expand(
                load(tiny(datasets=[keys], training={"max_steps": 1, "batch_size": 2}))
            ).runs:
                spec.dataset.load(spec.seed)
                read += 1
        except HarnessError as error:
            explains(error)
    return read


SUFFIX = st.sampled_from([".png", ".jpg", ".gif", ".tif", ".bmp", ".webp"])


def test_a_sound_image_among_them_is_read(home: Path) -> None:
    assert check_image(SOUND[0], ".png", home)


@settings(QUICK, max_examples=40)
@given(content=damaged(), suffix=SUFFIX)
def test_i28_no_image_gets_a_traceback(content: bytes, suffix: str, home: Path) -> None:
    check_image(content, suffix, home)


@pytest.mark.slow
@settings(WHOLE, max_examples=2_500)
@given(content=damaged(), suffix=SUFFIX)
def test_i28_no_image_gets_a_traceback_whole(content: bytes, suffix: str, home: Path) -> None:
    check_image(content, suffix, home)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    base.forget()
