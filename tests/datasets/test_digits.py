import subprocess
import sys

import numpy as np

from harness.datasets.digits import Digits


def test_shipped_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    theirs = load_digits()
    ours = Digits()
    index = ours.index()
    np.testing.assert_array_equal(index.labels, theirs.target)
    expected = theirs.images.astype(np.int64) * 255 // 16
    images = ours.read(index)
    assert images.dtype == np.uint8
    assert images.shape == (1797, 8, 8, 1)
    np.testing.assert_array_equal(images[..., 0], expected)
    assert (images.min(), images.max()) == (0, 255)


def test_digits_index_and_defaults():
    digits = Digits()
    index = digits.index()
    assert index.class_names == tuple("0123456789")
    assert index.shape == (8, 8, 1)
    assert index.content == digits.index().content
    assert digits.horizontal_flip is False
    counts = digits.info().counts
    assert counts.sum() == 1797
    assert abs(counts[2].sum() / 1797 - 0.3) < 0.01


def test_digits_load_without_scikit_learn_or_torch():
    code = (
        "import sys; from harness.datasets.digits import Digits; "
        "data = Digits(imbalance_factor=20).load(0); print(data.train_counts.tolist()); "
        "assert not {'sklearn', 'torch', 'scipy', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    counts = [int(n) for n in done.stdout.strip("[]\n").split(",")]
    assert counts[0] / counts[-1] == 20
    assert counts == sorted(counts, reverse=True)
