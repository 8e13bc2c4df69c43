"""`RunSpec`: the frozen description of one training, and its identity.

The key is the content hash of everything that changes the result, and of nothing else: not of
names, labels, order, device, workers, paths or tracking. Fields at their default are dropped, so
that a new optional field keeps old keys; each part carries a `version`, raised when the same
parameters come to mean something else.
"""

import functools
import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from harness.datasets.base import Dataset
from harness.experiment.canonical import canonical_json
from harness.metrics import metric_of
from harness.registry import datasets, load_plugins, strategies
from harness.strategies.base import Strategy, canonical

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Model(BaseModel):
    """A network by name.

    Attributes:
        name: ``tiny_cnn``, ``mlp``, ``resnet32``, ``resnet18`` (CIFAR stem), any torchvision
            classification model (``torchvision/NAME``), or ``timm/NAME``.
        weights: A file of weights, or the library's name for published ones (``DEFAULT``).
        freeze: ``backbone`` trains the head alone; batch-norm statistics stay as they are.
        width: Channels of ``tiny_cnn``, hidden units of ``mlp``.
    """

    model_config = _STRICT
    version: ClassVar[int] = 1

    name: str
    weights: str | None = None
    freeze: Literal["none", "backbone"] = "none"
    width: Annotated[int | None, Field(ge=1)] = None

    def label(self) -> str:
        """Return the name with the parameters that were set."""
        inner = [f"{key}={value}" for key, value in self.config().items() if key != "name"]
        return f"{self.name}({','.join(inner)})" if inner else self.name

    def config(self) -> dict[str, Any]:
        """Return the model as an experiment file would write it."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def identity(self) -> dict[str, Any]:
        """Return what of the model changes a result; a file of weights counts by its content."""
        config = self.config()
        # os.path.isfile answers False where pathlib raises: a name too long
        if self.weights is not None and os.path.isfile(file := os.path.expanduser(self.weights)):
            config["weights"] = "sha256:" + file_digest(Path(file))
        return {"version": self.version, **config}


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class Schedule(BaseModel):
    """The learning rate over the budget, in fractions of it.

    Attributes:
        name: ``constant``, ``cosine`` (to 0) or ``multistep``.
        warmup: Fraction of the budget over which the rate rises linearly.
        milestones: Where ``multistep`` multiplies the rate by `gamma`, as fractions.
        gamma: The factor of each milestone.
    """

    model_config = _STRICT

    name: Literal["constant", "cosine", "multistep"] = "cosine"
    warmup: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    milestones: tuple[Share, ...] = ()
    gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1

    @model_validator(mode="after")
    def _milestones_belong_to_multistep(self) -> Self:
        if (self.name == "multistep") != bool(self.milestones):
            raise ValueError("milestones are given with multistep, and only with it")
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError("milestones must rise")
        return self

    def factor(self, step: int, steps: int) -> float:
        """Return the multiple of the base rate at `step` of `steps`."""
        rise = self.warmup * steps
        if step < rise:
            return min((step + 1) / rise, 1.0)
        if self.name == "multistep":
            # in floats, a fraction of the budget may come out a hair above a whole step
            passed = sum(step >= milestone * steps - 1e-6 for milestone in self.milestones)
            return float(self.gamma**passed)
        if self.name == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(steps - rise, 1.0)))
        return 1.0


class Training(BaseModel):
    """The budget and the optimiser, the same for every recipe.

    Attributes:
        epochs: Passes over the *original* training set that the budget is worth.
        max_steps: Cuts the budget to this many steps.
        batch_size: Rows per step; every batch is full.
        optimizer: ``sgd`` or ``adamw``.
        lr: Base learning rate.
        momentum: Of SGD.
        nesterov: Nesterov momentum for SGD.
        weight_decay: On every parameter.
        schedule: The learning rate over the budget.
        eval_every: Fraction of the budget between evaluations on val; 1/eval_every is rounded
            to a whole number of them.
        select: Weights to report: of the ``last`` step, or the ``best`` by the primary metric
            on val.
        label_smoothing: Share of the target spread evenly over the classes.
    """

    model_config = _STRICT
    version: ClassVar[int] = 1

    epochs: Annotated[float, Field(gt=0.0)] = 30.0
    max_steps: Annotated[int | None, Field(ge=1)] = None
    batch_size: Annotated[int, Field(ge=1)] = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0.0)] = 0.1
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0.0)] = 5e-4
    schedule: Annotated[Schedule, BeforeValidator(_named)] = Schedule()
    eval_every: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    select: Literal["last", "best"] = "last"
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.optimizer == "sgd" and self.momentum == 0.0:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    def steps(self, train_size: int) -> int:
        """Return ``ceil(epochs · N / batch_size)`` with N the original training size."""
        # exact in the decimals of the file: in floats, 0.07 · 100 is more than 7
        whole = max(1, math.ceil(Fraction(str(self.epochs)) * train_size / self.batch_size))
        return whole if self.max_steps is None else min(whole, self.max_steps)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate at `step` of `steps`."""
        return self.lr * self.schedule.factor(step, steps)

    def identity(self) -> dict[str, Any]:
        """Return what of the training block changes a result."""
        return {"version": self.version, **self.model_dump(mode="json", exclude_defaults=True)}


@dataclass(frozen=True)
class RunSpec:
    """One training.

    Attributes:
        dataset: The source, with its imbalance and splits.
        content: Fingerprint of what the source holds.
        strategies: The recipe with the experiment's base, in canonical order.
        model: The network.
        training: Budget and optimiser.
        metric: Label of the primary metric; part of the identity only where it chooses weights.
        seed: Decides val, initial weights and every random decision of the run.
        fold: Which fold is the test set, or None.
        folds: Number of folds, or None.
        experiment: Name of the experiment; not identity, like all that follows.
        recipe: Name of the recipe.
        levels: Level of each factor, by factor.
        plugins: What a fresh process must import to know every name.
        metrics: Labels of metrics besides the primary and the standard ones.
    """

    dataset: Dataset
    content: str
    strategies: tuple[Strategy, ...]
    model: Model
    training: Training
    metric: str
    seed: int
    fold: int | None = None
    folds: int | None = None
    experiment: str = ""
    recipe: str = ""
    levels: tuple[tuple[str, str], ...] = ()
    plugins: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of `identity` as canonical JSON."""
        members = self._shared | _texts(self._drawn())
        text = ",".join(f'"{name}":{members[name]}' for name in sorted(members))
        return hashlib.sha256(f"{{{text}}}".encode()).hexdigest()[:12]

    def identity(self) -> dict[str, Any]:
        """Return everything that changes the result, and nothing else."""
        return self._lasting() | self._drawn()

    def _lasting(self) -> dict[str, Any]:
        """Return what of the identity is the same for every seed and fold."""
        return {
            "dataset": self.dataset.identity(),
            "content": self.content,
            "strategies": [s.identity() for s in self.strategies],
            "model": self.model.identity(),
            "training": self.training.identity(),
            **(self._chooser() if self.training.select == "best" else {}),
        }

    def _chooser(self) -> dict[str, Any]:
        """Return what chooses the weights; its version once it has been raised."""
        version = metric_of(self.metric).version
        return {"metric": self.metric, **({"metric_version": version} if version > 1 else {})}

    def _drawn(self) -> dict[str, Any]:
        """Return what of the identity is of this seed and fold."""
        fold = {} if self.fold is None else {"fold": [self.fold, self.folds]}
        return {"seed": self.seed, **fold}

    @cached_property
    def settings(self) -> str:
        """Twelve digits of what of the identity is the same for every seed and fold."""
        text = ",".join(f"{name}:{value}" for name, value in sorted(self._shared.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def _shared(self) -> dict[str, str]:
        return _texts(self._lasting())

    def at(self, seed: int, fold: int | None) -> Self:
        """Return the same run for another seed and fold, without working out the rest again."""
        other = replace(self, seed=seed, fold=fold)
        other.__dict__.update(_shared=self._shared, settings=self.settings)
        return other

    def of(
        self, recipe: str, strategies: tuple[Strategy, ...], levels: tuple[tuple[str, str], ...]
    ) -> Self:
        """Return the same run of another recipe, without working out the rest again."""
        other = replace(self, recipe=recipe, strategies=strategies, levels=levels)
        texts = _texts({"strategies": [s.identity() for s in strategies]})
        other.__dict__["_shared"] = self._shared | texts
        return other

    def versions(self) -> dict[str, int]:
        """Return the version of each part that has one, by what messages call it."""
        return {
            f"dataset '{self.dataset.name}'": self.dataset.version,
            f"model '{self.model.name}'": self.model.version,
            "training": self.training.version,
            **{f"strategy '{s.name}'": s.version for s in self.strategies},
        }

    @property
    def reference(self) -> str:
        """``"balanced"`` for a run of the balanced reference, else empty."""
        return "balanced" if self.dataset.balanced else ""

    @property
    def dataset_label(self) -> str:
        """What tables call the dataset; the balanced reference is told apart by `reference`."""
        return self.dataset.display()

    @property
    def slug(self) -> str:
        """A readable part of the folder name; the key is what identifies it."""
        parts = [self.dataset_label, self.reference, self.recipe, self.model.name, f"s{self.seed}"]
        if self.fold is not None:
            parts.append(f"f{self.fold}")
        text = "-".join(part for part in parts if part)
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.+") else "_" for c in text)
        return safe[:80].strip(".-_ ") or "run"

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON values; `from_json` reads it in any process."""
        return {
            "key": self.key,
            "experiment": self.experiment,
            "recipe": self.recipe,
            "levels": dict(self.levels),
            "dataset": self.dataset.config(),
            "content": self.content,
            "strategies": [{"name": s.name, **s.parameters()} for s in self.strategies],
            "model": self.model.config(),
            "training": self.training.model_dump(mode="json", exclude_defaults=True),
            "metric": self.metric,
            "seed": self.seed,
            "fold": self.fold,
            "folds": self.folds,
            "plugins": list(self.plugins),
            **({"metrics": list(self.metrics)} if self.metrics else {}),
            "versions": self.versions(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a spec from `to_json`, importing its plugins."""
        load_plugins(data["plugins"])
        source = dict(data["dataset"])
        return cls(
            dataset=datasets.get(source.pop("name")).model_validate(source),
            content=data["content"],
            strategies=tuple(_strategy(item) for item in data["strategies"]),
            model=Model.model_validate(data["model"]),
            training=Training.model_validate(data["training"]),
            metric=data["metric"],
            seed=data["seed"],
            fold=data["fold"],
            folds=data["folds"],
            experiment=data["experiment"],
            recipe=data["recipe"],
            levels=tuple(data["levels"].items()),
            plugins=tuple(data["plugins"]),
            metrics=tuple(data.get("metrics", ())),
        )


def _strategy(item: Mapping[str, Any]) -> Strategy:
    parameters = dict(item)
    built: Strategy = strategies.get(parameters.pop("name")).model_validate(parameters)
    return built


def _texts(parts: Mapping[str, Any]) -> dict[str, str]:
    return {name: canonical_json(value) for name, value in parts.items()}


def recipe_of(base: tuple[Strategy, ...], extra: tuple[Strategy, ...]) -> tuple[Strategy, ...]:
    """Return base and recipe together, in canonical order."""
    return canonical(base + extra)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, remembered while its size and time stay the same."""
    state = path.stat()
    return _file_digest(str(path.resolve()), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _file_digest(path: str, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
