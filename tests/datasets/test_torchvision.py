import gzip
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from pydantic import ValidationError

from harness.datasets import torchvision as sets
from harness.datasets.base import TEST, TRAIN, forget
from harness.datasets.torchvision import Cifar10, Cifar100, FashionMnist, Kmnist, Mnist, Svhn
from harness.errors import DataError
from harness.registry import datasets

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer"]
CIFAR10_NAMES += ["dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    forget()
    yield
    forget()


# writing files exactly as they were published


def py2_string(data: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(data)) + data


def py2_value(value: object) -> bytes:
    """Pickle as Python 2 did: protocol 2, byte strings, arrays of numpy.core, align=0."""
    if isinstance(value, dict):
        items = b"".join(py2_string(k.encode()) + py2_value(v) for k, v in value.items())
        return b"}(" + items + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(py2_value, value)) + b"e"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, bytes):
        return py2_string(value)
    assert isinstance(value, np.ndarray)
    rows, columns = (b"J" + struct.pack("<i", size) for size in value.shape)
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2
    return (
        made
        + b"(K\x01"
        + rows
        + columns
        + b"\x86"
        + dtype
        + b"K\x00tb\x89"
        + (py2_string(value.tobytes()) + b"tb")
    )


def write_py2_pickle(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x80\x02" + py2_value(value) + b".")


def pictures(count: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)


def write_cifar10(root: Path, each: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Write five batches and a test batch; return all images and labels in official order."""
    images = pictures(6 * each, (32, 32, 3))
    labels = np.random.default_rng(1).permutation(np.arange(6 * each) % 10)
    for k, name in enumerate([f"data_batch_{b}" for b in range(1, 6)] + ["test_batch"]):
        part = slice(k * each, (k + 1) * each)
        planes = images[part].transpose(0, 3, 1, 2).reshape(each, 3072)
        batch = {
            "batch_label": b"training batch",
            "labels": labels[part].tolist(),
            "data": planes,
            "filenames": [b"x.png"] * each,
        }
        write_py2_pickle(root / "cifar-10-batches-py" / name, batch)
    names = [name.encode() for name in CIFAR10_NAMES]
    meta = {"num_cases_per_batch": 10000, "label_names": names, "num_vis": 3072}
    write_py2_pickle(root / "cifar-10-batches-py" / "batches.meta", meta)
    return images, labels


def write_cifar100(root: Path) -> tuple[np.ndarray, np.ndarray]:
    images = pictures(300, (32, 32, 3), 3)
    labels = np.concatenate([np.arange(200) % 100, np.arange(100)[::-1]])
    for name, part in (("train", slice(0, 200)), ("test", slice(200, 300))):
        planes = images[part].transpose(0, 3, 1, 2).reshape(-1, 3072)
        coarse = (labels[part] // 5).tolist()
        batch = {"fine_labels": labels[part].tolist(), "coarse_labels": coarse, "data": planes}
        write_py2_pickle(root / "cifar-100-python" / name, batch)
    meta = {
        "fine_label_names": [f"fine{k:02}".encode() for k in range(100)],
        "coarse_label_names": [f"coarse{k}".encode() for k in range(20)],
    }
    write_py2_pickle(root / "cifar-100-python" / "meta", meta)
    return images, labels


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(root: Path, name: str, zipped: bool = False) -> tuple[np.ndarray, np.ndarray]:
    images, labels = pictures(80, (28, 28), 5), np.arange(80, dtype=np.uint8) % 10
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for half, part in (("train", slice(0, 60)), ("t10k", slice(60, 80))):
        for what, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx(array[part])
            path = folder / f"{half}-{what}-ubyte"
            if zipped:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(data))
            else:
                path.write_bytes(data)
    return images[..., None], labels


def write_svhn(root: Path) -> tuple[np.ndarray, np.ndarray]:
    root.mkdir(parents=True, exist_ok=True)
    images, digits = pictures(70, (32, 32, 3), 6), np.arange(70) % 10
    stored = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
    for name, part in (("train", slice(0, 50)), ("test", slice(50, 70))):
        arrays = {"X": images[part].transpose(1, 2, 3, 0), "y": stored[part]}
        scipy.io.savemat(root / f"{name}_32x32.mat", arrays, do_compression=True)
    return images, digits


def write_folders(root: Path, names: list[str], shape: tuple[int, ...], each: int = 4) -> None:
    for part in ("train", "test"):
        for k, name in enumerate(names):
            folder = root / part / name
            folder.mkdir(parents=True)
            for n, picture in enumerate(pictures(each, shape, k + 100 * (part == "test"))):
                assert cv2.imwrite(str(folder / f"{n}.png"), picture)


WRITERS = {
    "cifar10": (Cifar10, write_cifar10, 100),
    "cifar100": (Cifar100, write_cifar100, 200),
    "mnist": (Mnist, lambda root: write_mnist(root, "MNIST"), 60),
    "fashion_mnist": (FashionMnist, lambda root: write_mnist(root, "FashionMNIST"), 60),
    "kmnist": (Kmnist, lambda root: write_mnist(root, "KMNIST"), 60),
    "svhn": (Svhn, write_svhn, 50),
}


# reading


@pytest.mark.parametrize("name", WRITERS)
def test_raw_files_give_images_labels_and_the_official_split(name, tmp_path):
    kind, write, training = WRITERS[name]
    images, labels = write(tmp_path)
    assert datasets.get(name) is kind
    source = kind(root=tmp_path)
    index = source.index()
    np.testing.assert_array_equal(index.labels, labels)
    np.testing.assert_array_equal(source.read(index), images)
    assert index.labels.dtype == np.int64
    assert index.shape == images.shape[1:]
    assert (index.split[:training] == TRAIN).all()
    assert (index.split[training:] == TEST).all()
    assert len(index.class_names) == kind.classes
    data = source.load(0)
    assert len(data.rows.test) == len(labels) - training


@pytest.mark.parametrize("name", WRITERS)
def test_raw_files_are_read_as_torchvision_reads_them(name, tmp_path, monkeypatch):
    import torchvision.datasets

    kind, write, _ = WRITERS[name]
    write(tmp_path)
    theirs = getattr(torchvision.datasets, kind.known_as)
    # its checksums are those of the published files, and these are small ones
    for group in ("train_list", "test_list"):
        if hasattr(theirs, group):
            monkeypatch.setattr(theirs, group, [[f, None] for f, _ in getattr(theirs, group)])
    if hasattr(theirs, "meta"):
        monkeypatch.setattr(theirs, "meta", {**theirs.meta, "md5": None})
    if hasattr(theirs, "split_list"):
        parts = {k: [url, file, None] for k, (url, file, _) in theirs.split_list.items()}
        monkeypatch.setattr(theirs, "split_list", parts)
    halves = [theirs(root=tmp_path, download=False, **half) for half in kind.halves]
    source = kind(root=tmp_path)
    index = source.index()
    images = source.read(index)
    at = 0
    for half in halves:
        for k in range(len(half)):
            picture, label = half[k]
            assert index.labels[at] == label
            np.testing.assert_array_equal(images[at].squeeze(), np.asarray(picture))
            at += 1
    assert at == len(images)
    if hasattr(halves[0], "classes") and name != "mnist":
        assert index.class_names == tuple(halves[0].classes)


def test_t03_the_longtail_of_raw_cifar_is_in_the_official_order(tmp_path):
    _, labels = write_cifar10(tmp_path)
    source = Cifar10(root=tmp_path, imbalance_factor=5, val_fraction=0)
    rows = source.split(source.indexed(), 0).train
    state = np.random.RandomState(0)
    expected = []
    for k in range(10):
        of_class = np.where(labels[:100] == k)[0]
        state.shuffle(of_class)
        expected += of_class[: int(100 / 10 * 0.2 ** (k / 9))].tolist()
    assert rows.tolist() == expected


def test_gzipped_mnist_is_the_same_dataset(tmp_path):
    write_mnist(tmp_path / "a", "MNIST")
    write_mnist(tmp_path / "b", "MNIST", zipped=True)
    a, b = Mnist(root=tmp_path / "a"), Mnist(root=tmp_path / "b")
    assert a.index().content == b.index().content
    assert a.identity() == b.identity()
    np.testing.assert_array_equal(a.read(a.index()), b.read(b.index()))


@pytest.mark.parametrize("name", WRITERS)
def test_content_follows_the_bytes(name, tmp_path):
    kind, write, _ = WRITERS[name]
    write(tmp_path)
    before = kind(root=tmp_path).index()
    assert kind(root=tmp_path).index().content == before.content
    place = tmp_path / kind.raw_names[0]
    if name == "svhn":
        arrays = scipy.io.loadmat(place)
        scipy.io.savemat(place, {"X": 255 - arrays["X"], "y": arrays["y"]})
    else:
        data = bytearray(place.read_bytes())
        data[-700] ^= 1  # within the pixels
        place.write_bytes(data)
        os.utime(place, ns=(1, 1))
    after = kind(root=tmp_path).index()
    assert after.content != before.content
    np.testing.assert_array_equal(after.labels, before.labels)


def test_labels_are_remembered_and_the_second_look_parses_nothing(tmp_path, monkeypatch):
    write_cifar10(tmp_path)
    first = Cifar10(root=tmp_path).index()

    def fail(*_: object) -> None:
        raise AssertionError("parsed again")

    monkeypatch.setattr(sets, "read_cifar", fail)
    second = Cifar10(root=tmp_path).index()
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.split, second.split)
    assert (first.class_names, first.content) == (second.class_names, second.content)
    assert first.warnings == second.warnings


def test_neither_torch_nor_torchvision_is_imported(tmp_path):
    write_cifar10(tmp_path)
    write_mnist(tmp_path, "MNIST")
    code = (
        "import sys; from harness.datasets.torchvision import Cifar10, Mnist; "
        f"[d(root={str(tmp_path)!r}).load(0) for d in (Cifar10, Mnist)]; "
        "assert not {'torch', 'torchvision', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_image_size_and_grayscale_apply_to_raw_files(tmp_path):
    images, _ = write_cifar10(tmp_path)
    source = Cifar10(root=tmp_path, image_size=16)
    index = source.index()
    small = source.read(index)
    assert small.shape[1:] == index.shape == (16, 16, 3)
    boxes = images.reshape(-1, 16, 2, 16, 2, 3).astype(float).mean((2, 4))
    assert np.abs(small - boxes).max() <= 1
    grey = Cifar10(root=tmp_path, grayscale=True, mean=None, std=None)
    assert grey.read(grey.index()).shape[1:] == grey.index().shape == (32, 32, 1)
    digits, _ = write_mnist(tmp_path, "MNIST")
    rgb = Mnist(root=tmp_path, grayscale=False)
    assert rgb.index().shape == (28, 28, 3)
    np.testing.assert_array_equal(rgb.read(rgb.index()), np.repeat(digits, 3, axis=3))
    assert grey.identity() != Cifar10().identity()


# facts


def test_cifar_is_normalised_with_the_published_constants(tmp_path):
    write_cifar10(tmp_path)
    data = Cifar10(root=tmp_path).load(0)
    np.testing.assert_allclose(data.mean, [0.4914, 0.4822, 0.4465])
    np.testing.assert_allclose(data.std, [0.2023, 0.1994, 0.2010])
    assert Cifar100().mean == Cifar10().mean
    fitted = Cifar10(root=tmp_path, mean=None, std=None).load(0)
    assert np.abs(fitted.mean - 0.5).max() < 0.02
    with pytest.raises(ValidationError, match=r"mean has 3 values and images have 1 channels"):
        Cifar10(grayscale=True)


def test_t22_flips_are_declared_only_where_they_keep_the_label():
    flips = {kind: kind().horizontal_flip for kind, _, _ in WRITERS.values()}
    assert flips == {
        **dict.fromkeys((Cifar10, Cifar100, FashionMnist), True),
        **dict.fromkeys((Mnist, Kmnist, Svhn), False),
    }
    assert not any(kind().vertical_flip for kind in flips)


def test_where_and_how_it_is_read_is_no_identity(tmp_path):
    plain = Cifar10().identity()
    assert Cifar10(root=tmp_path, path=tmp_path, download=True).identity() == plain


def test_another_number_of_images_than_published_is_named(tmp_path):
    write_cifar10(tmp_path)
    (remark,) = Cifar10(root=tmp_path).info().warnings[:1]
    assert "100 training and 20 test" in remark
    assert "50,000 and 10,000" in remark


# what goes wrong


@pytest.mark.parametrize("name", WRITERS)
def test_missing_files_name_the_place_and_the_way_out(name, tmp_path):
    kind, _, _ = WRITERS[name]
    with pytest.raises(DataError) as error:
        kind(root=tmp_path / "nowhere").index()
    assert str(tmp_path / "nowhere") in str(error.value)
    assert kind.raw_names[0] in str(error.value)
    assert "`download: true`" in str(error.value)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_file_is_named(name, damage, tmp_path):
    kind, write, _ = WRITERS[name]
    write(tmp_path)
    for at in (0, -1):
        place = tmp_path / kind.raw_names[at]
        whole = place.read_bytes()
        cut = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"<html>not found</html>"}
        place.write_bytes(cut[damage])
        with pytest.raises(DataError, match=place.name):
            kind(root=tmp_path).index()
        place.write_bytes(whole)


def test_labels_that_do_not_fit_are_refused(tmp_path):
    write_mnist(tmp_path, "MNIST")
    place = tmp_path / "MNIST/raw/train-labels-idx1-ubyte"
    whole = place.read_bytes()
    place.write_bytes(idx(np.arange(59, dtype=np.uint8) % 10))
    with pytest.raises(DataError, match="60 images of uint8 and 59 labels"):
        Mnist(root=tmp_path).index()
    place.write_bytes(whole[:-1] + b"\x0b")
    with pytest.raises(DataError, match="from 0 to 11 in 10 classes"):
        Mnist(root=tmp_path).index()


class Evil:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return Path.touch, (self.place,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_code_is_refused_unrun(protocol, tmp_path):
    write_cifar10(tmp_path)
    batch = {"data": Evil(tmp_path / "ran"), "labels": [0]}
    place = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    place.write_bytes(pickle.dumps(batch, protocol))
    with pytest.raises(DataError, match=r"data_batch_2.*is no array"):
        Cifar10(root=tmp_path).index()
    assert not (tmp_path / "ran").exists()
    with place.open("rb") as file:  # the trap is a real one
        pickle.load(file)
    assert (tmp_path / "ran").exists()


# downloading


@pytest.fixture
def fake_torchvision(monkeypatch):
    """A torchvision that records what it is asked for and writes the files."""
    asked: list[tuple[str, dict[str, object]]] = []

    def maker(known_as: str, write: object) -> object:
        def make(root: Path, **how: object) -> None:
            asked.append((known_as, how))
            if not (root / "done").exists():
                write(root)
                (root / "done").touch()

        return make

    package, module = types.ModuleType("torchvision"), types.ModuleType("torchvision.datasets")
    for kind, write, _ in WRITERS.values():
        setattr(module, kind.known_as, maker(kind.known_as, write))
    package.datasets = module
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    module.asked = asked
    return module


@pytest.mark.parametrize("name", WRITERS)
def test_download_fetches_both_halves_once(name, tmp_path, fake_torchvision):
    kind, _, _ = WRITERS[name]
    with pytest.raises(DataError, match="download: true"):
        kind(root=tmp_path / "x").index()
    assert fake_torchvision.asked == []
    source = kind(root=tmp_path / "x", download=True)
    assert len(source.index().labels)
    assert fake_torchvision.asked == [
        (kind.known_as, {"download": True, **half}) for half in kind.halves
    ]
    source.index()
    assert len(fake_torchvision.asked) == 2


def test_a_failed_download_is_a_clear_error(tmp_path, fake_torchvision):
    def fail(**_: object) -> None:
        raise RuntimeError("no route")

    fake_torchvision.MNIST = fail
    with pytest.raises(DataError, match=r"'mnist' could not be downloaded to .*no route"):
        Mnist(root=tmp_path, download=True).index()


# class folders


def test_class_folders_hold_the_same_set(tmp_path):
    write_folders(tmp_path, CIFAR10_NAMES, (32, 32, 3))
    source = Cifar10(path=tmp_path)
    info = source.info()
    assert info.class_names == tuple(CIFAR10_NAMES)
    assert info.shape == (32, 32, 3)
    assert (info.counts[2] == 4).all()
    assert info.counts[:2].sum() == 40
    assert source.load(0).features.shape == (80, 32, 32, 3)
    assert any("50,000" in warning for warning in info.warnings)


def test_class_folders_of_grey_digits_have_one_channel(tmp_path):
    write_folders(tmp_path, list("0123456789"), (28, 28))
    source = Mnist(path=tmp_path)
    assert source.info().shape == (28, 28, 1)
    index = source.indexed()
    first = int(np.flatnonzero((index.labels == 3) & (index.split == TRAIN))[0])
    np.testing.assert_array_equal(source.read(index)[first, ..., 0], pictures(4, (28, 28), 3)[0])


def test_class_folders_keep_the_sets_own_order_of_classes(tmp_path):
    write_folders(tmp_path, list(Kmnist.own_names), (28, 28))
    index = Kmnist(path=tmp_path).indexed()
    assert index.class_names == Kmnist.own_names != tuple(sorted(Kmnist.own_names))
    for row, file in enumerate(index.files):
        assert index.class_names[index.labels[row]] == file.parent.name


@pytest.mark.parametrize(
    ("names", "parts", "said"),
    [
        (CIFAR10_NAMES[:9], ("train", "test"), "has 9 classes .*the set has 10"),
        (CIFAR10_NAMES, ("train",), "under train and under test"),
    ],
)
def test_class_folders_of_another_set_are_refused(names, parts, said, tmp_path):
    write_folders(tmp_path / "all", names, (32, 32, 3), 1)
    for part in parts:
        (tmp_path / "all" / part).rename(tmp_path / part)
    for left in sorted((tmp_path / "all").rglob("*"), reverse=True):
        left.unlink() if left.is_file() else left.rmdir()
    (tmp_path / "all").rmdir()
    with pytest.raises(DataError, match=said):
        Cifar10(path=tmp_path).index()


@pytest.mark.slow
@pytest.mark.skipif(
    not (SHARED / "cifar10-train.tar.gz").is_file(), reason="needs ../shared/data/cifar10-*.tar.gz"
)
def test_t03_cifar10_class_folders_give_the_published_counts(tmp_path):
    for part in ("train", "test"):
        with tarfile.open(SHARED / f"cifar10-{part}.tar.gz") as archive:
            archive.extractall(tmp_path / "cifar10", filter="data")
    whole = Cifar10(path=tmp_path / "cifar10").info()
    assert whole.class_names == tuple(CIFAR10_NAMES)
    assert (whole.counts[2] == 1000).all()
    assert (whole.counts[:2].sum(0) == 5000).all()
    assert not any("published" in warning for warning in whole.warnings)
    tail = Cifar10(path=tmp_path / "cifar10", imbalance_factor=100, val_fraction=0).info()
    assert tail.counts[0].tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert tail.counts[0].sum() == 12_406
    assert (tail.counts[2] == 1000).all()
