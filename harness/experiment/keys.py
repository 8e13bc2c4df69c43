"""The keys of an experiment file and the types of their values, before names are resolved."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from harness.experiment.design import Design

KeepWeights = Literal["all", "best", "none"]

Sampler = Literal["tpe", "random", "gp", "qmc", "cmaes", "nsgaii"]
"""Optuna's samplers that need no more than a seed."""

Pruner = Literal["none", "median"]

Seed = Annotated[int, Field(ge=0, lt=2**63)]

_RESERVED = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)}
)
"""Names that Windows keeps for devices, also with an ending."""

_TAKEN = ("mlflow.db", "mlartifacts", "optuna.db", "reference")
"""What lies in the results folder beside the experiments."""


class Tracking(BaseModel):
    """Where and how results are mirrored.

    Attributes:
        uri: An MLflow tracking server; by default the environment's, else a local database.
        per_class: Most classes whose metrics become MLflow keys of their own; beyond that the
            few-shot and the worst classes do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str | None = None
    per_class: Annotated[int, Field(ge=0, le=300)] = 20


def _short(name: object) -> object:
    """Return ``tpe`` for Optuna's own ``TPESampler``."""
    if not isinstance(name, str):
        return name
    return name.lower().removesuffix("sampler").removesuffix("pruner").replace("_", "")


class Tune(BaseModel):
    """How `harness tune` searches.

    Attributes:
        recipes: What to tune, by name; by default every recipe that has something to tune.
        trials: Trials of each study, in total: more may be asked for later.
        seeds: Seeds of each trial, none of them a report seed; a number stands for the first so
            many from 100 on.
        sampler: Optuna's sampler.
        pruner: Optuna's pruner.
        rule: Decision rule under which a trial is scored on val; one of ``decisions: rules:``.
        space: By path, ``[low, high]`` or the value to hold; nested keys are paths too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipes: Annotated[tuple[str, ...] | None, Field(min_length=1)] = None
    trials: Annotated[int, Field(ge=1, le=10_000)] = 40
    seeds: Annotated[int, Field(ge=1, le=100)] | Annotated[list[Seed], Field(min_length=1)] = 3
    sampler: Annotated[Sampler, BeforeValidator(_short)] = "tpe"
    pruner: Annotated[Pruner, BeforeValidator(_short)] = "none"
    rule: str = "argmax"
    space: dict[str, Any] = {}


class Decide(BaseModel):
    """How finished runs are decided.

    Attributes:
        rules: Decision rules, by name or with parameters; argmax is always there.
        primary: The rule that claims are made with.
        deploy: ``balanced``, ``train``, or a share of each class.
        costs: What mistakes cost, by class or as a matrix by names, true class first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rules: Annotated[list[str | dict[str, Any]], Field(min_length=1)] = ["argmax", "prior"]
    primary: str = "argmax"
    deploy: str | dict[Any, Any] | None = None
    costs: dict[Any, Any] | None = None


class File(BaseModel):
    """The keys of an experiment file, before names are resolved.

    Each can be validated without the others; those in `REQUIRED` are asked for on reading.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = ""
    description: str = ""
    plugins: tuple[str, ...] = ()
    datasets: Annotated[list[Any], Field(min_length=1)] = []
    base: list[Any] = []
    factors: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    design: Design = "factorial"
    exclude: list[dict[str, str]] = []
    recipes: dict[str, list[Any]] = {}
    references: dict[Literal["balanced"], list[str]] = {}
    models: Annotated[list[Any], Field(min_length=1)] = ["tiny_cnn"]
    seeds: Annotated[int, Field(ge=1, le=10_000)] | list[Seed] = 3
    folds: Annotated[int | None, Field(ge=2, le=100)] = None
    training: dict[str, Any] = {}
    metric: str | dict[str, Any] = "balanced_accuracy"
    metrics: list[str | dict[str, Any]] = []
    decisions: dict[str, Any] = {}
    tune: dict[str, Any] | None = None
    keep_weights: KeepWeights = "all"
    weights_gb: Annotated[float, Field(ge=0)] = 2.0
    tracking: dict[str, Any] = {}

    @field_validator("name")
    @classmethod
    def _is_a_folder_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError(
                "a name has up to 100 letters, digits and . _ -, and begins with a letter or "
                f"digit, not {name[:120]!r}"
            )
        if name.endswith(".") or name.partition(".")[0].lower() in _RESERVED:
            raise ValueError(
                f"Windows has no folder '{name}': it takes no dot at the end, and keeps CON, PRN, "
                "AUX, NUL, COM1 to COM9 and LPT1 to LPT9 for devices; choose another name"
            )
        if name.lower() in _TAKEN:
            raise ValueError(f"'{name}' is a part of the results folder; choose another name")
        return name


REQUIRED = ("name", "datasets")
