"""The over-optimisation track: how far a learned reward can be trusted, by PPO and by the best of n.

After Gao, Schulman & Hilton 2022: a reward is fitted once, to comparisons of what a policy does, and is then optimised
ever harder, from that policy on. At every distance from it, √KL, it is noted what the learned reward (the proxy) and
the true score (gold) think of what comes out. PPO has no KL penalty, so that nothing but the reward holds it.
"""

from __future__ import annotations

import time
from typing import Any

from prefgym.benchmark.cells import Cell
from prefgym.benchmark.methods import methods
from prefgym.benchmark.optimising import Beginning
from prefgym.benchmark.pools import Pool, load_pool
from prefgym.benchmark.settings import Settings
from prefgym.benchmark.tasks import Task, tasks
from prefgym.benchmark.teachers import teachers
from prefgym.benchmark.tracks.offline import Asking, standard_of


def run(cell: Cell, settings: Settings) -> list[dict[str, Any]]:
    """The rows of a cell: for every budget of comparisons gold and proxy along √KL, of both ways.

    The budgets are those of the online track, of which a task may take a multiple; so are PPO's steps, if they are
    given.
    """
    task = tasks[cell.task]
    pool = load_pool(task, settings.pool)
    begun = _beginning(task, pool, settings)
    ask = Asking(begun.candidates, teachers[cell.teacher](standard_of(pool, task.env_id), cell.seed))
    budgets = [task.scale * labels for labels in settings.online.labels]
    scorers = methods[cell.method]().fit(begun.view, ask, budgets, cell.seed)
    rows = []
    for budget in budgets:
        ask.limit, started = budget, time.perf_counter()
        found = list(begun.optimise(next(scorers), cell.seed))
        seconds = round(time.perf_counter() - started, 2)
        rows += [{"budget": budget, "seconds": seconds, **row} for row in found]
    return rows


def _beginning(task: Task, pool: Pool, settings: Settings) -> Beginning:
    if task.text:
        from prefgym.benchmark.text_optimising import Tuned

        return Tuned.of(task, pool, settings.pool.seed, settings.online.steps)
    from prefgym.benchmark.control_optimising import HalfTrained

    return HalfTrained.of(task, pool, settings.pool, settings.online.steps)
