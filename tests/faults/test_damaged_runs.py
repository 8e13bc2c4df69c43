"""i31: one damaged run folder, whatever happened to it, before every command that reads it."""

import json
import shutil
from pathlib import Path

import pytest

from tests.damage import FILES, KINDS
from tests.faults.conftest import KEYS, Study, Zygote

pytestmark = pytest.mark.slow

INLINE = ("--executor", "inline")
TUNE = {"recipes": ["mixup"], "trials": 2, "seeds": 1}


@pytest.fixture(scope="module")
def finished(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home of a study that is run, tuned and confirmed."""
    home = tmp_path_factory.mktemp("finished")
    keys = {**KEYS, "factors": {"mixup": ["none", "mixup"]}, "tune": TUNE}
    study = Study(zygote, home, keys)
    for verb in ("run", "tune", "confirm"):
        study.start(*INLINE, verb=verb)
        assert zygote.wait() == 0, study.printed()[-2000:]
    return home


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_i31_damage_is_named_by_every_command(
    name: str, kind: str, finished: Path, zygote: Zygote, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    keys = json.loads((finished / "study.yaml").read_text())
    study = Study(zygote, home, keys)
    path = next(study.store.path.glob("*mixup*-s1-*"))
    KINDS[kind](path / name)
    (study.store.path / "mirrored.jsonl").unlink()  # so that sync reads every run
    study.database.unlink()
    gone = (name, kind) == ("result.json", "missing")
    for verb, options in (
        ("report", ("--no-thumbnails",)),
        ("decide", ()),
        ("sync", ()),
        ("confirm", INLINE),
        ("tune", INLINE),
        ("run", INLINE),
    ):
        study.log.unlink(missing_ok=True)
        study.start(*options, verb=verb)
        code = study.zygote.wait()
        said = study.printed()
        assert "Traceback" not in said, (verb, said[-2000:])
        assert code in (0, 1, 2), (verb, said[-2000:])
        assert "damaged" in said or (gone and verb == "run"), (verb, said[-2000:])
