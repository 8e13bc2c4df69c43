import numpy as np

from harness.analysis.images import Predictions
from harness.analysis.report.misses import _missed
from harness.datasets.records import Data, Index, Rows


def test_only_images_that_are_wrong_on_average_are_shown():
    """Two seeds of three just miss the first image, and the third is sure of it."""
    labels = np.array([1, 1, 0, 0, 0, 0])
    index = Index(labels, ("often", "rare"), "", (2, 2, 1), ids=[f"i{k}" for k in range(6)])
    rows = Rows(np.array([1, 2, 3, 4, 5]), np.array([], int), np.array([0, 1]))
    data = Data("image", np.zeros((6, 2, 2, 1), np.uint8), labels, rows, index, intensity=(0, 255))
    of_truth = [(0.45, 0.1), (0.45, 0.2), (0.95, 0.3)]
    read = [
        Predictions(
            np.array([[1 - a, a], [1 - b, b]], np.float32), np.array([1, 1]), rows.test, None
        )
        for a, b in of_truth
    ]
    ((k, images),) = _missed(data, read, [1, 0], True)
    assert k == 1
    ((_, said),) = images
    assert said == "taken for often, 80 % sure (i1)"
