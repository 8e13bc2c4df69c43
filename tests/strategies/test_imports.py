"""Listing, validating and planning must not pay for the import of heavy libraries."""

import subprocess
import sys

from harness.registry import strategies

HEAVY = ("torch", "albumentations", "sklearn", "imblearn", "cv2", "scipy", "pandas", "mlflow")


def test_importing_every_strategy_loads_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from harness.registry import strategies\n"
        "found = [strategies.get(name)() for name in strategies.names()]\n"
        "[s.tunables() for s in found]\n"
        f"print(len(found), [m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == [str(len(strategies.names())), "[]\n"]


def test_the_registry_names_are_the_classes_names() -> None:
    for name in strategies.names():
        assert strategies.get(name).name == name
