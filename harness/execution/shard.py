"""Which part of an experiment one of several machines does.

Runs are dealt out like cards, seed by seed, so that every shard has its share of each seed and of
each recipe: shards take about as long as each other, and one that is lost leaves no recipe out.
"""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import ConfigError
from harness.experiment.spec import RunSpec


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`, counted from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse(text: str) -> Shard:
    """Return the shard that ``"2/8"`` means.

    Raises:
        ConfigError: It means none.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(
            f"--shard {text}: expected I/N with I from 1 to N, such as 2/8 for the second of eight"
        )
    return Shard(int(match[1]), int(match[2]))


def part_of(runs: Sequence[RunSpec], shard: Shard) -> tuple[RunSpec, ...]:
    """Return the runs of a shard, in their order.

    A pure function of the runs and their order: the shards of one experiment have every run once.
    Where every seed (or fold) has the same runs, the shards differ by one run at most, also within
    a seed, and a recipe's runs are spread over as many shards as there can be.
    """
    mine: list[RunSpec] = []
    before = 0
    for number, (_, group) in enumerate(itertools.groupby(runs, lambda run: (run.seed, run.fold))):
        members = list(group)
        # dealing on where the last group ended comes back to the same shards after a cycle of
        # groups; a step aside then keeps a recipe from meeting the same shard at every seed
        cycle = shard.count // math.gcd(len(members), shard.count)
        first = before + number // cycle
        mine += [
            run
            for place, run in enumerate(members)
            if (first + place) % shard.count == shard.number - 1
        ]
        before += len(members)
    return tuple(mine)
