"""prefgym bench: how few comparisons does a reward model need? Runs the benchmark, lists its parts, reports."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from prefgym.registry import UnknownNameError

if TYPE_CHECKING:
    from prefgym.benchmark.jobs import Each

HELP = """\
usage: prefgym bench [-h] run|list|report ...

prefgym bench: how few comparisons does a reward model need?

  prefgym bench run SUITE --out DIR   compute a suite's cells; again, to go on after an interruption
  prefgym bench list                  suites, tracks, tasks, methods and teachers there are
  prefgym bench report DIR            write the report of what is done, also while it goes on

`prefgym bench run --help` lists the options."""


@dataclass(frozen=True)
class RunConfig:
    """Compute the cells of a suite, each by a process of one thread.

    Finished cells are kept: after Ctrl-C, a crash or a power cut the same command goes on. A cell that fails is
    recorded, and the others go on.

    Attributes:
        suite: smoke, standard or full; see prefgym bench list.
        out: folder of the results.
        tracks: only these.
        tasks: these instead of the suite's.
        methods: these instead of the suite's.
        teachers: these instead of the suite's.
        seeds: of every combination.
        budgets: comparisons on the offline track, ascending.
        labels: comparisons on the online track, ascending, each a run of its own.
        sessions: portions in which the online track asks for its labels.
        jobs: cells computed at a time.
        cluster: a Ray cluster that this machine is part of computes them instead, as many at a time as it has CPUs:
            HOST:PORT, or auto. Every node must have this version of prefgym.
        patience: seconds that a cluster may be lost before it is given up.
    """

    suite: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SUITE")]
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    tracks: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    seeds: int | None = None
    budgets: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    sessions: int | None = None
    jobs: int = field(default_factory=lambda: os.cpu_count() or 1)
    cluster: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    patience: float = 600.0


@dataclass(frozen=True)
class ReportConfig:
    """Write results.csv and the report of the cells that are done.

    Attributes:
        folder: of the results.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]


def main(arguments: Sequence[str]) -> int:
    """Dispatches to run, list or report; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
        raise SystemExit(0)
    if arguments[0] not in COMMANDS:
        raise UnknownNameError("command of prefgym bench", arguments[0], COMMANDS)
    return COMMANDS[arguments[0]](arguments[1:])


def run(arguments: Sequence[str]) -> int:
    """Computes a suite; returns 0, 1 if a cell failed, or 130 after Ctrl-C."""
    config = tyro.cli(RunConfig, prog="prefgym bench run", args=list(arguments))
    from prefgym.benchmark.jobs import run_cells
    from prefgym.benchmark.results import Results
    from prefgym.benchmark.suites import narrowed, suite_of

    names = {name: getattr(config, name) for name in ("tracks", "tasks", "methods", "teachers")}
    numbers = {name: getattr(config, name) for name in ("seeds", "budgets", "labels", "sessions")}
    suite = narrowed(suite_of(config.suite), **names, **numbers)
    cluster = _cluster(config)
    results = Results.begin(config.out, suite.name, asdict(suite.settings), suite.cells)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    before = len(results.finished())
    console.print(f"{len(results.cells)} cells in {config.out}, {before} of them done before; {_where(config)}")
    try:
        with _Shown(console) as shown:
            failed = run_cells(suite.cells, config.out, jobs=config.jobs, cluster=cluster, progress=shown.progress)
    except KeyboardInterrupt:
        done = len(results.finished())
        console.print(f"Stopped: {done} of {len(results.cells)} cells are done. The same command goes on.")
        return 130
    if failed:
        console.print(f"{len(failed)} cells failed: their tracebacks are in {config.out / 'failed'}. The same command "
                      "tries them again.")  # fmt: skip
    _report(config.out, console)
    return int(bool(failed))


def report(arguments: Sequence[str]) -> int:
    """Reports on a folder of results."""
    config = tyro.cli(ReportConfig, prog="prefgym bench report", args=list(arguments))
    _report(config.folder, Console(highlight=False, soft_wrap=True))
    return 0


def list_parts(arguments: Sequence[str]) -> int:
    """Prints the names that there are."""
    from prefgym.benchmark.methods import methods
    from prefgym.benchmark.suites import SUITES
    from prefgym.benchmark.tasks import tasks
    from prefgym.benchmark.teachers import teachers
    from prefgym.benchmark.tracks import tracks

    print("suites")
    for suite in SUITES.values():
        print(f"  {suite.name:22} {len(suite.cells):6,} cells: {suite.summary}")
    for title, registry in {"tracks": tracks, "tasks": tasks, "methods": methods, "teachers": teachers}.items():
        print(f"\n{title}")
        for name in registry:
            print(f"  {name:22} {_summary(registry[name])}".rstrip())
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {"run": run, "list": list_parts, "report": report}


def _cluster(config: RunConfig) -> Each | None:
    """What computes the cells, where it is not this machine; Ray writes into the results' folder what it has to say."""
    if config.cluster is None:
        return None
    from prefgym.benchmark.ray_cluster import RayCluster

    return RayCluster(config.cluster, config.patience, config.out / "ray.log")


def _where(config: RunConfig) -> str:
    return f"{config.jobs} at a time" if config.cluster is None else f"by the Ray cluster at {config.cluster}"


def _summary(part: Any) -> str:
    """The first line of what says what a part is; of one that is made by a partial, what is made says it."""
    made = part() if isinstance(part, partial) else part
    said = made.__doc__ if isinstance(made, type) else getattr(made, "summary", made.__doc__)
    return str(said).partition("\n")[0]


def _report(folder: Path, console: Console) -> None:
    from prefgym.benchmark.report import write_report
    from prefgym.benchmark.results import Results

    results = Results(folder)
    console.print(f"  {results.collect()}")
    if results.finished():
        console.print(f"  {write_report(folder)}")


class _Shown:
    """A bar in a terminal, else a line for every cell."""

    def __init__(self, console: Console) -> None:
        from prefgym.benchmark.jobs import Progress

        self.console = console
        columns = (TextColumn("{task.description:8}"), BarColumn(24), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[last]}"))
        self.bars = Bars(*columns, *times, console=console, disable=not console.is_terminal)
        self.progress = Progress(self._on_pools, self._on_pool, self._on_cells, self._on_cell)

    def __enter__(self) -> _Shown:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def _on_pools(self, count: int) -> None:
        self.pools = self.bars.add_task("pools", total=count, last="")

    def _on_pool(self, task: str) -> None:
        self._advance(self.pools, f"pool of {task}")

    def _on_cells(self, count: int) -> None:
        self.cells = self.bars.add_task("cells", total=count, last="")

    def _on_cell(self, cell: object, error: str) -> None:
        name = getattr(cell, "name", "")
        if error:
            self.console.print(f"{name} failed: {error.strip().splitlines()[-1]}")
        self._advance(self.cells, name)

    def _advance(self, task: object, last: str) -> None:
        self.bars.update(task, advance=1, last=last)  # type: ignore[arg-type]
        if not self.console.is_terminal:
            self.console.print(last)
