"""Disagreement: pairs on which the members of the ensemble differ most."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from prefgym import preferences
from prefgym.queries.best import BestOfMany


@dataclass(frozen=True)
class Disagreement(BestOfMany):
    """Pairs by the variance of the members' P(first is better) (Christiano et al. 2017); uniform for one member.

    Helps in some tasks and hurts in others: the members differ most where they were fitted least, and that may be
    where the policy never goes.
    """

    def value(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Variance [P] over the members."""
        return preferences.disagreement(probabilities)
