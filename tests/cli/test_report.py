import contextlib
import json
import re
import subprocess
import sys
import webbrowser
from pathlib import Path

import pytest

from harness.app import reporting
from harness.cli import main
from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import load
from tests.benchmarks.generated import Generator, by_level

FILE = """\
name: it
datasets:
  - {name: digits, imbalance_factor: 20}
factors:
  sampler: [none, weighted_sampler]
  mixup: [none, mixup]
seeds: 3
training: {epochs: 4, batch_size: 32}
"""


@pytest.fixture(autouse=True)
def attached(tmp_path, monkeypatch):
    """Work in a folder of its own; keep what would be attached to MLflow."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it.yaml").write_text(FILE)
    calls = []

    @contextlib.contextmanager
    def ahead(target):
        yield lambda files, note: calls.append((target, files, note))

    monkeypatch.setattr(reporting.summary, "ahead", ahead)
    return calls


@pytest.fixture
def runs():
    specs = expand(load("it.yaml")).runs
    generator = Generator(
        Store(Path("results"), "it"), worth=by_level({"weighted_sampler": 0.9}),
        names=tuple("0123456789"), noise=(0.05, 1.0, 0.5),
    )  # fmt: skip
    for spec in specs:
        generator.write(spec)
    return specs


@pytest.fixture
def report(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["report", *map(str, arguments)])
        told = capsys.readouterr()
        return end.value.code, told.out, told.err

    return run


def test_it_says_the_answer_and_where_the_report_is(runs, report, attached):
    code, out, err = report("it.yaml", "--no-thumbnails")
    assert (code or 0, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("On digits-lt20, weighted_sampler (chosen on val) ")
    page = Path(lines[-1].removeprefix("the report: "))
    assert page.is_file()
    assert page.name == "index.html"
    ((target, files, note),) = attached
    assert (target.results, target.name) == (Path("results").absolute(), "it")
    assert {file.name for file in files[""]} == {
        "index.html",
        "brief.html",
        "report.md",
        "report.json",
    }
    assert "main_effects.csv" in {file.name for file in files["tables"]}
    assert note.startswith("**On digits-lt20, weighted_sampler")


def test_brief_prints_what_fits_on_a_page(runs, report):
    code, out, _ = report("it.yaml", "--brief", "--no-thumbnails")
    assert not code
    lines = out.splitlines()
    assert len(lines) <= 62
    assert lines[0] == "it"
    assert any(line.startswith("recipe ") for line in lines)
    assert any(line.startswith("Main effects: weighted_sampler ") for line in lines)
    assert lines[-1].endswith("brief.html")


def test_json_is_the_report_of_programs(runs, report):
    code, out, _ = report("it.yaml", "--json", "--no-thumbnails")
    assert not code
    data = json.loads(out)
    assert data == json.loads(Path("results/it/report/report.json").read_text())


def test_the_margin_is_in_points(runs, report):
    _, out, _ = report("it.yaml", "--margin", "60", "--no-thumbnails")
    assert "within ±60 points" in out
    assert json.loads(Path("results/it/report/report.json").read_text())["margin"] == 0.6
    page = Path("results/it/report/index.html").read_text()
    assert "harness report it.yaml --margin 60" in page


def test_it_opens_in_the_browser(runs, report, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    report("it.yaml", "--open", "--no-thumbnails")
    report("it.yaml", "--open", "--brief", "--no-thumbnails")
    assert [url.rpartition("/")[2] for url in opened] == ["index.html", "brief.html"]


def test_nothing_has_ended(report, tmp_path):
    code, _, err = report("it.yaml")
    assert code == 2
    assert err == (
        f"error: no run of 'it' has ended in {tmp_path / 'results'}; start with: "
        "harness run it.yaml\n"
    )
    assert not Path("results").exists()


def test_a_margin_that_makes_no_sense(report):
    code, _, err = report("it.yaml", "--margin", "-1")
    assert code == 2
    assert "--margin" in err


def test_mlflow_may_fail_and_the_report_is_there(runs, report, monkeypatch):
    def fails(files, note):
        raise reporting.TrackingError("nobody answers")

    monkeypatch.setattr(reporting.summary, "ahead", lambda target: contextlib.nullcontext(fails))
    code, _, err = report("it.yaml", "--no-thumbnails")
    assert not code
    assert "not attached to MLflow: nobody answers" in err
    assert Path("results/it/report/index.html").is_file()


def test_without_the_data_what_was_run_is_reported(runs, report):
    text = FILE.replace("{name: digits, imbalance_factor: 20}", "{name: image_folder, path: gone}")
    Path("it.yaml").write_text(text)
    code, out, _ = report("it.yaml")
    assert not code
    assert "note: The data is not here" in out
    assert "On digits-lt20, weighted_sampler" in out


def test_misses_are_drawn_from_the_data(report, capsys):
    """With runs of the real thing: a few steps of training on digits."""
    from harness.app import compose

    settings = ["seeds=1", "training.max_steps=20", "factors={}"]
    experiment = load("it.yaml", settings)
    compose.run_experiment("it.yaml", settings=settings, executor="inline", track=False)
    made = reporting.report(experiment, Path("results"))
    page = made.files[0].read_text()
    assert "Worst misses" in page
    assert page.count('src="data:image/png;base64,') >= 5
    assert "taken for" in page
    name = re.search(r"sure \(([^)]+)\)", page)[1]
    own = reporting.report(experiment, Path("results"), file_names=False, classes=["9", "0"])
    page = own.files[0].read_text()
    assert "sure (" not in page
    assert f"({name})" not in page
    assert set(re.findall(r"class (\d)</h3>", page)) <= {"9", "0"}
    assert "class 9</h3>" in page
    wrong = reporting.report(experiment, Path("results"), classes=["x"])
    assert "there is no class &#39;x&#39;" in wrong.files[0].read_text()
    bare = reporting.report(experiment, Path("results"), thumbnails=False)
    assert "Worst misses" not in bare.files[0].read_text()


def test_a_folder_that_cannot_be_written_is_a_clear_error(runs, report):
    Path("results/it/report").write_text("in the way")
    code, _, err = report("it.yaml", "--no-thumbnails")
    assert code == 2
    assert "cannot write to" in err


def test_help_stays_instant():
    code = (
        "import sys\nfrom harness.cli import main\n"
        "try: main(['report', '--help'])\nexcept SystemExit: pass\n"
        "slow = {'pandas', 'scipy', 'statsmodels', 'jinja2', 'torch', 'mlflow'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
