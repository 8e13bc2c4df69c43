"""What a contract suite finds, and the calls that it makes with care.

A check has a name and either holds or does not; the same check made on several cases is one
finding, which tells of the first case that fails.
"""

import dataclasses
import os
import random
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ContractError(AssertionError):
    """A strategy or dataset breaks its contract; the message lists how."""


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check.

    Attributes:
        check: What was checked.
        problem: What is wrong, for the author; empty where nothing is.
        fails: Whether a problem breaks the contract, or is only worth knowing.
    """

    check: str
    problem: str = ""
    fails: bool = True

    @property
    def failed(self) -> bool:
        """Whether the contract is broken."""
        return bool(self.problem) and self.fails


class Report:
    """Collects findings, one for each check.

    Args:
        subject: What is checked, as messages call it.
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self._found: dict[str, CheckResult] = {}

    def expect(self, check: str, holds: bool, problem: str) -> bool:
        """Note whether a check holds, and return that; an earlier failure of it stays."""
        known = self._found.get(check)
        if known is None or not known.problem:
            self._found[check] = CheckResult(check, "" if holds else problem)
        return holds

    def note(self, check: str, remark: str) -> None:
        """Note something that is worth knowing and breaks nothing."""
        self._found.setdefault(check, CheckResult(check, remark, fails=False))

    @contextmanager
    def attempt(self, check: str) -> Iterator[None]:
        """Note as a failure of `check` whatever is raised inside."""
        try:
            yield
        except Exception as error:
            self.expect(check, False, told(error))

    def findings(self) -> list[CheckResult]:
        """Return one finding for each check, in the order in which they were first made."""
        return list(self._found.values())

    def raise_if_broken(self) -> list[CheckResult]:
        """Return the findings.

        Raises:
            ContractError: Some failed; all of them are named.
        """
        failed = [finding for finding in self.findings() if finding.failed]
        if failed:
            lines = "".join(f"\n  {finding.check}: {finding.problem}" for finding in failed)
            raise ContractError(f"{self.subject} breaks its contract:{lines}")
        return self.findings()


def told(error: BaseException) -> str:
    """Return an exception in one line, with the last line of the author's code that it met."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_library(frame.filename)]
    place = f" (line {own[-1].lineno} of {own[-1].filename})" if own else ""
    return f"raised {type(error).__name__}: {error}{place}"


def _is_library(file: str) -> bool:
    here = str(Path(__file__).resolve().parents[1])
    return file.startswith(("<", here, os.path.dirname(os.__file__))) or "site-packages" in file


@dataclass(frozen=True)
class Call:
    """One way to call what an author wrote.

    Attributes:
        what: The hook, as messages call it.
        function: Calls it; everything it needs is made anew inside, random generators too.
        inputs: The arrays that it hands over, by name.
    """

    what: str
    function: Callable[[], Any]
    inputs: Mapping[str, NDArray[Any]] = dataclasses.field(default_factory=dict)


def called(report: Report, call: Call) -> Any:
    """Call twice and return the first result, or None where that raised.

    Checks that it does not raise, leaves its inputs and every global generator alone, and returns
    the same again.
    """
    copies = {name: array.copy() for name, array in call.inputs.items()}
    original, before = global_states(), None
    results = []
    with report.attempt(f"{call.what}: runs"):
        for again in (False, True):
            if again:  # only now: a library may draw a number when the first call imports it
                before = _moved_on()
            results.append(call.function())
            changed = [n for n, copy in copies.items() if not same(call.inputs[n], copy)]
            if copies:
                report.expect(
                    f"{call.what}: leaves its inputs alone",
                    not changed,
                    f"changes {', '.join(changed)} in place; work on a copy",
                )
            for name in changed:
                call.inputs[name][...] = copies[name]
        report.expect(f"{call.what}: runs", True, "")
    after = global_states()
    restore(original)
    if before is None or len(results) < 2:
        return None
    touched = [name for name, state in after.items() if not same(state, before[name])]
    report.expect(
        f"{call.what}: leaves global generators alone",
        not touched,
        f"draws from or seeds the global generator of {', '.join(touched)}; draw every random "
        "number from the rng that is handed in",
    )
    report.expect(
        f"{call.what}: is deterministic",
        same(*results),
        "returns something else when called again with the same inputs and a generator in the "
        "same state; draw every random number from the rng that is handed in, and keep no state",
    )
    return results[0]


def global_states() -> dict[str, Any]:
    """Return the state of NumPy's, Python's and torch's global generators, by name."""
    import torch

    return {
        "NumPy (np.random)": np.random.get_state(legacy=False),
        "Python (random)": random.getstate(),
        "torch": torch.get_rng_state(),
    }


def _moved_on() -> dict[str, Any]:
    """Draw from every global generator, so that seeding one again shows, and return the states."""
    import torch

    np.random.random()
    random.random()
    torch.rand(1)
    return global_states()


def restore(states: Mapping[str, Any]) -> None:
    """Put the global generators back into the states of `global_states`."""
    import torch

    np.random.set_state(states["NumPy (np.random)"])
    random.setstate(states["Python (random)"])
    torch.set_rng_state(states["torch"])


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal bit by bit: arrays, tensors and what is made of them."""
    import torch

    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        a, b = a.detach().cpu().numpy(), b.detach().cpu().numpy()
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        nan = a.dtype.kind in "fc" and b.dtype.kind in "fc"
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=nan)
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        return type(a) is type(b) and same(vars(a), vars(b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
