"""The offline track: choose queries from a frozen pool, fit, and be scored on segments never seen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefgym.benchmark.cells import Cell
from prefgym.benchmark.methods import Method, Scorer, View, methods
from prefgym.benchmark.pools import Pool, load_pool
from prefgym.benchmark.scoring import ALL, judge
from prefgym.benchmark.settings import Settings
from prefgym.benchmark.tasks import tasks
from prefgym.benchmark.teachers import Answering, Looks, Standard, teachers
from prefgym.comparisons import Answer, Query
from prefgym.envs.bodies import Body
from prefgym.recorder import Pieces

CERTAIN = 20.0
"""Log-odds, per spread of the true returns, of the truth's own predictions."""


def run(cell: Cell, settings: Settings) -> list[dict[str, Any]]:
    """The rows of an offline cell: every figure for every budget, of which a task may take a multiple."""
    task = tasks[cell.task]
    budgets = [task.scale * budget for budget in settings.budgets]
    pool = load_pool(task, settings.pool)
    teacher = teachers[cell.teacher](standard_of(pool, task.env_id), cell.seed)
    return run_on(methods[cell.method](), pool, teacher, budgets, cell.seed)


def run_on(method: Method, pool: Pool, teacher: Answering, budgets: Sequence[int], seed: int) -> list[dict[str, Any]]:
    """The same on a pool at hand."""
    ask = Asking(pool.candidates, teacher)
    held = answers(teacher, pool.held_out, pool.pairs)
    scorers = method.fit(view_of(pool, informed=method.informed), ask, budgets, seed)
    rows, seconds = [], 0.0
    for budget in budgets:
        ask.limit, began = budget, time.perf_counter()
        scorer = next(scorers)
        seconds += time.perf_counter() - began
        figures = [*judge(scorer, pool, held), ("seconds", ALL, seconds)]
        rows += [
            {"budget": budget, "metric": metric, "stage": stage, "value": value, "seconds": round(seconds, 4)}
            for metric, stage, value in figures
        ]
    return rows


class Asking:
    """Puts pairs of a pool's candidates to a teacher, and counts.

    Args:
        pieces: the candidates.
        teacher: who answers.

    Attributes:
        limit: queries that may have been asked by now.
        asked: queries that were.
    """

    def __init__(self, pieces: Pieces, teacher: Answering) -> None:
        self.pieces, self.teacher = pieces, teacher
        self.limit = self.asked = 0

    def __call__(self, pairs: NDArray[np.integer]) -> list[Answer]:
        """Answers to pairs [P, 2].

        Raises:
            ValueError: they are more than the budget has left.
        """
        if self.asked + len(pairs) > self.limit:
            raise ValueError(
                f"a budget of {self.limit} comparisons allows {self.limit - self.asked} more, got {len(pairs)}"
            )
        self.asked += len(pairs)
        return answers(self.teacher, self.pieces, pairs)


def answers(teacher: Answering, pieces: Pieces, pairs: NDArray[np.integer]) -> list[Answer]:
    """What a teacher says of pairs [P, 2] of pieces."""
    segments = {number: pieces.segment(number) for number in sorted(set(pairs.ravel().tolist()))}
    return [teacher.answer(Query(segments[first], segments[second])) for first, second in pairs.tolist()]


def standard_of(pool: Pool, env_id: str) -> Standard:
    """What the teachers go by on a task."""
    return Standard.of(pool.candidates.rewards.sum(axis=1, dtype=np.float64), _looks(env_id))


def _looks(env_id: str) -> Looks | None:
    body = Body.of(env_id)
    return None if body is None else body.looks


def view_of(pool: Pool, *, informed: bool) -> View:
    """What a method may see of a pool."""
    pieces = pool.candidates
    known, groups = truth(pool) if informed else None, pieces.groups if pool.policy else None
    return View(pieces.observations, pieces.actions, pieces.steps, known, groups, pool.policy)


def truth(pool: Pool) -> Scorer:
    """The true reward of the held-out segments, and of nothing else: it is looked up, since it may be a memory's."""
    known = _Known(pool.held_out)
    return Scorer(known.returns, known.rewards)


class _Known:
    """The rewards of pieces, found again by what was observed and done."""

    def __init__(self, pieces: Pieces) -> None:
        self.pieces = pieces
        returns = pieces.rewards.sum(axis=1, dtype=np.float64)
        self.scaled = returns * CERTAIN / returns.std()

    @cached_property
    def _segments(self) -> dict[bytes, float]:
        return dict(zip(_keys(self.pieces.observations, self.pieces.actions), self.scaled.tolist(), strict=True))

    @cached_property
    def _steps(self) -> dict[bytes, float]:
        flat = [array.reshape(-1, array.shape[-1]) for array in (self.pieces.observations, self.pieces.actions)]
        return dict(zip(_keys(*flat), self.pieces.rewards.ravel().tolist(), strict=True))

    def returns(self, observations: NDArray, actions: NDArray) -> NDArray:
        return np.array([[self._segments[key] for key in _keys(observations, actions)]])

    def rewards(self, observations: NDArray, actions: NDArray) -> NDArray:
        return np.array([self._steps[key] for key in _keys(observations, actions)])


def _keys(observations: NDArray, actions: NDArray) -> list[bytes]:
    return [seen.tobytes() + done.tobytes() for seen, done in zip(observations, actions, strict=True)]
