"""Entropy: pairs that the ensemble as a whole is least sure of."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from prefgym import preferences
from prefgym.queries.best import BestOfMany


@dataclass(frozen=True)
class Entropy(BestOfMany):
    """Pairs by the entropy of the mean P(first is better).

    Also favours pairs that are equally good, of which no answer can make the ensemble surer.
    """

    def value(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Entropy [P] of the mean prediction, in nats."""
        return preferences.entropy(probabilities.mean(0))
