"""What optimising texts and robots against a learned reward has in common; see `tracks.overoptimisation`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from prefgym.benchmark.methods import Scorer, View
from prefgym.recorder import Pieces

BEST_OF = (1, 2, 4, 8, 16, 32, 64)

Rows = Iterator[dict[str, Any]]


class Beginning(Protocol):
    """Where all optimisation begins: a policy, and what it does."""

    @property
    def candidates(self) -> Pieces:
        """What it does, for methods to ask about."""
        ...

    @property
    def view(self) -> View:
        """What a method sees."""
        ...

    def optimise(self, scorer: Scorer, seed: int) -> Rows:
        """Rows of the best of n, and of PPO, against what was learned."""
        ...


def rows(stage: str, kl: float, proxy: float, gold: float) -> Rows:
    """Gold and proxy at one distance, KL in nats from the policy of the beginning."""
    for metric, value in (("proxy", proxy), ("gold", gold)):
        yield {"metric": metric, "stage": stage, "value": value, "kl": kl}
