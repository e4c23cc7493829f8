"""Seven networks instead of three: whether a larger ensemble is worth its time."""

from __future__ import annotations

from functools import partial

from prefgym.benchmark.methods.ensemble import Ensemble
from prefgym.rewards.ensemble import EnsembleConfig

uniform = partial(Ensemble, "uniform", EnsembleConfig(members=7))
disagreement = partial(Ensemble, "disagreement", EnsembleConfig(members=7))
