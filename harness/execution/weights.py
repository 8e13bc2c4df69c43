"""Which runs' weights stay on disk."""

from pathlib import Path

from harness.errors import StoreError
from harness.execution.store import Store
from harness.experiment.schema import KeepWeights
from harness.experiment.spec import RunSpec
from harness.metrics import metric_of
from harness.training.run_result import DamagedRunError, recall_run
from harness.training.rundir import WEIGHTS


class WeightKeeper:
    """Keeps weights by a policy, under a disk cap.

    ``all`` keeps every run's until the cap is reached; ``best`` keeps, of each dataset and model,
    those of the run with the best primary metric on val (without val: none is best, and all are
    dropped); ``none`` keeps nothing.

    Args:
        store: Where committed runs are.
        policy: As above.
        cap_gb: Most the kept weights may take, in GB of 10**9 bytes.
    """

    def __init__(self, store: Store, policy: KeepWeights, cap_gb: float) -> None:
        self._policy = policy
        self._cap = cap_gb * 1e9
        self._sizes: dict[str, int] = {}
        self._best: dict[tuple[str, ...], tuple[float, Path, str]] = {}
        self._store = store
        for stored in store.runs().values():
            weights = stored.path / WEIGHTS
            if weights.exists():
                self._sizes[stored.key] = weights.stat().st_size
                if policy == "best":
                    self._remember(stored.path)

    def _remember(self, path: Path) -> None:
        try:
            spec = recall_run(path).spec()
            value = _value(spec, path)
        except StoreError:  # a damaged run, or one of a plugin that is gone
            return
        known = self._best.get(_group(spec))
        if value is not None and (known is None or value > known[0]):
            self._best[_group(spec)] = (value, path, spec.key)

    def admit(self, spec: RunSpec, attempt: Path) -> bool:
        """Drop weights that may not stay; return False if it was the cap that dropped them."""
        # an earlier run of this key gives way to this one, and its weights with it
        self._sizes.pop(spec.key, None)
        self._best = {group: best for group, best in self._best.items() if best[2] != spec.key}
        weights = attempt / WEIGHTS
        if not weights.exists():
            return True
        if self._policy == "none" or (self._policy == "best" and not self._is_best(spec, attempt)):
            weights.unlink()
            return True
        size = weights.stat().st_size
        if sum(self._sizes.values()) + size > self._cap:
            weights.unlink()
            return False
        self._sizes[spec.key] = size
        return True

    def _is_best(self, spec: RunSpec, attempt: Path) -> bool:
        value = _value(spec, attempt)
        group = _group(spec)
        known = self._best.get(group)
        if value is None or (known is not None and value <= known[0]):
            return False
        if known is not None:
            self._drop(*known[1:])
        self._best[group] = (value, self._store.folder_of(spec), spec.key)
        return True

    def _drop(self, path: Path, key: str) -> None:
        self._sizes.pop(key, None)
        (path / WEIGHTS).unlink(missing_ok=True)


def _group(spec: RunSpec) -> tuple[str, ...]:
    return spec.dataset_label, spec.reference, spec.model.label()


def _value(spec: RunSpec, path: Path) -> float | None:
    """Return the primary metric on val, larger is better."""
    try:
        value = recall_run(path).metric("val", spec.metric)
    except DamagedRunError:
        return None
    if value is None:
        return None
    return float(value) if metric_of(spec.metric).higher_is_better else -float(value)
