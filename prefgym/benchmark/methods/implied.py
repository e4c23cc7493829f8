"""A ranked list whose every implied comparison is learned from, the idea of LiRE (Choi et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefgym.benchmark.methods.ensemble import Book, Ensemble
from prefgym.queries import Code
from prefgym.queries.order import implied_comparisons
from prefgym.rewards.ensemble import RewardEnsemble


@dataclass(frozen=True)
class Implied(Ensemble):
    """Inserts segments into one list by bisection, and learns from what its order implies beside the answers.

    Attributes:
        strategy: of the queries: the list's.
        implied: comparisons that follow from the answers, drawn by lot, for each answer.
    """

    strategy: str = "ranked"
    implied: float = 4.0
    tracks: tuple[str, ...] = ("offline",)  # the loop learns from answers alone
    kinds: tuple[str, ...] = ("control",)  # no list has responses to several prompts

    def lessons(
        self, model: RewardEnsemble, book: Book, rng: np.random.Generator
    ) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        """The answers, then a draw of what follows from them."""
        pairs, targets = book.lessons()
        found = implied_comparisons(book.answered())
        drawn = found[rng.permutation(len(found))[: int(self.implied * len(targets))]]
        followed = np.where(drawn[:, 2] == Code.TIE, 0.5, 1.0).astype(np.float32)
        return np.concatenate([pairs, drawn[:, :2]]), np.concatenate([targets, followed])
