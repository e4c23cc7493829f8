"""On-policy: the newest segments, which show what the policy does now."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isqrt

import numpy as np

from prefgym.queries import Candidates
from prefgym.queries.draw import Indices, check_share, draw_pairs, fresh, newest_first


@dataclass(frozen=True)
class OnPolicy:
    """Pairs drawn uniformly among the newest fresh segments, so that the reward is learned where the policy is.

    Where environments begin their episodes together the newest segments are of one phase of the episode: begin them at
    different times (`stagger`), or keep a short recording and ask uniformly.

    Args:
        share: of the fresh segments that counts as newest, in (0, 1]. More are taken if they have too few pairs.
    """

    share: float = 0.25

    def __post_init__(self) -> None:
        check_share("share", self.share)

    def choose(self, candidates: Candidates, count: int, rng: np.random.Generator) -> Indices:
        """See `QueryStrategy.choose`."""
        pool = newest_first(fresh(candidates), candidates, rng)
        size = max(ceil(self.share * len(pool)), _segments_for(count))
        return draw_pairs(pool[:size], count, rng)


def _segments_for(pairs: int) -> int:
    """The fewest segments that have so many pairs."""
    return (3 + isqrt(max(8 * pairs - 7, 0))) // 2
