"""Drawing pairs and pools of candidates: what the strategies share."""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray

from prefgym.queries import Candidates

Indices = NDArray[np.int64]


def draw_pairs(pool: Indices, count: int, rng: np.random.Generator) -> Indices:
    """`count` different pairs [count, 2] of a pool [P], uniformly among all P * (P - 1) / 2, sides by lot.

    Raises:
        ValueError: `count` is less than 1, or the pool has fewer pairs.
    """
    check_count(count, comb(len(pool), 2), f"pairs of {len(pool)} segments")
    numbers = rng.choice(comb(len(pool), 2), count, replace=False)
    # Pair number n is (i, j), i < j, where n = j * (j - 1) / 2 + i: so no list of all pairs is needed.
    larger = ((1 + np.sqrt(1 + 8 * numbers)) // 2).astype(np.int64)
    smaller = numbers - larger * (larger - 1) // 2
    return shuffle_sides(pool[np.stack([smaller, larger], 1)], rng)


def shuffle_sides(pairs: Indices, rng: np.random.Generator) -> Indices:
    """The same pairs [N, 2], each with its first and second by lot."""
    return rng.permuted(pairs, axis=1)


def newest_first(pool: Indices, candidates: Candidates, rng: np.random.Generator) -> Indices:
    """A pool [P] in order of age, the newest first; equally old segments in an order drawn by lot."""
    shuffled = rng.permutation(pool)
    return shuffled[np.argsort(-candidates.steps[shuffled], kind="stable")]


def fresh(candidates: Candidates) -> Indices:
    """The candidates [P] that were never asked about."""
    return np.flatnonzero(candidates.fresh)


def check_count(count: int, available: int, what: str) -> None:
    """Raises ValueError unless 1 <= count <= available."""
    if count < 1:
        raise ValueError(f"`count` must be at least 1, got {count}")
    if count > available:
        raise ValueError(f"`count` must be at most {available}, the number of {what}, got {count}")


def check_share(name: str, share: float) -> None:
    """Raises ValueError unless 0 < share <= 1."""
    if not 0 < share <= 1:
        raise ValueError(f"`{name}` must be a share in (0, 1], got {share}")
