"""What the project promises of itself: pins, pages, and no trace of one machine."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import harness

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.suffix != ".npz" else ""


def test_every_trap_is_tested_or_has_a_reason() -> None:
    page = (ROOT / "docs" / "traps.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| T(\d+) \|[^|]*\| (.*) \|$", page, re.MULTILINE))
    assert sorted(map(int, rows)) == list(range(1, 29))
    tests = "\n".join(text_of(path) for path in (ROOT / "tests").rglob("test_*.py"))
    for number, what in rows.items():
        named = f"def test_t{int(number):02}_" in tests or f"_t{int(number):02}_" in tests
        assert named == what.startswith("tests"), f"T{number}: {what}"
        assert named or len(what) > 40


def test_t28_albumentations_is_pinned_and_imported_in_three_places() -> None:
    assert "albumentations==2.0.8" in PROJECT["dependencies"]
    importing = {
        path.relative_to(ROOT / "harness").as_posix()
        for path in (ROOT / "harness").rglob("*.py")
        if re.search(r"^\s*(import|from) albumentations", text_of(path), re.MULTILINE)
    }
    assert importing == {
        "strategies/transform_list.py",
        "training/per_image.py",
        "training/transform_calls.py",
    }


def test_bounds_are_those_that_were_promised() -> None:
    for wanted in ("mlflow>=3.17,<4", "optuna>=5,<6", "torch>=2.11", "torchvision>=0.26"):
        assert wanted in PROJECT["dependencies"]
    assert PROJECT["requires-python"] == ">=3.11"
    assert PROJECT["optional-dependencies"].keys() == {"ray", "timm", "audit", "bench", "dev"}
    assert not any(name.startswith("opencv-python>") for name in PROJECT["dependencies"])


def test_the_versions_that_were_tested_are_listed_without_addresses() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[\w.!+-]+", pin) for pin in pins)
    names = {pin.split("==")[0].lower().replace("_", "-") for pin in pins}
    for dependency in PROJECT["dependencies"]:
        assert re.split(r"[<>=!~]", dependency)[0].lower() in names


def test_no_file_holds_a_path_of_one_machine() -> None:
    path = re.compile(r"(?<![\w.$}~:/])/(?:home|root|Users)/[a-z]")
    assert [str(file) for file in tracked() if path.search(text_of(file))] == []


def test_the_changelog_has_the_version_or_what_is_to_come() -> None:
    page = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"[{harness.__version__}]" in page or "[Unreleased]" in page


def test_the_design_names_every_room_and_no_other() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`\w+/`(?:, )?)+) \|", page, re.MULTILINE)
    named = {room for row in rows for room in re.findall(r"`(\w+)/`", row)}
    assert named == {path.parent.name for path in (ROOT / "harness").glob("*/__init__.py")}
    modules = {path.stem for path in (ROOT / "harness").glob("[a-z]*.py")}
    assert [name for name in sorted(modules) if f"`{name}`" not in page] == []


def test_the_glossary_is_short() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").partition("## Words")[2]
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert 10 < len(rows) - 1 <= 30


def test_what_asks_the_network_is_no_part_of_what_ci_runs() -> None:
    rules = dict(re.findall(r"^([a-z-]+):(.*)$", text_of(ROOT / "Makefile"), re.MULTILINE))
    assert "audit" in rules
    assert "audit" not in rules["check"]
    assert "audit" not in text_of(ROOT / ".ci" / "run")


UNPICKLING = re.compile(
    r"torch\.load\(|np\.load\(|numpy\.load\(|pickle\.loads?\(|pickle\.Unpickler\b|read_pickle|joblib\.load"
    r"|shelve\.|marshal\.|dill|cloudpickle|yaml\.load\(|YAML\(|(?<![.\w])eval\(|(?<![.\w])exec\("
)


def test_nothing_is_unpickled_but_what_cannot_run_code() -> None:
    """A new place has to be looked at, and added here."""
    found = {
        (path.relative_to(ROOT / "harness").as_posix(), line.strip())
        for path in (ROOT / "harness").rglob("*.py")
        for line in text_of(path).splitlines()
        if UNPICKLING.search(line)
    }
    unsafe = {
        (place, line)
        for place, line in found
        if "weights_only=True" not in line and "allow_pickle=False" not in line
    }
    assert {place for place, _ in unsafe} == {
        "datasets/raw_files.py",  # CIFAR's: by an unpickler that builds arrays and nothing else
        "experiment/tree.py",  # ruamel's safe loader, without tags
    }, unsafe


def test_pages_link_to_files_that_exist() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", text_of(page)):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
