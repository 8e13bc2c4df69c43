import subprocess
import sys

import pytest

from harness.cli import main
from harness.registry import datasets, metrics, strategies

SOUND = '''
from typing import Annotated

import numpy as np
from pydantic import Field

from harness.datasets.base import ImageDataset, Index, content_of, dataset
from harness.strategies.base import Mix, Tunable, Windowed, strategy


@strategy("halfmix")
class HalfMix(Windowed):
    """Blend each image with a random partner, always half and half."""

    p: Annotated[float, Field(ge=0.0, le=1.0), Tunable(0.0, 1.0)] = 1.0

    def blend(self, batch, rng):
        partner = rng.permutation(len(batch.labels))
        half = np.full(len(partner), 0.5, np.float32)
        return Mix(partner=partner, weight=half, label_weight=half)


@dataset("noise")
class Noise(ImageDataset):
    """A hundred images of noise in two classes."""

    def index(self):
        labels = np.arange(100) % 2
        return Index(labels=labels, class_names=("a", "b"), content=content_of(labels),
                     shape=(8, 8, 1))

    def read(self, index):
        return np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1), dtype=np.uint8)
'''

NEEDS = '''
from pathlib import Path

from harness.datasets.base import ImageDataset, dataset


@dataset("needs")
class Needs(ImageDataset):
    """Images at a path."""

    path: Path
'''


@pytest.fixture(autouse=True)
def _own_registries():
    with strategies.temporary(), datasets.temporary(), metrics.temporary():
        yield


@pytest.fixture
def plugin(tmp_path):
    def write(text):
        path = tmp_path / "plugin.py"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def check(capsys):
    def run(*plugins):
        with pytest.raises(SystemExit) as end:
            main(["check", *plugins])
        told = capsys.readouterr()
        return end.value.code, told.out, told.err

    return run


def test_a_sound_plugin_passes_one_line_for_each_check(plugin, check):
    code, out, _ = check(plugin(SOUND))
    assert code == 0
    lines = out.splitlines()
    assert "strategy 'halfmix'" in lines
    assert "dataset 'noise'" in lines
    assert "  ok    blend: returns what it should" in lines
    assert "  ok    trains the same twice" in lines
    checks = [line for line in lines if line.startswith("  ok  ")]
    assert lines[-1] == f"all {len(checks)} checks passed"
    assert "FAIL" not in out


METRIC = '''
from typing import Annotated

from pydantic import Field

from harness.metrics.base import Metric, Split, metric


@metric("recall_at_least")
class RecallAtLeast(Metric):
    """Share of the classes whose recall is at least so high."""

    least: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5

    def value(self, split: Split) -> float | None:
        known = split.recall[split.support > 0]
        return float((known >= self.least).mean())
'''


def test_a_metric_of_one_file_is_checked(tmp_path, check):
    (tmp_path / "sound.py").write_text(METRIC)
    code, out, _ = check(str(tmp_path / "sound.py"))
    assert code == 0
    assert "metric 'recall_at_least'" in out.splitlines()
    assert "  ok    value: is computed from its source" in out.splitlines()
    for broken, said in (
        ("return known", "value: returns a number or None: returned array"),
        (
            "return float(split.probabilities[:, 0].mean())",
            "value: is computed from its source: ot",
        ),
        ("return float(split.labels[0])", "value: samples may stand in any order"),
        ("split.labels[:] = 0; return 0.5", "value: leaves its inputs alone: changes labels"),
    ):
        text = METRIC.replace("return float((known >= self.least).mean())", broken)
        path = tmp_path / f"broken{len(broken)}.py"
        path.write_text(text.replace('@metric("recall', f'@metric("broken_{len(broken)}'))
        code, out, _ = check(str(path))
        assert code == 1
        assert f"  FAIL  {said}" in out


def test_a_broken_plugin_exits_with_one_and_says_what_is_wrong(plugin, check):
    text = SOUND.replace("label_weight=half", "label_weight=half * 3").replace(
        "100, 8, 8", "99, 8, 8"
    )
    code, out, _ = check(plugin(text))
    assert code == 1
    assert "  FAIL  blend: returns what it should: label_weight must lie in [0, 1]; it goes" in out
    assert "  FAIL  read: returns what index promises: returned uint8[99, 8, 8, 1]" in out
    failed = sum(line.startswith("  FAIL") for line in out.splitlines())
    assert out.splitlines()[-1].startswith(f"{failed} of ")


def test_a_dataset_that_needs_parameters_is_passed_over_and_says_how_to_check_it(plugin, check):
    code, out, _ = check(plugin(NEEDS))
    assert code == 0
    assert "  note  can be made without parameters: it needs path" in out
    assert "harness.testing.check_dataset(Needs(path=…))" in out


def test_a_plugin_that_cannot_be_imported_fails_with_its_reason(plugin, check):
    code, out, _ = check(plugin("import numpy\nvalue = numpy.nothing\n"))
    assert code == 1
    assert "  FAIL  import: raised AttributeError" in out
    assert "line 2 of" in out


def test_t26_a_plugin_that_registers_nothing_or_does_not_exist_is_bad_input(plugin, check):
    code, _, err = check(plugin("x = 1\n"))
    assert code == 2
    assert "registers nothing: put @strategy('name'), @dataset('name') or @metric('name')" in err
    code, _, err = check("no_such_module_anywhere")
    assert code == 2
    assert "no such module" in err
    assert "Traceback" not in err


def test_a_plugin_that_is_loaded_already_is_checked_all_the_same(plugin, check):
    path = plugin(SOUND)
    assert check(path)[0] == 0
    code, out, _ = check(path)
    assert code == 0
    assert "strategy 'halfmix'" in out


def test_a_module_of_built_ins_is_found_by_name(check):
    code, out, _ = check("harness.strategies.mixup", "harness.strategies.focal")
    assert code == 0
    subjects = [line for line in out.splitlines() if line.startswith("strategy")]
    assert subjects == ["strategy 'mixup'", "strategy 'focal'"]


def test_importing_torch_at_import_is_noted(plugin):
    path = plugin("import torch\n" + NEEDS)
    code = f"from harness.cli import main; main(['check', {path!r}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "  note  import: imports torch" in done.stdout
