"""The benchmark's teachers: those of `prefgym.teachers`, by the standard of a task's pool, and one more like people.

The presets of `prefgym.teachers` are in revolutions of a backflip. Here every threshold is in units of the pool's own
returns, so that a teacher is as hard to please on one task as on another; as there, it never drifts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prefgym.comparisons import Answer, Comparison, Query
from prefgym.registry import Registry
from prefgym.teachers.synthetic import SyntheticTeacher

Looks = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""By how much two clips look different [P], of poses [P, T, nq]: 1 is what a person can just tell."""


class Answering(Protocol):
    """A teacher who answers at once, the same whenever asked the same."""

    def submit(self, queries: Sequence[Query]) -> None:
        """Takes queries."""
        ...

    def collect(self) -> list[Comparison]:
        """Answers what was submitted since the last call."""
        ...

    def answer(self, query: Query) -> Answer:
        """What it says about a query."""
        ...


@dataclass(frozen=True)
class Standard:
    """What a teacher goes by on one task.

    Attributes:
        spread: standard deviation of the true return of the pool's candidates.
        poor: their lower quartile.
        looks: by how much clips look different, where the body is known; else None.
    """

    spread: float
    poor: float
    looks: Looks | None = None

    @classmethod
    def of(cls, returns: NDArray[np.floating], looks: Looks | None = None) -> Standard:
        """The standard of candidates with these true returns [C].

        Raises:
            ValueError: the returns are all the same, so that there is nothing to prefer.
        """
        if not returns.std() > 0:
            raise ValueError(f"the candidates' true returns must differ, got {len(returns)} times {returns[0]}")
        return cls(float(returns.std()), float(np.quantile(returns, 0.25)), looks)


@dataclass(frozen=True)
class HumanLike:
    """What people were seen to do, in their rough proportions: not a model of anybody.

    In this order: a pair whose clips look alike is skipped; one whose returns differ by less than a tenth of the spread
    is a tie; the rest is a choice that weighs the clip's end a little more (gamma 0.99), is unsure where it is close
    (beta 4 per spread), and is turned round by a slip of the hand one time in twenty.

    Args:
        standard: of the task.
        seed: of the answers.
    """

    standard: Standard
    seed: int = 0
    name: str = "human-like"
    _submitted: list[Query] = field(default_factory=list, init=False, repr=False, compare=False)

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
        return Answer.SKIP if self._alike(query) else self._judge.answer(query)

    @property
    def _judge(self) -> SyntheticTeacher:
        spread = self.standard.spread
        return SyntheticTeacher(beta=4 / spread, gamma=0.99, mistakes=0.05, equal=0.1 * spread, seed=self.seed)

    def _alike(self, query: Query) -> bool:
        if self.standard.looks is None:
            return False
        return bool(self.standard.looks(query.first.shown[None], query.second.shown[None])[0] < 1)


Make = Callable[[Standard, int], Answering]


def oracle(standard: Standard, seed: int) -> Answering:
    """Always names the larger true return."""
    return _synthetic("oracle", seed)


def rational(standard: Standard, seed: int) -> Answering:
    """beta 2 per spread: right about a tenth of it with probability 0.55, about all of it with 0.88."""
    return _synthetic("rational", seed, beta=2 / standard.spread)


def myopic(standard: Standard, seed: int) -> Answering:
    """gamma 0.9, as in B-Pref: of 50 steps, the last 10 make up two thirds of the judgement."""
    return _synthetic("myopic", seed, gamma=0.9)


def mistaken(standard: Standard, seed: int) -> Answering:
    """Says the opposite one time in ten, as in B-Pref, however obvious the answer."""
    return _synthetic("mistaken", seed, mistakes=0.1)


def skipping(standard: Standard, seed: int) -> Answering:
    """Skips when both segments are among the poorest quarter of the pool."""
    return _synthetic("skipping", seed, skip=standard.poor)


def equal(standard: Standard, seed: int) -> Answering:
    """Sees no difference of less than a quarter of the spread."""
    return _synthetic("equal", seed, equal=0.25 * standard.spread)


def noisy(standard: Standard, seed: int) -> Answering:
    """beta 2 per spread, and one mistake in ten."""
    return _synthetic("noisy", seed, beta=2 / standard.spread, mistakes=0.1)


def human_like(standard: Standard, seed: int) -> Answering:
    """Skips what looks alike, ties what is close, sees the end better, and slips: see `HumanLike`."""
    return HumanLike(standard, seed)


teachers = Registry(
    "teacher",
    {
        "oracle": "prefgym.benchmark.teachers:oracle",
        "rational": "prefgym.benchmark.teachers:rational",
        "myopic": "prefgym.benchmark.teachers:myopic",
        "mistaken": "prefgym.benchmark.teachers:mistaken",
        "skipping": "prefgym.benchmark.teachers:skipping",
        "equal": "prefgym.benchmark.teachers:equal",
        "noisy": "prefgym.benchmark.teachers:noisy",
        "human-like": "prefgym.benchmark.teachers:human_like",
    },
)
"""Name to `make(standard, seed) -> Answering`."""


def _synthetic(name: str, seed: int, **options: Any) -> SyntheticTeacher:
    return SyntheticTeacher(name=name, seed=seed, **options)
