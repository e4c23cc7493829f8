"""What optimising texts and robots against a learned reward has in common; see `tracks.overoptimisation`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prefgym.benchmark.methods import Scorer, View
from prefgym.overoptimisation import best_of_n, best_of_n_kl
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


def best_of(proxy: NDArray[np.floating], gold: NDArray[np.floating]) -> Rows:
    """Rows of the best of n, by proxies [P, S] of what is chosen from, and by gold [P, S]."""
    for n in BEST_OF:
        yield from rows("best_of_n", best_of_n_kl(n), *best_of_n(proxy, gold, n))
