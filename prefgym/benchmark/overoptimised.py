"""Over-optimisation as the results tell it: gold and proxy over √KL, with the forms of Gao et al. 2022 fitted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prefgym.benchmark.statistics import Fit, bootstrap_interval, fit_overoptimisation
from prefgym.benchmark.tidy import Row, number

TRACK = "overoptimisation"
FORMS = {"best_of_n": "best of n", "ppo": "PPO"}
BINS = 12
"""Places along √KL at most that a mean is drawn for."""

Points = tuple[NDArray[np.float64], NDArray[np.float64]]


class Point(NamedTuple):
    """One measurement."""

    seed: int
    distance: float
    value: float


Measured = dict[str, list[Point]]


@dataclass(frozen=True, eq=False)
class Course:
    """How gold and proxy go, for reward models from one number of comparisons.

    Attributes:
        form: best_of_n or ppo.
        budget: number of comparisons.
        measured: by metric, gold or proxy.
    """

    form: str
    budget: float
    measured: Measured

    def points(self, metric: str) -> Points:
        """Distances [R] and values [R], by distance."""
        found = sorted((point.distance, point.value) for point in self.measured.get(metric, []))
        distance, value = np.array(found, float).reshape(-1, 2).T
        return distance, value

    def line(self, metric: str) -> Points:
        """What to draw as a line: the fit of gold where there is one, else means along √KL."""
        distance, value = self.points(metric)
        if metric == "gold" and self.fit is not None:
            x = np.linspace(0, distance.max(), 100)
            return x, self.fit(x)
        return binned(distance, value)

    @cached_property
    def fit(self) -> Fit | None:
        """Of gold."""
        return fit_overoptimisation(*self.points("gold"), self.form)

    @cached_property
    def runs(self) -> list[list[Point]]:
        """Gold of each seed, by distance."""
        by_seed: dict[int, list[Point]] = defaultdict(list)
        for point in self.measured.get("gold", []):
            by_seed[point.seed].append(point)
        return [sorted(points, key=lambda point: point.distance) for points in by_seed.values()]

    def of_runs(self, figure: Callable[[Sequence[float]], float]) -> NDArray[np.float64]:
        """Of each seed's gold, by distance, one figure: the first, the most, the last."""
        return np.array([figure([point.value for point in run]) for run in self.runs])

    @cached_property
    def peak(self) -> tuple[float, float]:
        """95 % interval of the distance where the fit is best, over seeds; nan for one seed."""
        runs = self.runs

        def peaks(strata: list[NDArray]) -> NDArray:
            return np.array([_peak([point for run in drawn for point in runs[run]], self.form) for drawn in strata[0]])

        return bootstrap_interval([np.arange(len(runs))], lambda strata: peaks([strata[0].astype(int)]), draws=200)


def _peak(points: Iterable[Point], form: str) -> float:
    _, distance, value = np.array(list(points), float).T
    fit = fit_overoptimisation(distance, value, form)
    return np.inf if fit is None else fit.peak


@dataclass(frozen=True)
class Panel:
    """One figure: a method on a task, optimised one way.

    Attributes:
        task: its name.
        method: what the reward model is.
        teacher: who answered.
        form: best_of_n or ppo.
        courses: by number of comparisons, the fewest first.
    """

    task: str
    method: str
    teacher: str
    form: str
    courses: tuple[Course, ...]

    @property
    def model(self) -> str:
        """The method, and the teacher, if it is not the oracle."""
        return self.method if self.teacher == "oracle" else f"{self.method}, {self.teacher}"

    @property
    def title(self) -> str:
        """What it shows."""
        return f"{self.task}, {self.model}: {FORMS[self.form]}"

    @property
    def name(self) -> str:
        """For a file."""
        return "-".join([TRACK, self.task, self.method, self.teacher, self.form])


def panels(rows: Iterable[Row]) -> list[Panel]:
    """The figures of a results table; none where that track was not run."""
    found: dict[tuple, dict[float, dict[str, list[Point]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row in rows:
        kl, value = number(row.get("kl")), number(row["value"])
        if row["track"] != TRACK or row["stage"] not in FORMS or not (kl >= 0 and np.isfinite(value)):
            continue
        where = found[row["task"], row["method"], row["teacher"], row["stage"]]
        where[number(row["budget"])][row["metric"]].append(Point(int(row["seed"]), kl**0.5, value))
    return [_panel(key, budgets) for key, budgets in sorted(found.items())]


def _panel(key: tuple[str, str, str, str], budgets: dict[float, Measured]) -> Panel:
    courses = (Course(key[3], budget, dict(budgets[budget])) for budget in sorted(budgets))
    return Panel(*key, tuple(courses))


def binned(distance: NDArray[np.float64], value: NDArray[np.float64], bins: int = BINS) -> Points:
    """Means of values [R] at each distance [R], or in bins of as many values each where there are more distances."""
    places = np.unique(distance)
    if len(places) > bins:
        groups = np.array_split(np.argsort(distance, kind="stable"), bins)
    else:
        groups = [np.flatnonzero(distance == place) for place in places]
    return np.array([distance[one].mean() for one in groups]), np.array([value[one].mean() for one in groups])
