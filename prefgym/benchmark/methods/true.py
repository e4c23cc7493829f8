"""The upper bound: knows the true reward, and asks nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from prefgym.benchmark.methods import Ask, Scorer, View
from prefgym.benchmark.methods.ensemble import Ensemble


@dataclass(frozen=True)
class Truth(Ensemble):
    """The true reward itself; on the online track PPO learns from it, with the cell's own seed."""

    informed: ClassVar[bool] = True
    tracks: tuple[str, ...] = ("offline", "online")

    def fit(self, view: View, ask: Ask, budgets: Sequence[int], seed: int) -> Iterator[Scorer]:
        """The same for every budget.

        Raises:
            ValueError: the view does not hold the truth.
        """
        if view.truth is None:
            raise ValueError("`view` must hold the truth, which the benchmark gives to methods that are `informed`")
        for _ in budgets:
            yield view.truth
