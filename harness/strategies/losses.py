"""What several losses share: weights of the classes, and cross-entropy on soft targets."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def normalized_weights(class_counts: "Tensor", beta: float | None = None) -> "Tensor":
    """Return one weight per class, ``float32[C]``, which sum to C.

    Args:
        class_counts: ``[C]``, training rows per class.
        beta: None for the inverse, 1/n; else of the effective number, (1 − β) / (1 − β^n)
            (Cui et al. 2019, eq. 2).
    """
    import torch

    counts = class_counts.float()
    # In float32, 1 − 0.9999^1 would have three right digits; expm1 has them all.
    mass = counts if beta is None else -torch.expm1(counts * math.log(beta))
    return len(mass) / mass / (1 / mass).sum()


def weights_of_counts(
    class_counts: NDArray[np.int64], beta: float | None = None
) -> NDArray[np.float64]:
    """Return `normalized_weights` in double precision, without torch; 0 for a class without rows.

    Args:
        class_counts: ``int64[C]``, training rows per class.
        beta: As there.
    """
    counts = np.asarray(class_counts, np.float64)
    mass = counts if beta is None else -np.expm1(counts * math.log(beta))
    inverse = np.divide(1.0, mass, out=np.zeros_like(mass), where=mass > 0)
    total: np.float64 = inverse.sum()
    return len(mass) * inverse / total


def weighted_cross_entropy(logits: "Tensor", targets: "Tensor", weights: "Tensor") -> "Tensor":
    """Return ``B · Σ_c w_c y_ic (−log p_ic) / Σ_j Σ_c w_c y_jc`` for each row i, ``float32[B]``.

    Its batch mean is, for one-hot targets, exactly ``torch.nn.CrossEntropyLoss(weight=w)`` on
    class indices. (PyTorch divides by B for probability targets; that is another loss.)

    Args:
        logits: ``[B, C]``.
        targets: ``[B, C]``, soft.
        weights: ``float32[C]``.
    """
    from torch.nn.functional import log_softmax

    share = targets.float() * weights
    loss = -(share * log_softmax(logits.float(), dim=1)).sum(1)
    return loss * (len(loss) / share.sum())
