"""The benchmark sets that torchvision knows: CIFAR-10 and -100, the MNIST family, SVHN.

The files are those that torchvision keeps, where it keeps them, but they are read by
`harness.datasets.raw_files`: torchvision brings all of torch with it, which takes longer than
planning. It is imported for one thing only, to download. What is known before an image is needed
(labels, class names, fingerprint) takes a pass over all the bytes; it is remembered in the cache
folder by path, size and modification time of the files.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from harness import cache
from harness.datasets import raw_files
from harness.datasets.base import TEST, TRAIN, Index, NotIdentity, content_of, dataset
from harness.datasets.images import ImageFiles, Source, class_source
from harness.datasets.raw_files import Raw, read_cifar, read_mnist, read_svhn
from harness.errors import DataError, listing

_DIGITS = tuple("0123456789")
# the constants of LDAM-DRW and of most long-tail papers, for both CIFAR sets
_CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
_CIFAR_STD = (0.2023, 0.1994, 0.2010)


class TorchvisionSet(ImageFiles):
    """A published benchmark with an official test set.

    From class folders (`path`) the images are in the order of their file names, so that a
    long-tailed subset has the published counts, but not the published images.
    """

    root: Annotated[Path, NotIdentity()] = Path("data")
    """Where torchvision keeps its files."""
    path: Annotated[Path | None, NotIdentity()] = None
    """Class folders under train and test that hold the same set, in place of `root`."""
    allow_outside: Annotated[bool, NotIdentity()] = False
    """Whether images may lie out of these folders, by symbolic links below them."""
    download: Annotated[bool, NotIdentity()] = False
    """Whether torchvision may fetch what is missing under `root`."""

    known_as: ClassVar[str]
    """What torchvision calls it."""
    raw_names: ClassVar[tuple[str, ...]]
    """Its files under `root`."""
    own_names: ClassVar[tuple[str, ...] | None] = None
    """Class names in the set's own order, or None where they are sorted."""
    classes: ClassVar[int] = 10
    published: ClassVar[tuple[int, int]]
    """Official numbers of training and test images."""
    halves: ClassVar[tuple[dict[str, Any], ...]] = ({"train": True}, {"train": False})
    """How torchvision is asked for the official splits."""

    @model_validator(mode="after")
    def _one_mean_per_channel(self) -> Self:
        channels = 1 if self.grayscale else 3
        if self.mean is not None and len(self.mean) != channels:
            raise ValueError(
                f"mean has {len(self.mean)} values and images have {channels} channels "
                f"(grayscale: {str(self.grayscale).lower()}); give one for each, or null for mean "
                "and std to take them from the training images"
            )
        return self

    def index(self) -> Index:
        """Return labels, class names and fingerprint.

        Raises:
            DataError: Files are missing or damaged, or cannot be downloaded.
        """
        index = self._raw_index() if self.path is None else super().index()
        counts = tuple(int(np.sum(index.split == part)) for part in (TRAIN, TEST))
        if counts == self.published:
            return index
        remark = (
            f"{counts[0]:,} training and {counts[1]:,} test images, and the published set has "
            f"{self.published[0]:,} and {self.published[1]:,}"
        )
        return replace(index, warnings=(*index.warnings, remark))

    def source(self) -> Source:
        """Return the images in class folders, with the set's own order of classes.

        Raises:
            DataError: The folders hold another set.
        """
        assert self.path is not None
        source = class_source(self.path, self.allow_outside)
        where = f"dataset '{self.display()}': {self.path.absolute()}"
        if source.split is None or not (source.split == TEST).any():
            raise DataError(f"{where} must hold class folders under train and under test")
        if len(source.class_names) != self.classes:
            raise DataError(
                f"{where} has {len(source.class_names)} classes ({listing(source.class_names)}), "
                f"and the set has {self.classes}"
            )
        if self.own_names is None or set(source.class_names) != set(self.own_names):
            return source
        own = np.array([self.own_names.index(name) for name in source.class_names], np.int64)
        return replace(source, class_names=self.own_names, labels=own[source.labels])

    def read(self, index: Index) -> NDArray[Any]:
        """Return the images, ``uint8[N, H, W, C]``."""
        if self.path is not None:
            return super().read(index)
        images = self.parse(self._raw_files()).images
        if images.shape[1:] == index.shape:
            return images
        from harness.datasets.decode import fit

        fitted = np.empty((len(images), *index.shape), np.uint8)
        for row, image in enumerate(images):
            rgb = np.broadcast_to(image, (*image.shape[:2], 3)).copy()
            fitted[row] = fit(rgb, self.image_size, self.resize, self.grayscale)
        return fitted

    @classmethod
    def parse(cls, files: Sequence[Path]) -> Raw:
        """Return what the files hold, which are those of `raw_names` in that order.

        Raises:
            DataError: A file is damaged.
        """
        raise NotImplementedError

    def _raw_index(self) -> Index:
        files = self._raw_files()
        stamps = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        key = content_of(self.known_as, stamps)[:32]
        notes = cache.load_notes(key, raw_files.VERSION)
        if not notes:
            raw = self.parse(files)
            notes = {
                "labels": raw.labels.tolist(),
                "class_names": list(raw.class_names),
                "content": [content_of(raw.images, raw.labels, raw.class_names, raw.training)],
                "height_width": list(raw.images.shape[1:3]),
                "training": [raw.training],
            }
            cache.save_notes(key, raw_files.VERSION, notes)
        labels = np.array(notes["labels"], np.int64)
        split = np.full(len(labels), TEST, np.int8)
        split[: notes["training"][0]] = TRAIN
        height, width = [self.image_size] * 2 if self.image_size else notes["height_width"]
        return Index(
            labels=labels,
            class_names=tuple(notes["class_names"]),
            content=notes["content"][0],
            shape=(height, width, 1 if self.grayscale else 3),
            split=split,
        )

    def _raw_files(self) -> list[Path]:
        """Return the set's files, fetched if need be and allowed."""
        files = self._present()
        if None in files and self.download:
            self._fetch()
            files = self._present()
        missing = [n for n, file in zip(self.raw_names, files, strict=True) if file is None]
        if missing:
            raise DataError(
                f"dataset '{self.name}': no {listing(missing, 3)} in {self._folder()}; set root to "
                "where torchvision keeps its files, or path to class folders with the same "
                "images, or `download: true` to fetch it"
            )
        return [file for file in files if file is not None]

    def _present(self) -> list[Path | None]:
        found: list[Path | None] = []
        for name in self.raw_names:
            choices = [name, f"{name}.gz"] if name.endswith("-ubyte") else [name]
            files = (self._folder() / choice for choice in choices)
            found.append(next((file for file in files if file.is_file()), None))
        return found

    def _folder(self) -> Path:
        return self.root.expanduser().absolute()

    def _fetch(self) -> None:
        import torchvision.datasets

        maker = getattr(torchvision.datasets, self.known_as)
        try:
            for half in self.halves:
                maker(root=self._folder(), download=True, **half)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"dataset '{self.name}' could not be downloaded to {self._folder()}: {error}"
            ) from None


@dataset("cifar10")
class Cifar10(TorchvisionSet):
    """CIFAR-10: 60,000 colour images of 32×32 in 10 classes (Krizhevsky 2009)."""

    mean: tuple[float, ...] | None = _CIFAR_MEAN
    std: tuple[float, ...] | None = _CIFAR_STD
    """Per channel on the 0–1 scale; null for both takes them from the training images."""

    known_as = "CIFAR10"
    raw_names = tuple(
        f"cifar-10-batches-py/{name}"
        for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta")
    )
    published = (50_000, 10_000)

    @classmethod
    def parse(cls, files: Sequence[Path]) -> Raw:
        """Return what the batches hold."""
        return read_cifar(files[:-1], files[-1], "labels", "label_names")


@dataset("cifar100")
class Cifar100(TorchvisionSet):
    """CIFAR-100: 60,000 colour images of 32×32 in 100 classes (Krizhevsky 2009)."""

    mean: tuple[float, ...] | None = _CIFAR_MEAN
    std: tuple[float, ...] | None = _CIFAR_STD
    """Per channel on the 0–1 scale; null for both takes them from the training images."""

    known_as = "CIFAR100"
    raw_names = tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta"))
    classes = 100
    published = (50_000, 10_000)

    @classmethod
    def parse(cls, files: Sequence[Path]) -> Raw:
        """Return what the batches hold."""
        return read_cifar(files[:-1], files[-1], "fine_labels", "fine_label_names")


class _MnistFormat(TorchvisionSet):
    """A set of 28×28 grey images in MNIST's format."""

    grayscale: bool = True
    """One channel; false gives three equal ones."""

    published = (60_000, 10_000)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Place the files where torchvision keeps those of this set."""
        super().__init_subclass__(**kwargs)
        cls.raw_names = tuple(
            f"{cls.known_as}/raw/{half}-{what}-ubyte"
            for half in ("train", "t10k")
            for what in ("images-idx3", "labels-idx1")
        )

    @classmethod
    def parse(cls, files: Sequence[Path]) -> Raw:
        """Return what the files hold."""
        assert cls.own_names is not None
        return read_mnist(files, cls.own_names)


@dataset("mnist")
class Mnist(_MnistFormat):
    """MNIST: 70,000 grey images of 28×28 of handwritten digits."""

    horizontal_flip: bool = False
    """Whether a left-right flip keeps the label: a mirrored 2 is no 2."""

    known_as = "MNIST"
    own_names = _DIGITS


@dataset("fashion_mnist")
class FashionMnist(_MnistFormat):
    """Fashion-MNIST: 70,000 grey images of 28×28 of clothing in 10 classes."""

    known_as = "FashionMNIST"
    own_names = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )


@dataset("kmnist")
class Kmnist(_MnistFormat):
    """Kuzushiji-MNIST: 70,000 grey images of 28×28 of cursive Japanese characters."""

    horizontal_flip: bool = False
    """Whether a left-right flip keeps the label: a mirrored character is another or none."""

    known_as = "KMNIST"
    own_names = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


@dataset("svhn")
class Svhn(TorchvisionSet):
    """SVHN: 99,289 colour images of 32×32 of house numbers; the extra split is not used."""

    horizontal_flip: bool = False
    """Whether a left-right flip keeps the label: a mirrored 2 is no 2."""

    known_as = "SVHN"
    raw_names = ("train_32x32.mat", "test_32x32.mat")
    own_names = _DIGITS
    published = (73_257, 26_032)
    halves = ({"split": "train"}, {"split": "test"})

    @classmethod
    def parse(cls, files: Sequence[Path]) -> Raw:
        """Return what the files hold."""
        return read_svhn(files)
