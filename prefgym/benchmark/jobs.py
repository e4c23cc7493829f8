"""Jobs: cells computed by processes of one thread each, on this machine or, by a cluster, on many."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from joblib import Parallel, delayed, parallel_config  # type: ignore[import-untyped]
from joblib.externals.loky.process_executor import TerminatedWorkerError  # type: ignore[import-untyped]

from prefgym.benchmark.cells import Cell
from prefgym.benchmark.pools import pool_path
from prefgym.benchmark.results import Results
from prefgym.benchmark.settings import Settings
from prefgym.benchmark.tasks import tasks
from prefgym.benchmark.work import compute, compute_shipped, pool_checksum, pool_file, ship
from prefgym.pages import write_whole

Item = TypeVar("Item")

KILLED = "The process that computed it was killed, also when it was alone: by the system for want of memory, perhaps.\n"

EXPECTED = (".*still being processed by the workers", "A worker stopped while some jobs were given")
"""Warnings of joblib's that need not worry anybody: of Ctrl-C, and of a process replaced since it grew by 300 MB."""

WATCH = 1.0
"""Seconds between two looks of a process whether the one that gave it work still lives."""


@dataclass(frozen=True)
class Outcome:
    """What came of a piece of work.

    Attributes:
        value: what it returned; None if it failed.
        error: the traceback of its failure; "" if it did not fail.
    """

    value: Any
    error: str = ""


Each = Callable[[Callable[[Item], Any], Sequence[Item]], Iterator[tuple[Item, Outcome]]]
"""Does work on every item and yields each item once, with its outcome, in any order: all that a cluster has to do."""


@dataclass(frozen=True)
class Progress:
    """Called in the course of `run_cells`.

    Attributes:
        on_pools: with the number of pools that are to be looked up or made.
        on_pool: with the task of each, when it is there.
        on_cells: with the number of cells that are to be computed.
        on_cell: with each cell that is done, and its traceback if it failed, else "".
    """

    on_pools: Callable[[int], None] = lambda count: None
    on_pool: Callable[[str], None] = lambda task: None
    on_cells: Callable[[int], None] = lambda count: None
    on_cell: Callable[[Cell, str], None] = lambda cell, error: None


def run_cells(
    cells: Iterable[Cell],
    folder: str | Path,
    *,
    jobs: int = 1,
    cluster: Each | None = None,
    progress: Progress | None = None,
) -> dict[Cell, str]:
    """Computes the cells that are not finished, and writes each into the folder as soon as it is done.

    A cell that fails is recorded with its traceback, and the others go on. Interrupted at any moment, by Ctrl-C or
    kill -9, the folder has what was done, and the same call goes on from there.

    Args:
        cells: that are to be there.
        folder: of results; see `Results.begin`.
        jobs: processes at a time.
        cluster: does the work elsewhere; None for processes of this machine.
        progress: hears of it.

    Returns:
        The cells that failed, with their tracebacks.

    Raises:
        ValueError: fewer than 1 job.
        ResultsError: there are no results in the folder, or they are on other pools.
    """
    if jobs < 1:
        raise ValueError(f"`jobs` must be at least 1, got {jobs}")
    results, hears = Results(folder), progress or Progress()
    finished = set(results.finished())
    pending = [cell for cell in cells if cell not in finished]
    settings = Settings.of(results.facts["settings"])
    each = cluster or partial(locally, jobs=jobs)
    failed = _prepare(results, pending, settings, _brought_here(cluster, settings) if cluster else each, hears)
    pending = [cell for cell in pending if cell not in failed]
    hears.on_cells(len(pending))
    work = partial(compute, settings=settings)
    if cluster:
        work = partial(compute_shipped, settings=settings, pools=ship({cell.task for cell in pending}, settings))
    for cell, outcome in each(work, pending):
        if outcome.error:
            failed[cell] = outcome.error
            results.fail(cell, outcome.error)
        else:
            results.write(cell, outcome.value)
        hears.on_cell(cell, outcome.error)
    return failed


def _prepare(
    results: Results, cells: Sequence[Cell], settings: Settings, each: Each, hears: Progress
) -> dict[Cell, str]:
    """Sees to it that the pools are there; returns the cells that have none, with what went wrong."""
    tasks = list(dict.fromkeys(cell.task for cell in cells))
    failed: dict[Cell, str] = {}
    hears.on_pools(len(tasks))
    for task, outcome in each(partial(pool_checksum, settings=settings), tasks):
        if outcome.error:
            without = [cell for cell in cells if cell.task == task]
            failed |= dict.fromkeys(without, outcome.error)
            for cell in without:
                results.fail(cell, outcome.error)
        else:
            results.keep_pool(task, outcome.value)
        hears.on_pool(task)
    return failed


def _brought_here(cluster: Each, settings: Settings) -> Each:
    """Looks pools up in this machine's cache; the cluster makes those that are not there, for all of its machines."""

    def each(work: Callable[[str], Any], names: Sequence[str]) -> Iterator[tuple[str, Outcome]]:
        paths = {name: pool_path(tasks[name], settings.pool) for name in names}
        missing = [name for name in names if not paths[name].exists()]
        yield from (attempt(work, name) for name in names if name not in missing)
        for name, outcome in cluster(partial(pool_file, settings=settings), missing):
            if not outcome.error:
                write_whole(paths[name], outcome.value)
            yield (name, outcome) if outcome.error else attempt(work, name)

    return each


def attempt(work: Callable[[Item], Any], item: Item, giver: int | None = None) -> tuple[Item, Outcome]:
    """Does the work, and keeps the traceback if it fails.

    Args:
        work: to do.
        item: to do it on.
        giver: process that gave the work to this one, if it is to end when that one was killed.
    """
    if giver not in (None, os.getpid()):
        _end_with(giver)
    try:
        return item, Outcome(work(item))
    except Exception:
        return item, Outcome(None, traceback.format_exc())


@cache
def _end_with(giver: int) -> None:
    """Ends this process, at whatever it is, soon after its parent `giver` is gone: joblib would leave it waiting."""

    def watch() -> None:
        while os.getppid() == giver:
            time.sleep(WATCH)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def locally(work: Callable[[Item], Any], items: Sequence[Item], jobs: int) -> Iterator[tuple[Item, Outcome]]:
    """Does the work on every item, by so many processes of one thread each.

    Where a process is killed nobody knows by which item: those under way are tried again, one at a time, after all
    others, and one that is alone when its process is killed again has failed.
    """
    suspects: list[Item] = []
    pending = list(items)
    with _undrawn(), warnings.catch_warnings():
        for said in EXPECTED:
            warnings.filterwarnings("ignore", said)
        while pending:
            done: set[Item] = set()
            flying: list[Item] = []
            try:
                for item, outcome in _parallel(work, pending, jobs, flying):
                    done.add(item)
                    yield item, outcome
            except TerminatedWorkerError:
                suspects += [item for item in flying if item not in done]
            pending = [item for item in pending if item not in done and item not in suspects]
        for item in suspects:
            try:
                yield from _parallel(work, [item], max(jobs, 2), [])  # one job would be this process
            except TerminatedWorkerError:
                yield item, Outcome(None, KILLED)


@contextmanager
def _undrawn() -> Iterator[None]:
    """Processes that begin within have a MuJoCo that cannot draw, unless the user said how it should.

    It would import GLFW, which asks for its version in a process of its own, whose traceback Ctrl-C would show.
    """
    told = "MUJOCO_GL" in os.environ
    os.environ.setdefault("MUJOCO_GL", "disabled")
    try:
        yield
    finally:
        if not told:
            os.environ.pop("MUJOCO_GL", None)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that begin within do not hear Ctrl-C: this one does, afterwards, and ends them.

    One that was still importing would show a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _parallel(
    work: Callable[[Item], Any], items: Sequence[Item], jobs: int, flying: list[Item]
) -> Iterator[tuple[Item, Outcome]]:
    """Outcomes as they come; `flying` gets every item when it is given to a process."""

    def feed() -> Iterator[Any]:
        for item in items:
            flying.append(item)
            yield delayed(attempt)(work, item, os.getpid())

    with parallel_config(backend="loky", inner_max_num_threads=1):
        # One at a time, so that no item waits behind another and none is lost with it.
        pool = Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)
        with _deaf():
            outcomes = pool(feed())
        yield from outcomes
