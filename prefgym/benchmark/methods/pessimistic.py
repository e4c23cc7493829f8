"""An ensemble whose disagreement is taken from the reward: the idea of Coste et al. 2023 against over-optimisation."""

from __future__ import annotations

from prefgym.benchmark.methods.ensemble import Ensemble


def pessimistic() -> Ensemble:
    """Uniform queries; differs from uniform-ensemble in what PPO is given: the members' mean less their deviation."""
    return Ensemble("uniform", tracks=("overoptimisation",), pessimism=1.0)
