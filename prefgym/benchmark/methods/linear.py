"""A reward that is linear in what is observed: what the networks are worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefgym.benchmark.methods import Ask, Scorer, View
from prefgym.benchmark.methods.ensemble import Book, Ensemble


@dataclass(frozen=True)
class Linear(Ensemble):
    """Uniform queries, and logistic regression on what the observations of two segments differ in on average."""

    tracks: tuple[str, ...] = ("offline",)
    kinds: tuple[str, ...] = ("control",)

    def fit(self, view: View, ask: Ask, budgets: Sequence[int], seed: int) -> Iterator[Scorer]:
        """See `Method.fit`."""
        rng, book = np.random.default_rng(seed), Book(view)
        means = view.observations.mean(axis=1)
        spread = means.std(axis=0) + 1e-6
        for budget in budgets:
            pairs = self.choose(None, book, budget - len(book), rng)  # type: ignore[arg-type]
            book.add(pairs, ask(pairs))
            pairs, targets = book.lessons()
            weights = regression((means[pairs[:, 0]] - means[pairs[:, 1]]) / spread, targets) / spread
            yield Scorer(
                lambda seen, done, weights=weights: (seen @ weights).mean(axis=1)[None],  # type: ignore[misc]
                lambda seen, done, weights=weights: seen @ weights,  # type: ignore[misc]
            )


def regression(inputs: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
    """Weights [I] with which sigmoid(inputs [B, I] @ weights) is nearest to targets [B]: Newton's method, a ridge."""
    weights = np.zeros(inputs.shape[1])
    for _ in range(20):
        chance = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (chance - targets) + weights
        curvature = (inputs.T * (chance * (1 - chance))) @ inputs + np.eye(len(weights))
        weights = weights - np.linalg.solve(curvature, slope)
    return weights
