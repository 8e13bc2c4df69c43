"""What has changed since the runs of a results folder were made, so that they no longer count.

Identity is content: runs of other data, or of a strategy that came to mean something else, have
other keys and would be done anew without a word. Here is the word.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.errors import StoreError, counted
from harness.execution.store import Store
from harness.experiment.spec import RunSpec
from harness.training.run_result import recall_run


def changes(store: Store, specs: Iterable[RunSpec]) -> list[str]:
    """Return in words why runs that look done are not, each reason with its number of runs.

    A run that is not in the store is compared with those of the same dataset, recipe, model and
    seed that are: where these are of other content, or of other versions, that is a reason.

    Args:
        store: The results.
        specs: The runs asked for.
    """
    stored = store.runs()
    missing = [spec for spec in specs if spec.key not in stored]
    if not missing or not stored:
        return []
    named: dict[str, list[Mapping[str, Any]]] = {}
    wanted = {spec.slug for spec in missing}
    asked = {spec.key for spec in specs}
    for key, run in stored.items():
        slug = run.path.name.removesuffix(f"-{key}")
        if slug in wanted and key not in asked:
            try:
                named.setdefault(slug, []).append(recall_run(run.folder).spec_values())
            except StoreError:
                continue
    reasons = Counter(
        reason for spec in missing for old in named.get(spec.slug, ()) for reason in _why(spec, old)
    )
    return [
        f"{reason}: {counted(count, 'run')} made before that {'is' if count == 1 else 'are'} kept "
        "and no longer counted, and done anew"
        for reason, count in reasons.items()
    ]


def _why(spec: RunSpec, old: Mapping[str, Any]) -> Iterator[str]:
    if old.get("content") != spec.content:
        yield f"the files or labels of dataset '{spec.dataset_label}' have changed"
    before: Mapping[str, Any] = old.get("versions") or {}
    for part, version in spec.versions().items():
        if part in before and before[part] != version:
            yield f"{part} is of version {version} now, and was of version {before[part]}"
