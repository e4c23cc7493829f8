"""An ensemble whose disagreement is taken from the reward: the idea of Coste et al. 2023 against over-optimisation."""

from __future__ import annotations

from prefgym.benchmark.methods.ensemble import Ensemble


def pessimistic() -> Ensemble:
    """Uniform queries; differs from uniform-ensemble in what PPO is given: the heads' mean less their deviation."""
    return Ensemble("uniform", tracks=("overoptimisation",), kinds=("text",), pessimism=1.0)
