"""Teachers that know the true reward, and use it as imperfectly as they are told to.

The five irrationalities are those of B-Pref (Lee et al. 2021, Benchmarking preference-based reinforcement learning),
in its order: skip, equal, then a Boltzmann choice between discounted returns, then mistakes. Thresholds are constants:
a teacher judges the last query of a run by the same standard as the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prefgym.comparisons import Answer, Comparison, Query
from prefgym.segments import Segment


@dataclass(frozen=True, slots=True)
class SyntheticTeacher:
    """Answers by the segments' true rewards.

    An answer is a function of the seed and the two segments, in the order shown: asked again, in this run or a resumed
    one, the same teacher says the same. The defaults are the oracle, who always names the larger true return.

    Args:
        beta: rationality, per unit of true return: P(first) = sigmoid(beta * difference). inf never errs, 0 is a coin.
        gamma: myopia, in (0, 1]: a reward k steps before the segment's end counts gamma**k in the choice; 1 sees all.
        mistakes: probability, in [0, 1], of saying the opposite of what was chosen.
        skip: skips when both true returns are below it.
        equal: calls it a tie when the true returns differ by no more than this; 0 leaves ties of equal returns.
        seed: of the answers, at least 0.
        name: the `annotator` of its comparisons.

    Raises:
        ValueError: an option out of its range.
    """

    beta: float = math.inf
    gamma: float = 1.0
    mistakes: float = 0.0
    skip: float = -math.inf
    equal: float = 0.0
    seed: int = 0
    name: str = "synthetic"
    _submitted: list[Query] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _require(self.beta >= 0, "`beta` must be at least 0", self.beta)
        _require(0 < self.gamma <= 1, "`gamma` must be in (0, 1]", self.gamma)
        _require(0 <= self.mistakes <= 1, "`mistakes` must be a probability in [0, 1]", self.mistakes)
        _require(not math.isnan(self.skip), "`skip` must be a number", self.skip)
        _require(self.equal >= 0, "`equal` must be at least 0", self.equal)
        _require(self.seed >= 0, "`seed` must be at least 0", self.seed)

    def submit(self, queries: Sequence[Query]) -> None:
        """Takes queries; their answers wait for `collect`."""
        self._submitted.extend(queries)

    def collect(self) -> list[Comparison]:
        """Answers what was submitted since the last call, in that order."""
        queries = self._submitted.copy()
        self._submitted.clear()
        return [Comparison(query, self.answer(query), self.name) for query in queries]

    def answer(self, query: Query) -> Answer:
        """What the teacher says about a query, now and always."""
        first, second = query.first.true_return, query.second.true_return
        if max(first, second) < self.skip:
            return Answer.SKIP
        if abs(first - second) <= self.equal:
            return Answer.TIE
        return self._choice(query)

    def _choice(self, query: Query) -> Answer:
        difference = _discounted(query.first, self.gamma) - _discounted(query.second, self.gamma)
        choice, mistake = _mood(self.seed, query).random(2)
        prefers_first = choice < _sigmoid(self.beta, difference)
        return Answer.FIRST if prefers_first != (mistake < self.mistakes) else Answer.SECOND


# The presets' numbers suit Backflip, whose true return is in revolutions: about -1 to 1 for a segment of one second.


def oracle(seed: int = 0, **options: Any) -> SyntheticTeacher:
    """Always names the larger true return; a tie if they are equal."""
    return _preset("oracle", seed, options)


def rational(seed: int = 0, **options: Any) -> SyntheticTeacher:
    """beta 5: right about 0.1 revolutions with probability 0.62, about 0.5 with 0.92, about 1 with 0.99."""
    return _preset("rational", seed, options, beta=5.0)


def myopic(seed: int = 0, **options: Any) -> SyntheticTeacher:
    """gamma 0.9, as in B-Pref: of 50 steps, the last 10 make up two thirds of the judgement."""
    return _preset("myopic", seed, options, gamma=0.9)


def mistaken(seed: int = 0, **options: Any) -> SyntheticTeacher:
    """Says the opposite one time in ten, as in B-Pref, however obvious the answer."""
    return _preset("mistaken", seed, options, mistakes=0.1)


def skipping(seed: int = 0, **options: Any) -> SyntheticTeacher:
    """Skips when both segments turn forwards on balance, having nothing of a backflip."""
    return _preset("skipping", seed, options, skip=0.0)


def equal(seed: int = 0, **options: Any) -> SyntheticTeacher:
    """Sees no difference of less than a tenth of a revolution (36 degrees)."""
    return _preset("equal", seed, options, equal=0.1)


def noisy(seed: int = 0, **options: Any) -> SyntheticTeacher:
    """The benchmark's noisy teacher: beta 5 and one mistake in ten; right about a whole revolution 9 times in 10."""
    return _preset("noisy", seed, options, beta=5.0, mistakes=0.1)


def _preset(name: str, seed: int, options: dict[str, Any], **defaults: float) -> SyntheticTeacher:
    return SyntheticTeacher(**{"name": name, "seed": seed, **defaults, **options})


def _require(holds: bool, rule: str, value: float) -> None:
    if not holds:
        raise ValueError(f"{rule}, got {value}")


def _discounted(segment: Segment, gamma: float) -> float:
    steps_to_end = np.arange(segment.length - 1, -1, -1)
    return float(segment.rewards.astype(np.float64) @ gamma**steps_to_end)


def _sigmoid(beta: float, difference: float) -> float:
    # inf * 0 is not a number: two segments that look the same are a coin even to the perfectly rational.
    return 0.5 * (1 + math.tanh(beta * difference / 2)) if difference else 0.5


def _mood(seed: int, query: Query) -> np.random.Generator:
    return np.random.default_rng([seed, int(query.first.digest, 16), int(query.second.digest, 16)])
