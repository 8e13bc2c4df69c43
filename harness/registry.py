"""Names that a user writes, and the classes they stand for.

A registry maps a name to a class or to a lazy ``"module:Class"`` string, so that listing names
imports nothing. A built-in is a plugin that ships in the box: it stands here as a string. Plugins
register themselves by decorator when their module is imported, by `load_plugins` or through the
entry-point group ``harness.plugins``.
"""

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import ConfigError, did_you_mean, listing

ENTRY_POINT_GROUP = "harness.plugins"

C = TypeVar("C", bound=type)


class Registry:
    """Classes of one kind by name.

    Args:
        kind: What the classes are, as it appears in messages: ``"strategy"``.
        builtin: Lazy ``"module:Class"`` strings by name.
    """

    def __init__(self, kind: str, builtin: dict[str, str]) -> None:
        self.kind = kind
        self._entries: dict[str, type | str] = dict(builtin)

    def register(self, name: str) -> Callable[[C], C]:
        """Return a decorator that adds a class under `name` and sets its ``name`` attribute.

        Raises:
            ConfigError: `name` already stands for another class.
        """

        def decorate(cls: C) -> C:
            known = self._entries.get(name)
            if known is not None and not self._same(known, cls):
                raise ConfigError(f"{self.kind} '{name}' is already registered as {known}")
            cls.name = name  # type: ignore[attr-defined]
            self._entries[name] = cls
            return cls

        return decorate

    @staticmethod
    def _same(known: type | str, cls: type) -> bool:
        """Whether both are one class by place: a module loaded twice may register itself again."""
        place = f"{cls.__module__}:{cls.__qualname__}"
        return place == (
            known if isinstance(known, str) else f"{known.__module__}:{known.__qualname__}"
        )

    def get(self, name: str) -> Any:
        """Return the class of `name`, importing its module if need be.

        Raises:
            ConfigError: The name is unknown; the message lists what there is.
        """
        load_entry_points()
        entry = self._entries.get(name)
        if entry is None:
            raise ConfigError(
                f"unknown {self.kind} '{name}'{did_you_mean(name, self._entries)} "
                f"(available: {listing(sorted(self._entries), 60)})"
            )
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = getattr(importlib.import_module(module), attribute)
            self._entries[name] = entry
        return entry

    def names(self) -> list[str]:
        """Return every name, sorted."""
        load_entry_points()
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        load_entry_points()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    @contextmanager
    def temporary(self) -> Iterator[None]:
        """Forget on leaving whatever was registered inside (for tests)."""
        saved = dict(self._entries)
        try:
            yield
        finally:
            self._entries = saved


strategies = Registry(
    "strategy",
    {
        "augment": "harness.strategies.augment:Augment",
        "weighted_sampler": "harness.strategies.weighted_sampler:WeightedSampler",
        "stratified_batches": "harness.strategies.stratified_batches:StratifiedBatches",
        "smote": "harness.strategies.smote:Smote",
        "mixup": "harness.strategies.mixup:MixUp",
        "cutmix": "harness.strategies.cutmix:CutMix",
        "class_weights": "harness.strategies.class_weights:ClassWeights",
        "focal": "harness.strategies.focal:Focal",
        "balanced_softmax": "harness.strategies.balanced_softmax:BalancedSoftmax",
        "ldam": "harness.strategies.ldam:Ldam",
        "remix": "harness.strategies.remix:Remix",
        "cmo": "harness.strategies.cmo:Cmo",
        "balanced_mixup": "harness.strategies.balanced_mixup:BalancedMixUp",
        "logit_adjusted": "harness.strategies.logit_adjusted:LogitAdjusted",
        "label_aware_smoothing": "harness.strategies.label_aware_smoothing:LabelAwareSmoothing",
        "random_over_sampling": "harness.strategies.random_sampling:RandomOverSampling",
        "random_under_sampling": "harness.strategies.random_sampling:RandomUnderSampling",
        "progressive_sampler": "harness.strategies.progressive_sampler:ProgressiveSampler",
    },
)

datasets = Registry(
    "dataset",
    {
        "digits": "harness.datasets.digits:Digits",
        "shapes": "harness.datasets.shapes:Shapes",
        "cifar10": "harness.datasets.torchvision:Cifar10",
        "cifar100": "harness.datasets.torchvision:Cifar100",
        "mnist": "harness.datasets.torchvision:Mnist",
        "fashion_mnist": "harness.datasets.torchvision:FashionMnist",
        "kmnist": "harness.datasets.torchvision:Kmnist",
        "svhn": "harness.datasets.torchvision:Svhn",
        "image_folder": "harness.datasets.image_folder:ImageFolder",
        "manifest": "harness.datasets.manifest:Manifest",
        "table": "harness.datasets.table:Table",
    },
)

rules = Registry(
    "decision rule",
    {
        "argmax": "harness.decisions.plain:Argmax",
        "temperature": "harness.decisions.plain:Temperature",
        "prior": "harness.decisions.plain:Prior",
        "prior_tuned": "harness.decisions.tuned:PriorTuned",
        "thresholds": "harness.decisions.tuned:Thresholds",
        "costs": "harness.decisions.costs:Costs",
        "sensitivity": "harness.decisions.sensitivity:Sensitivity",
    },
)

metrics = Registry(
    "metric",
    {
        "accuracy": "harness.metrics.decided:Accuracy",
        "balanced_accuracy": "harness.metrics.decided:BalancedAccuracy",
        "macro_f1": "harness.metrics.decided:MacroF1",
        "worst_class_recall": "harness.metrics.decided:WorstClassRecall",
        "g_mean": "harness.metrics.decided:GMean",
        "mcc": "harness.metrics.decided:Mcc",
        "macro_auc": "harness.metrics.ranked:MacroAuc",
        "ece": "harness.metrics.ranked:Ece",
        "nll": "harness.metrics.ranked:Nll",
        "recall_many": "harness.metrics.decided:RecallMany",
        "recall_medium": "harness.metrics.decided:RecallMedium",
        "recall_few": "harness.metrics.decided:RecallFew",
        "macro_average_precision": "harness.metrics.ranked:MacroAveragePrecision",
        "rare_average_precision": "harness.metrics.ranked:RareAveragePrecision",
        "rare_roc_auc": "harness.metrics.ranked:RareRocAuc",
        "rare_precision": "harness.metrics.decided:RarePrecision",
        "rare_recall": "harness.metrics.decided:RareRecall",
        "rare_f1": "harness.metrics.decided:RareF1",
        "f_beta": "harness.metrics.decided:FBeta",
        "expected_cost": "harness.metrics.decided:ExpectedCost",
        "sensitivity_at_specificity": "harness.metrics.ranked:SensitivityAtSpecificity",
        "partial_auc": "harness.metrics.ranked:PartialAuc",
        "precision_at_k": "harness.metrics.ranked:PrecisionAtK",
    },
)


@functools.cache
def load_entry_points() -> None:
    """Import the modules that installed packages offer under ``harness.plugins``, once."""
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        entry.load()


def load_plugins(plugins: Iterable[str]) -> None:
    """Import each plugin so that its decorators run.

    Args:
        plugins: Importable module names or paths of ``.py`` files.

    Raises:
        ConfigError: A module or file does not exist or is not a Python file.
    """
    for plugin in plugins:
        if plugin.endswith(".py") or "/" in plugin or "\\" in plugin:
            _load_file(Path(plugin))
        else:
            _load_module(plugin)


def _load_module(name: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"plugin '{name}': neither the name of a module nor the path of a file")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the plugin exists, but something that it imports does not
        raise ConfigError(
            f"plugin '{name}': no such module is importable from here; "
            f"a file is given by its path, such as ./{name}.py"
        ) from None
    except SystemExit as error:
        raise _exits(name, error) from None


def _load_file(path: Path) -> None:
    # os.path answers False where pathlib raises: an unknown ~user, a name too long
    path = Path(os.path.abspath(os.path.expanduser(path)))
    if not os.path.isfile(path) or path.suffix != ".py":
        raise ConfigError(f"plugin '{path}': no such Python file")
    path = path.resolve()
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    name = f"harness_plugin_{path.stem}_{digest}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SystemExit as error:
        del sys.modules[name]
        raise _exits(str(path), error) from None
    except BaseException:
        del sys.modules[name]
        raise


def _exits(plugin: str, error: SystemExit) -> ConfigError:
    return ConfigError(
        f"plugin '{plugin}' calls sys.exit({error.code!r}) when it is imported; put what it does "
        "as a script under `if __name__ == '__main__':`"
    )
