"""Temporal crops and pseudo-labels, the ideas of SURF (Park et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from prefgym.benchmark.methods.ensemble import Book, Ensemble
from prefgym.preferences import preference_probability
from prefgym.rewards.ensemble import EnsembleConfig, RewardEnsemble

CROP = 0.8
"""Share of a segment that a gradient step sees: SURF crops 60 steps to 45 to 55."""


def crops() -> Ensemble:
    """Uniform queries with crops alone, to tell apart what the two ideas are worth."""
    return Ensemble("uniform", EnsembleConfig(crop=CROP), tracks=("offline", "online"), kinds=("control",))


@dataclass(frozen=True)
class Surf(Ensemble):
    """Uniform queries; pairs that nobody was asked about count as answered where the ensemble is sure of the answer.

    Attributes:
        reward: options of the reward model, with crops.
        confidence: P of the likelier answer from which on a pair that was not asked is believed.
        unlabelled: pairs looked at for each answer.
    """

    reward: EnsembleConfig = field(default_factory=lambda: EnsembleConfig(crop=CROP))
    confidence: float = 0.99
    unlabelled: int = 4
    tracks: tuple[str, ...] = ("offline",)  # the loop has no place for pairs that nobody was asked about
    kinds: tuple[str, ...] = ("control",)  # nor can a response be cropped

    def lessons(
        self, model: RewardEnsemble, book: Book, rng: np.random.Generator
    ) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        """The answers, then pairs that the last fit is sure of."""
        pairs, targets = book.lessons()
        if not book.fits:
            return pairs, targets
        guessed = rng.integers(len(book.view), size=(self.unlabelled * len(targets), 2))
        guessed = guessed[guessed[:, 0] != guessed[:, 1]]
        probability = self._predicted(model, book, guessed)
        sure = np.abs(probability - 0.5) >= self.confidence - 0.5
        pseudo = (probability[sure] > 0.5).astype(np.float32)
        return np.concatenate([pairs, guessed[sure]]), np.concatenate([targets, pseudo])

    def _predicted(self, model: RewardEnsemble, book: Book, pairs: NDArray[np.integer]) -> NDArray[np.floating]:
        """Mean P(first is better) [P] of pairs [P, 2]."""
        scores = model.returns(book.view.observations, book.view.actions)
        return preference_probability(scores[:, pairs[:, 0]], scores[:, pairs[:, 1]]).mean(0).numpy()
