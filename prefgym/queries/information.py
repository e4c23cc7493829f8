"""Information: pairs whose answer would tell most about which member is right."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from prefgym import preferences
from prefgym.queries.best import BestOfMany


@dataclass(frozen=True)
class Information(BestOfMany):
    """Pairs by information gain (BALD; Houlsby et al. 2011): uncertain as a whole, but not to the members themselves.

    Uniform for one member.
    """

    def value(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Expected information [P] of an answer, in nats."""
        return preferences.information_gain(probabilities)
