from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.errors import ConfigError, DataError
from harness.experiment.tree import Tree
from harness.experiment.validate import Problems
from harness.registry import strategies


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    warmup: float = 0.0
    kind: Literal["cosine", "constant"] = "cosine"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    epochs: Annotated[float, Field(gt=0)] = 1.0
    batch: int = 8
    nesterov: bool = False
    inner: Inner = Inner()
    seeds: Annotated[int, Field(ge=1)] | list[Annotated[int, Field(ge=0)]] = 1
    pair: tuple[float, float] | None = None
    names: dict[str, list[str]] = {}
    path: Path = Path()
    listed: Annotated[list[int], Field(min_length=1, alias="list")] = [1]

    @model_validator(mode="after")
    def _check(self):
        if self.batch == 13:
            raise ValueError("13 is no batch")
        if self.batch == 14:
            raise DataError("14 is no batch either")
        return self


def problems_in(values):
    problems = Problems(Tree("f.yaml", "a: 1"))
    assert problems.build(Outer, values, ("at", 0), "outer") is None
    with pytest.raises(ConfigError) as error:
        problems.raise_if_any()
    return [line.removeprefix("f.yaml: at[0]") for line in str(error.value).split("\n")]


def test_what_is_right_is_built():
    problems = Problems(Tree("f.yaml", "a: 1"))
    built = problems.build(
        Outer, {"epochs": 3, "inner": {"warmup": 0.5}, "list": [2], "pair": [0, 1]}, (), "outer"
    )
    assert built == Outer(epochs=3.0, inner=Inner(warmup=0.5), list=[2], pair=(0.0, 1.0))
    assert len(problems) == 0
    problems.raise_if_any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": "x"}, ".epochs: expected a number, not 'x'"),
        ({"epochs": 0}, ".epochs: must be greater than 0, not 0"),
        ({"epochs": float("nan")}, ".epochs: expected a finite number, not nan"),
        ({"epochs": float("-inf")}, ".epochs: expected a finite number, not -inf"),
        ({"epochs": None}, ".epochs: expected a number, not null"),
        ({"epochs": True}, ".epochs: expected a number, not true"),
        ({"batch": False}, ".batch: expected a number, not false"),
        ({"batch": 1.5}, ".batch: expected a whole number, not 1.5"),
        ({"batch": "many"}, ".batch: expected a whole number, not 'many'"),
        ({"batch": [1]}, ".batch: expected a whole number, not [1]"),
        ({"batch": 13}, ": 13 is no batch"),
        ({"batch": 14}, ": 14 is no batch either"),
        ({"nesterov": "perhaps"}, ".nesterov: expected true or false, not 'perhaps'"),
        ({"inner": 3}, ".inner: expected keys and values, not 3"),
        ({"inner": {"warmup": True}}, ".inner.warmup: expected a number, not true"),
        (
            {"inner": {"kind": "cosin"}},
            ".inner.kind: expected 'cosine' or 'constant', not 'cosin'; did you mean 'cosine'?",
        ),
        (
            {"inner": {"warmpu": 1}},
            ".inner.warmpu: unknown key for 'inner'; did you mean 'warmup'? "
            "(accepts: kind, warmup)",
        ),
        ({"seeds": 0}, ".seeds: must be greater than or equal to 1 or expected a list, not 0"),
        ({"seeds": "x"}, ".seeds: expected a whole number or expected a list, not 'x'"),
        ({"seeds": [0, -1]}, ".seeds[1]: must be greater than or equal to 0, not -1"),
        ({"seeds": [True]}, ".seeds[0]: expected a number, not true"),
        ({"pair": [1]}, ".pair[1]: a value is missing"),
        ({"pair": [1, 2, 3]}, ".pair: expected at most 2 items, not 3"),
        ({"pair": [1, "x"]}, ".pair[1]: expected a number, not 'x'"),
        ({"names": {"a": 3}}, ".names.a: expected a list, not 3"),
        ({"names": {"a": [3]}}, ".names.a[0]: expected text, not 3"),
        ({"names": {1: []}}, ".names[1]: expected text, not 1"),
        ({"path": 3}, ".path: expected a path, not 3"),
        ({"list": []}, ".list: expected at least 1 items, not 0"),
        (3, ": expected keys of outer, not 3"),
        (None, ": expected keys of outer, not null"),
        (["x"], ": expected keys of outer, not ['x']"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_its_place(values, message):
    assert problems_in(values) == [message]


def test_an_alias_is_offered_and_the_field_behind_it_is_not():
    (line,) = problems_in({"lisst": [1]})
    assert "did you mean 'list'?" in line
    assert "listed" not in line


def test_all_problems_are_told_at_once_and_none_twice():
    lines = problems_in({"epochs": 0, "batch": "x", "inner": {"a": 1, "b": 2}})
    assert [line.split(":")[0] for line in lines] == [".epochs", ".batch", ".inner.a", ".inner.b"]
    problems = Problems(Tree("f.yaml", "a: 1"))
    problems.add(("a",), "is wrong")
    problems.add(("a",), "is wrong")
    with pytest.raises(ConfigError) as error:
        problems.raise_if_any()
    assert str(error.value) == "f.yaml:1: a: is wrong"


def test_a_long_value_is_cut():
    (line,) = problems_in({"batch": "x" * 10_000})
    assert len(line) < 120


def named(values, default=None):
    problems = Problems(Tree("f.yaml", "a: 1"))
    built = problems.named(strategies, values, ("base", 0), default)
    try:
        problems.raise_if_any()
    except ConfigError as error:
        return built, str(error).removeprefix("f.yaml: base[0]")
    return built, ""


@pytest.mark.parametrize(
    ("values", "default", "label"),
    [
        ("mixup", None, "mixup"),
        ({"name": "mixup"}, None, "mixup"),
        ({"name": "mixup", "alpha": 0.2}, None, "mixup(alpha=0.2)"),
        ({"alpha": 0.2}, "mixup", "mixup(alpha=0.2)"),
        ({}, "mixup", "mixup"),
        ({"name": "cutmix"}, "mixup", "cutmix"),
    ],
)
def test_a_name_or_keys_with_a_name_pick_the_class(values, default, label):
    built, message = named(values, default)
    assert message == ""
    assert built.label() == label


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (3, ": expected a strategy (a name, or keys with a name)"),
        (None, ": expected a strategy (a name, or keys with a name)"),
        (["mixup"], ": expected a strategy (a name, or keys with a name)"),
        ({"alpha": 1}, ": a strategy needs a name (one of: augment, balanced_mixup"),
        ({"name": 3}, ": a strategy needs a name (one of: "),
        ("mixp", ": unknown strategy 'mixp'; did you mean 'mixup'? (available: augment,"),
        ({"name": "mixp"}, ".name: unknown strategy 'mixp'; did you mean 'mixup'?"),
        ({"name": "mixup", "alhpa": 1}, ".alhpa: unknown key for 'mixup'; did you mean 'alpha'? "),
    ],
)
def test_what_picks_no_class_is_told(values, message):
    built, found = named(values)
    assert built is None
    assert found.startswith(message)
