"""SAC with relabelling instead of PPO (PEBBLE's idea; Lee et al. 2021), without its unsupervised exploration."""

from __future__ import annotations

from prefgym.benchmark.methods.ensemble import Ensemble


def sac() -> Ensemble:
    """Uniform queries; differs from uniform-ensemble in what learns from the reward, so it is online only."""
    return Ensemble("uniform", agent="sac", tracks=("online",), kinds=("control",))
