"""When labels are asked for: the share of a budget that is due, as a function of the progress through its period."""

from __future__ import annotations

import math
from collections.abc import Callable

from prefgym.registry import Registry

Schedule = Callable[[float, float], float]
"""Maps the progress in [0, 1] through the label period, and the period's length in env steps, to a share in [0, 1]."""

HALVING = 2e6
"""Env steps after which the decaying rate is half of what it was (Christiano et al. 2017, appendix)."""

schedules = Registry(
    "schedule",
    {
        "constant": "prefgym.schedules:constant",
        "decaying": "prefgym.schedules:decaying",
        "front-loaded": "prefgym.schedules:front_loaded",
    },
)
"""Name to a `Schedule`."""


def constant(progress: float, steps: float) -> float:
    """As many labels in every step of the period."""
    return _checked(progress)


def decaying(progress: float, steps: float) -> float:
    """A rate in proportion to 2e6 / (T + 2e6) after T env steps (Christiano et al. 2017): its integral, scaled to 1."""
    whole = math.log1p(steps / HALVING)
    return math.log1p(_checked(progress) * steps / HALVING) / whole if whole else progress


def front_loaded(progress: float, steps: float) -> float:
    """The square root of the progress: half of the labels in the first quarter of the period."""
    return math.sqrt(_checked(progress))


def _checked(progress: float) -> float:
    if not 0 <= progress <= 1:
        raise ValueError(f"`progress` must be in [0, 1], got {progress}")
    return progress
