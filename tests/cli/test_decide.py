import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from tests.benchmarks.decisions import generate

KEYS = {
    "name": "decided",
    "datasets": [{"name": "digits", "imbalance_factor": 30}],
    "recipes": {"sampled": ["weighted_sampler"], "margins": ["ldam"]},
    "models": ["tiny_cnn"],
    "seeds": 3,
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    generate(tmp_path / "results", 99, 200, 10, 100, **{"factors": {}, **KEYS})
    write()


def write(**changes: Any) -> None:
    Path("it.yaml").write_text(json.dumps({**KEYS, **changes}))


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["decide", "it.yaml", "--results", "results", *arguments])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_rows_for_a_program_have_value_gain_and_its_parts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = told(capsys, "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert {(r["recipe"], r["rule"]) for r in rows} == {
        ("nothing", "argmax"),
        ("nothing", "prior"),
        ("sampled", "argmax"),
        ("sampled", "prior"),
        ("margins", "argmax"),
    }
    one = next(r for r in rows if (r["recipe"], r["rule"]) == ("sampled", "prior"))
    assert one["metric"] == "balanced_accuracy"
    assert one["gain"] == pytest.approx(one["threshold_part"] + one["rest"])
    for part in ("gain", "threshold_part", "rest"):
        assert one[f"{part}_low"] <= one[part] <= one[f"{part}_high"]
    nothing = next(r for r in rows if (r["recipe"], r["rule"]) == ("nothing", "prior"))
    assert nothing["gain"] is None
    assert 0.5 < nothing["value"] <= 1.0
    assert "margins, prior: its outputs are not adjusted: within the margins of LDAM" in err


def test_a_reader_gets_a_table_and_what_the_columns_mean(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    write(decisions={"rules": ["prior", "thresholds"], "deploy": "train"})
    code, out, err = told(capsys)
    assert code == 0, err
    assert "digits-lt30 · tiny_cnn" in out
    assert "threshold part" in out
    assert "thresholds" in out
    assert "can have for free" in out


def test_costs_that_do_not_fit_the_classes_end_with_a_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(decisions={"costs": {"cat": 1}})
    code, _, err = told(capsys)
    assert code == 2
    assert "unknown class 'cat'" in err


def test_without_a_run_it_says_how_to_make_one(capsys: pytest.CaptureFixture[str]) -> None:
    write(name="other")
    code, _, err = told(capsys)
    assert code == 2
    assert "harness run it.yaml" in err
