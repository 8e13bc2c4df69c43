"""The keys of an experiment file and the types of their values, before names are resolved."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness.experiment.design import Design

KeepWeights = Literal["all", "best", "none"]

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
    seeds: Annotated[int, Field(ge=1, le=10_000)] | list[Annotated[int, Field(ge=0, lt=2**63)]] = 3
    folds: Annotated[int | None, Field(ge=2, le=100)] = None
    training: dict[str, Any] = {}
    metric: str = "balanced_accuracy"
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
        if name.lower() in _TAKEN:
            raise ValueError(f"'{name}' is a part of the results folder; choose another name")
        return name


REQUIRED = ("name", "datasets")
