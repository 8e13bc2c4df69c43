import csv
import json
from pathlib import Path

import numpy as np

from harness.training.rundir import RunDir

NO_TEXT = "caf\udce9"
"""How Python keeps a name of stray bytes."""


def test_names_of_stray_bytes_are_written_escaped_in_every_file(tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    folder.write_json("result.json", {"class_names": [NO_TEXT], "notes": [f"\u00e9 {NO_TEXT}"]})
    folder.write_history([{"step": 1, NO_TEXT: 0.5}])
    folder.write_per_class([NO_TEXT], {"test": {"recall": np.array([0.5])}})
    folder.write_confusion([NO_TEXT], np.eye(1, dtype=np.int64))
    folder.write_error("exception", NO_TEXT, ValueError(NO_TEXT))
    folder.log(NO_TEXT)
    written = r"caf\udce9"
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result == {"class_names": [written], "notes": [f"\u00e9 {written}"]}
    assert json.loads((tmp_path / "error.json").read_text())["message"] == written
    for name in ("history", "per_class", "confusion"):
        with open(tmp_path / f"{name}.csv", newline="", encoding="utf-8") as file:
            assert any(written in row for row in csv.reader(file))
    assert f"ValueError: {written}" in (tmp_path / "log.txt").read_text(encoding="utf-8")
