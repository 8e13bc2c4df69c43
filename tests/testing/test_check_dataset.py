from dataclasses import replace
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from harness.datasets.base import (
    TEST,
    ImageDataset,
    Index,
    Rows,
    TableDataset,
    content_of,
    dataset,
)
from harness.datasets.image_folder import ImageFolder
from harness.datasets.table import Table
from harness.registry import datasets
from harness.testing import ContractError, check_dataset


@pytest.fixture(autouse=True)
def _own_registry():
    with datasets.temporary():
        yield


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("digits", {}),
        ("digits", {"imbalance_factor": 20}),
        ("shapes", {}),
        ("shapes", {"channels": 1, "size": 12, "per_class": 10, "val_fraction": 0}),
    ],
)
def test_a_built_in_dataset_keeps_its_contract(name, fields):
    found = check_dataset(datasets.get(name).model_validate(fields))
    checks = {finding.check for finding in found}
    assert {"trains", "read: returns what index promises", "load: is deterministic"} <= checks
    assert not [finding for finding in found if finding.problem]


def test_files_keep_their_contract_and_their_content_follows_them(tmp_path):
    rng = np.random.default_rng(0)
    for copy in ("one", "two"):
        for name in ("cat", "dog"):
            (tmp_path / copy / name).mkdir(parents=True)
            for k in range(8):
                path = tmp_path / copy / name / f"{k}.png"
                cv2.imwrite(str(path), rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    one, two = ImageFolder(path=tmp_path / "one"), ImageFolder(path=tmp_path / "two")
    check_dataset(one, changed=two)
    with pytest.raises(ContractError, match="content changes with the source: content is the same"):
        check_dataset(one, changed=ImageFolder(path=tmp_path / "one", label="other"))


def test_a_table_keeps_its_contract(tmp_path):
    lines = [f"{k % 7},{k * 0.5},{'ab'[k % 5 == 0]}" for k in range(60)]
    (tmp_path / "t.csv").write_text("x,y,label\n" + "\n".join(lines))
    check_dataset(Table(file=tmp_path / "t.csv", label_column="label"))


class Plain(ImageDataset):
    """Noise in two classes; subclasses break one thing."""

    def index(self):
        labels = np.arange(60) % 2
        return Index(labels, ("a", "b"), content_of("plain", labels), (8, 8, 1))

    def read(self, index):
        return np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)


def broken(cls: type[Any]) -> str:
    with datasets.temporary(), pytest.raises(ContractError) as caught:
        check_dataset(dataset("broken")(cls)())
    return str(caught.value)


def test_what_the_broken_ones_derive_from_is_sound():
    assert not [found for found in check_dataset(dataset("sound")(Plain)()) if found.problem]


def changed(**fields: Any) -> type[Plain]:
    """Return `Plain` with other facts in its index."""

    class Changed(Plain):
        """Say something wrong."""

        def index(self):
            return Index(**{**vars(super().index()), **fields})

    return Changed


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": np.arange(60, dtype=np.int32) % 2}, "labels is int32[60]; int64[60] is needed"),
        ({"labels": np.arange(60) % 3}, "labels must lie in 0..1"),
        ({"labels": np.zeros(60, np.int64)}, "classes without a sample: b"),
        ({"class_names": ("a", "a")}, "all different; they are a, a"),
        ({"class_names": ("a", "")}, "a tuple of non-empty texts is needed"),
        ({"shape": (8, 8)}, "shape is (8, 8); 3 positive numbers are needed"),
        ({"ids": ["x"] * 60}, "ids name two samples alike"),
        ({"digests": ["x"] * 6}, "digests has 6 entries for 60 samples"),
        ({"split": np.full(60, 7, np.int8)}, "split holds [7]"),
        ({"group": np.zeros(60)}, "group is float64[60]; int64[60] is needed"),
        ({"content": ""}, "use content_of on everything that is read"),
        ({"shape": (9, 9, 1)}, "returned uint8[60, 8, 8, 1]; index promises [60, 9, 9, 1]"),
    ],
)
def test_an_index_that_does_not_fit_together_is_named(fields, message):
    assert message in broken(changed(**fields))


def test_t23_a_class_that_is_only_in_test_is_named():
    split = np.zeros(60, np.int8)
    split[1::2] = TEST
    message = broken(changed(split=split))
    assert "classes without a training sample: 'b'" in message


def test_content_that_changes_between_calls_is_named():
    calls = []

    class Counts(Plain):
        """Put a counter into the content."""

        def index(self):
            calls.append(1)
            return Index(**{**vars(super().index()), "content": f"content {len(calls)}"})

    assert "index (without reading): is deterministic" in broken(Counts)


def test_an_index_that_reads_the_samples_is_named():
    class Reads(Plain):
        """Read to index."""

        def index(self):
            index = super().index()
            self.read(index)
            return index

    assert "index() calls read(): a plan must not read samples" in broken(Reads)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: np.zeros((59, 8, 8, 1), np.uint8), "returned uint8[59, 8, 8, 1]"),
        (lambda: np.zeros((60, 8, 8, 1)), "returned float64[60, 8, 8, 1]"),
        (
            lambda: np.random.default_rng().integers(0, 256, (60, 8, 8, 1), dtype=np.uint8),
            "read: is deterministic",
        ),
        (
            lambda: np.random.randint(0, 256, (60, 8, 8, 1), np.uint8),
            "read: leaves global generators alone",
        ),
        (lambda: np.full((60, 8, 8, 1), np.nan, np.float32), "features hold NaN"),
    ],
)
def test_samples_that_are_not_what_was_promised_are_named(read, message):
    class Wrong(Plain):
        """Read something else."""

        def read(self, index):
            return read()

    assert message in broken(Wrong)


def test_t02_a_split_of_its_own_that_leaks_or_follows_the_seed_is_named():
    class Leaks(Plain):
        """Test on training rows."""

        def split(self, index, seed, fold=None, folds=None):
            rows = super().split(index, seed, fold, folds)
            return Rows(rows.train, rows.val, rows.train[:10])

    class Seeded(Plain):
        """Take another test set for each seed."""

        def split(self, index, seed, fold=None, folds=None):
            order = np.random.default_rng(seed).permutation(60)
            return Rows(order[:40], order[40:50], order[50:])

    assert "a sample stands in two of train, val and test" in broken(Leaks)
    assert "the test set is the same for every seed" in broken(Seeded)


def test_a_dataset_that_names_its_folds_keeps_the_contract():
    class Folded(Plain):
        """Three folds of its own."""

        def index(self):
            return replace(super().index(), fold=np.arange(60) % 3)

    dataset("folded")(Folded)
    assert not [finding for finding in check_dataset(Folded()) if finding.problem]


def test_a_definition_that_is_not_a_datasets_is_named():
    class Thawed(Plain):
        model_config: ClassVar = {"frozen": False}
        kind: ClassVar = "table"

    message = broken(Thawed)
    assert "is frozen and strict" in message
    assert "derive it from TableDataset" in message

    class Unknown(Plain):
        """Not registered."""

    with pytest.raises(ContractError, match="put @dataset"):
        check_dataset(Unknown())

    class Silent(Plain):
        """Return nothing."""

        def index(self):
            return None

    assert "returned NoneType" in broken(Silent)


def test_parameters_that_do_not_come_back_from_json_are_named():
    class Holds(Plain):
        """Hold what JSON does not."""

        model_config: ClassVar = {"arbitrary_types_allowed": True, "ser_json_inf_nan": "null"}
        where: complex = 1 + 2j

        def config(self):
            return {"name": self.name, "where": [1, 2]}

    assert "survives the way through JSON" in broken(Holds)


def test_rows_of_a_table_are_trained_on():
    @dataset("blobs")
    class Blobs(TableDataset):
        """Two blobs."""

        spread: float = 1.0

        def index(self):
            labels = np.arange(50) % 2
            return Index(labels, ("a", "b"), content_of("blobs", labels, self.spread), (3,))

        def read(self, index):
            noise = np.random.default_rng(0).standard_normal((50, 3), np.float32)
            return noise * np.float32(self.spread) + index.labels[:, None].astype(np.float32)

    check_dataset(Blobs(), changed=Blobs(spread=2.0))
