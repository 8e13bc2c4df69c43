"""The prior of a stored run: from its spec and its result alone, and on data of known posterior."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.decisions.priors import TrainedPrior
from harness.errors import ConfigError
from harness.experiment.expand import expand
from harness.experiment.schema import load
from harness.experiment.spec import RunSpec
from harness.experiment.trained_prior import expanded_counts, phases, trained_prior
from harness.strategies.base import Batch, Mix, Windowed, strategy
from harness.training.run import drain
from harness.training.run_options import RunOptions

MEANS = np.array([[0.0, 0.0], [1.5, 0.0], [0.5, 1.6]])
TRAIN = (1500, 200, 40)


def result(delivered: list[int], **changes: Any) -> dict[str, Any]:
    found = {
        "class_names": ["a", "b", "c"],
        "train_counts": [60, 30, 10],
        "synthetic": 0,
        "steps": 100,
        "selected_step": 100,
        "delivered": delivered,
    }
    return {**found, **changes}


def shares_of(prior: TrainedPrior) -> np.ndarray:
    assert prior.shares is not None, prior.reason
    return prior.shares


@pytest.fixture
def spec_of(make_spec: Callable[..., RunSpec]) -> Callable[..., RunSpec]:
    def make(*recipe: Any, **training: Any) -> RunSpec:
        return make_spec(
            list(recipe) or None,
            training={"epochs": 3, "batch_size": 8, "lr": 0.1, "schedule": "constant", **training},
        )

    return make


def test_shuffled_rows_and_mixup_carry_what_was_delivered(spec_of: Callable[..., RunSpec]) -> None:
    for recipe in ([], ["mixup"], ["cutmix", "mixup"]):
        found = shares_of(trained_prior(spec_of(*recipe), result([480, 240, 80])))
        np.testing.assert_allclose(found, [0.6, 0.3, 0.1])


def test_what_a_sampler_delivered_is_taken_from_the_run(spec_of: Callable[..., RunSpec]) -> None:
    found = shares_of(trained_prior(spec_of("weighted_sampler"), result([280, 250, 270])))
    np.testing.assert_allclose(found, np.array([280, 250, 270]) / 800)


def test_of_a_deferred_sampler_the_last_window_counts(spec_of: Callable[..., RunSpec]) -> None:
    # 80 steps of 8 shuffled rows delivered 384, 192 and 64; the last 20 steps 53, 54 and 53
    deferred = spec_of({"name": "weighted_sampler", "start": 0.8})
    found = phases(deferred, result([437, 246, 117]))
    assert not isinstance(found, str)
    assert [(p.first, p.last) for p in found] == [(0, 80), (80, 100)]
    np.testing.assert_allclose(found[0].shares, [0.6, 0.3, 0.1])
    np.testing.assert_allclose(found[1].shares, np.array([53, 54, 53]) / 160)
    np.testing.assert_allclose(
        shares_of(trained_prior(deferred, result([437, 246, 117]))), np.array([53, 54, 53]) / 160
    )


def test_a_sampler_that_stops_leaves_the_shuffled_rest(spec_of: Callable[..., RunSpec]) -> None:
    early = spec_of({"name": "weighted_sampler", "stop": 0.5})
    found = shares_of(trained_prior(early, result([373, 254, 173])))
    np.testing.assert_allclose(found, [0.6, 0.3, 0.1])


def test_too_low_a_learning_rate_in_the_last_window_leaves_it_unknown(
    spec_of: Callable[..., RunSpec],
) -> None:
    late = spec_of({"name": "class_weights", "start": 0.98})
    assert "too low for the outputs to follow" in trained_prior(late, result([480, 240, 80])).reason
    # at equal shares in both windows nothing has to be followed
    even = result([272, 264, 264], train_counts=[34, 33, 33])
    assert trained_prior(late, even).shares is not None


def test_weights_of_an_earlier_step_carry_the_prior_of_then(
    spec_of: Callable[..., RunSpec],
) -> None:
    deferred = spec_of({"name": "weighted_sampler", "start": 0.8})
    found = shares_of(trained_prior(deferred, result([437, 246, 117], selected_step=60)))
    np.testing.assert_allclose(found, [0.6, 0.3, 0.1])


def test_only_the_steps_before_the_weights_were_chosen_move_them(
    spec_of: Callable[..., RunSpec],
) -> None:
    deferred = spec_of({"name": "weighted_sampler", "start": 0.5})
    counts = [373, 254, 173]
    assert trained_prior(deferred, result(counts, selected_step=100)).shares is not None
    just = trained_prior(deferred, result(counts, selected_step=51))
    assert "too low for the outputs to follow" in just.reason


def test_the_label_mass_that_a_run_recorded_is_taken(spec_of: Callable[..., RunSpec]) -> None:
    mass = [
        {"first": 0, "last": 80, "mass": [384, 192, 64]},
        {"first": 80, "last": 100, "mass": [60.5, 40.0, 59.5]},
    ]
    twice = spec_of({"name": "weighted_sampler", "start": 0.8}, {"name": "remix", "start": 0.8})
    found = phases(twice, result([437, 246, 117], label_mass=mass))
    assert not isinstance(found, str)
    assert [(p.first, p.last) for p in found] == [(0, 80), (80, 100)]
    shares = shares_of(trained_prior(twice, result([437, 246, 117], label_mass=mass)))
    np.testing.assert_allclose(shares, np.array([60.5, 40.0, 59.5]) / 160)


def test_a_last_phase_that_hardly_trains_changes_nothing(spec_of: Callable[..., RunSpec]) -> None:
    mass = [
        {"first": 0, "last": 98, "mass": [500, 200, 84]},
        {"first": 98, "last": 100, "mass": [10, 5, 1]},
    ]
    cmo = spec_of({"name": "cmo", "start": 0.0}, schedule="cosine")
    shares = shares_of(trained_prior(cmo, result([480, 240, 80], label_mass=mass)))
    np.testing.assert_allclose(shares, np.array([500, 200, 84]) / 784)


@pytest.mark.parametrize(("lr", "tenths"), [(0.1, 1), (0.001, 3), (0.0001, 10)])
def test_of_a_sampler_that_shifts_as_much_of_its_end_counts_as_was_enough(
    lr: float, tenths: int, spec_of: Callable[..., RunSpec]
) -> None:
    shares = [np.array([0.6, 0.3, 0.1]) * (1 - t) + t / 3 for t in np.linspace(0.05, 0.95, 10)]
    mass = [
        {"first": 100 * i, "last": 100 * i + 100, "mass": (800 * part).tolist()}
        for i, part in enumerate(shares)
    ]
    whole = {"steps": 1000, "selected_step": 1000, "label_mass": mass}
    spec = spec_of("progressive_sampler", lr=lr)
    found = shares_of(trained_prior(spec, result([4800, 2400, 800], **whole)))
    # a sum of 3 is enough: at momentum 0.9 a tenth of these steps has 1,000 times the learning rate
    np.testing.assert_allclose(found, np.mean(shares[-tenths:], axis=0))


def test_a_loss_and_a_sampler_together(spec_of: Callable[..., RunSpec]) -> None:
    both = spec_of("weighted_sampler", "balanced_softmax")
    found = shares_of(trained_prior(both, result([267, 267, 266])))
    expected = np.array([267, 267, 266]) / np.array([60, 30, 10])
    np.testing.assert_allclose(found, expected / expected.sum())


def test_smote_counts_its_rows(spec_of: Callable[..., RunSpec]) -> None:
    smote = spec_of("smote", "balanced_softmax")
    found = shares_of(trained_prior(smote, result([267, 267, 266], synthetic=80)))
    np.testing.assert_allclose(found, np.array([267, 267, 266]) / 800)
    assert "synthesized is not recorded" in trained_prior(smote, result([1, 1, 1])).reason


def test_label_smoothing_evens_the_shares_and_is_said(spec_of: Callable[..., RunSpec]) -> None:
    found = trained_prior(spec_of(label_smoothing=0.1), result([480, 240, 80]))
    np.testing.assert_allclose(shares_of(found), 0.9 * np.array([0.6, 0.3, 0.1]) + 0.1 / 3)
    assert "label smoothing of 0.1" in found.notes[0]


def test_a_loss_that_smooths_labels_is_said_as_well(spec_of: Callable[..., RunSpec]) -> None:
    delivered = result([480, 240, 80])
    (note,) = trained_prior(spec_of("label_aware_smoothing"), delivered).notes
    assert note.startswith("'label_aware_smoothing' makes outputs less sure than the posterior")
    early = spec_of({"name": "label_aware_smoothing", "stop": 0.5})
    assert trained_prior(early, delivered).notes == ()


def test_what_a_loss_does_comes_after_label_smoothing(spec_of: Callable[..., RunSpec]) -> None:
    # Σ_c w_c ((1 − ε) π_c + ε / C): rare classes are favoured, though the weights even π out
    smoothed = spec_of("class_weights", label_smoothing=0.1)
    found = shares_of(trained_prior(smoothed, result([480, 240, 80])))
    mass = (0.9 * np.array([0.6, 0.3, 0.1]) + 0.1 / 3) / np.array([60, 30, 10])
    np.testing.assert_allclose(found, mass / mass.sum())


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (["ldam"], "margins"),
        (["focal"], "less sure"),
        (
            [
                {"name": "weighted_sampler", "stop": 0.5},
                {"name": "weighted_sampler", "start": 0.5, "beta": 0.5},
            ],
            "several samplers",
        ),
        (["towards_rare"], "what was left of each class is not recorded"),
    ],
)
def test_what_cannot_be_known_says_why(
    recipe: list[Any], said: str, spec_of: Callable[..., RunSpec]
) -> None:
    @strategy("towards_rare")
    class TowardsRare(Windowed):
        """Mix with rows of the training set."""

        def blend(self, batch: Batch, rng: np.random.Generator) -> Mix:
            half = np.full(len(batch.labels), 0.5, np.float32)
            return Mix(rng.integers(0, 3, len(half)), half, half, source="train")

    found = trained_prior(spec_of(*recipe), result([480, 240, 80]))
    assert found.shares is None
    assert said in found.reason


def test_a_plugin_that_declares_nonsense_is_named(spec_of: Callable[..., RunSpec]) -> None:
    @strategy("nonsense")
    class Nonsense(Windowed):
        """Declare one number too few."""

        def loss(self, class_counts: Any) -> Any:
            raise NotImplementedError

        def trained_prior(self, shares: Any, class_counts: Any) -> Any:
            return shares[1:]

    with pytest.raises(ConfigError, match=r"'nonsense'\.trained_prior returned"):
        trained_prior(spec_of("nonsense"), result([480, 240, 80]))


class Trained:
    """A small network on normal distributions, with what Bayes' rule says of its test rows."""

    def __init__(self, folder: Path, recipe: list[Any], seed: int, **training: Any) -> None:
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        rows, lines = [], ["x,y,label,split"]
        for split, counts in (("train", TRAIN), ("test", (400, 400, 400))):
            for c, n in enumerate(counts):
                drawn = MEANS[c] + rng.standard_normal((n, 2))
                rows.append(drawn)
                lines += [f"{x!r},{y!r},c{c},{split}" for x, y in drawn.tolist()]
        file = folder / "normal.csv"
        file.write_text("\n".join(lines) + "\n")
        source = {
            "name": "table",
            "file": str(file),
            "label_column": "label",
            "split_column": "split",
            "val_fraction": 0,
        }
        keys = {
            "name": "normal",
            "datasets": [source],
            "recipes": {"it": recipe} if recipe else {},
            "models": [{"name": "mlp", "width": 32}],
            "seeds": [seed],
            "training": {"batch_size": 32, "lr": 0.05, "eval_every": 1.0, **training},
        }
        self.spec = expand(load(keys)).runs[-1]
        out = folder / f"{self.spec.key}"
        out.mkdir()
        for _ in drain(self.spec, out, RunOptions("cpu", keep_weights=False)):
            pass
        self.result = json.loads((out / "result.json").read_text())
        with np.load(out / "predictions.npz") as stored:
            self.log_p = np.log(stored["test_probabilities"].astype(float))
            x = np.concatenate(rows)[stored["test_rows"]]
        self.likelihood = -0.5 * ((x[:, None] - MEANS) ** 2).sum(axis=2)

    def distance(self, moved_by: Any, prior: Any) -> float:
        """Return the mean Kullback–Leibler divergence of moved outputs from the true posterior."""
        truth, said = (
            scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
            for scores in (self.likelihood + np.log(prior), self.log_p + moved_by)
        )
        return float((np.exp(truth) * (truth - said)).sum(axis=1).mean())

    def nearer(self, by: float = 0.7) -> None:
        """Adjusted outputs are nearer to the posterior of a prior that is not the trained one."""
        trained = np.log(shares_of(trained_prior(self.spec, self.result)))
        skewed = np.array(TRAIN) / sum(TRAIN)
        for prior in (np.full(3, 1 / 3), skewed, skewed[::-1]):
            raw = self.distance(0.0, prior)
            adjusted = self.distance(np.log(prior) - trained, prior)
            if np.ptp(np.log(prior) - trained) > 1.0:
                assert adjusted < by * raw, (prior, raw, adjusted)


RECIPES: list[list[Any]] = [
    [],
    ["weighted_sampler"],
    [{"name": "weighted_sampler", "beta": 0.5}],
    ["stratified_batches"],
    ["progressive_sampler"],
    ["smote"],
    [{"name": "smote", "target": 0.3}],
    ["mixup"],
    ["remix"],
    ["label_aware_smoothing"],
    [{"name": "logit_adjusted", "tau": 0.5}],
    ["class_weights"],
    [{"name": "class_weights", "scheme": "effective_number", "beta": 0.999}],
    ["balanced_softmax"],
    ["balanced_softmax", "weighted_sampler"],
    [{"name": "weighted_sampler", "start": 0.8}],
    [{"name": "class_weights", "start": 0.8}],
    [{"name": "balanced_softmax", "start": 0.5}],
]


def test_adjusted_outputs_are_nearer_to_the_posterior(tmp_path: Path) -> None:
    for recipe in ([], ["balanced_softmax"], [{"name": "weighted_sampler", "start": 0.5}]):
        Trained(tmp_path / str(len(str(recipe))), recipe, 0, epochs=8).nearer()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_adjusted_outputs_are_nearer_for_every_strategy_that_declares_a_prior(
    recipe: list[Any], tmp_path: Path
) -> None:
    for seed in range(2):
        Trained(tmp_path / f"s{seed}", recipe, seed, epochs=20).nearer()
    Trained(tmp_path / "smoothed", recipe, 2, epochs=20, label_smoothing=0.05).nearer(by=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("name", ["weighted_sampler", "class_weights"])
def test_the_last_window_decides_rather_than_the_whole_budget(
    name: str, schedule: str, tmp_path: Path
) -> None:
    even = np.full(3, 1 / 3)
    distances = []
    for seed in range(2):
        run = Trained(
            tmp_path / f"s{seed}",
            [{"name": name, "start": 0.8}],
            seed,
            epochs=30,
            schedule=schedule,
        )
        counts = expanded_counts(run.spec, np.array(TRAIN))
        found = phases(run.spec, run.result)
        assert not isinstance(found, str)
        priors = [np.asarray(p.prior(counts), float) for p in found]
        first, last = (p / p.sum() for p in priors)
        candidates = (last, 0.8 * first + 0.2 * last, first)
        distances.append([run.distance(-np.log(prior), even) for prior in candidates])
    of_last, of_whole, of_first = np.mean(distances, axis=0)
    assert of_last < 0.5 * of_whole < 0.5 * of_first
