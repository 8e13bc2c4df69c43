import contextlib
import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.execution.executors.messages import decode, encode
from harness.execution.executors.slot import SlotServer
from harness.experiment.spec import RunSpec
from harness.training.run_options import RunOptions


def order(spec: RunSpec, attempt: Path) -> dict[str, Any]:
    attempt.mkdir()
    how = asdict(RunOptions("cpu", keep_weights=False))
    return {"spec": spec.to_json(), "attempt": str(attempt), "judged": False, "options": how}


def test_i04_a_slot_asked_to_halt_before_a_run_began_leaves_it_alone(
    make_spec: Callable[..., RunSpec], tmp_path: Path
) -> None:
    spec = make_spec()
    ours, theirs = multiprocessing.Pipe()
    ours.send_bytes(encode(order(spec, tmp_path / "a")))
    ours.send_bytes(encode({"halt": True}))

    def serve() -> None:
        with contextlib.suppress(EOFError):
            SlotServer(theirs).serve()

    thread = threading.Thread(target=serve)
    thread.start()
    said = [decode(ours.recv_bytes()) for _ in range(2) if ours.poll(30)]
    ours.close()
    thread.join()
    theirs.close()
    assert said == [{"key": spec.key, "begun": True}, {"key": spec.key, "finished": "interrupted"}]
    assert {file.name for file in (tmp_path / "a").iterdir()} <= {"log.txt"}
