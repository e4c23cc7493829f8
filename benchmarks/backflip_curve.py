"""The curve of clean backflips against labels: `prefgym backflip` for each teacher, number of labels and seed.

    python benchmarks/backflip_curve.py --labels 900 300 100 --seeds 10 --out runs/curve -- --query ranked

What follows `--` is passed on to `prefgym backflip`. A run that is finished is not done again, and one that was
interrupted goes on, so the same command may be given many times, also with more labels or seeds. Writes curve.csv (one
row a run), draws curve.png and prints a Markdown table, all of every run in the folder: the figure is the mean number
of clean backflips of the final policy, its interquartile mean, quartiles and range are over seeds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from summary import FIGURE, Job, gather, machine, same_options, split_arguments, table, train_and_evaluate, write_csv

from prefgym.pages.svg import light, style
from prefgym.scripts.backflip import of_few
from prefgym.scripts.options import to_json
from prefgym.scripts.playing import statistics
from prefgym.scripts.train_config import TrainConfig


@dataclass(frozen=True)
class CurveConfig:
    """Measure clean backflips against labels. What follows `--` is passed on to `prefgym backflip`.

    Attributes:
        labels: numbers of comparisons.
        teachers: who answers.
        seeds: runs for each teacher and number of labels.
        first_seed: of these seeds.
        parallel: runs at a time, one thread each.
        episodes: that each final policy is measured on.
        evaluation_seed: of the first of these episodes.
        out: folder of the runs.
    """

    labels: tuple[int, ...] = (900, 300, 200, 100, 50)
    teachers: tuple[str, ...] = ("oracle",)
    seeds: int = 10
    first_seed: int = 0
    parallel: int = 2
    episodes: int = 32
    evaluation_seed: int = 1000
    out: Path = Path("runs/curve")


def jobs(config: CurveConfig, extra: Sequence[str]) -> list[Job]:
    """All runs, in order: one seed of everything first, so that an early look shows the whole curve."""
    made = []
    for seed in range(config.first_seed, config.first_seed + config.seeds):
        for teacher in config.teachers:
            for labels in config.labels:
                facts = {"teacher": teacher, "labels": labels, "seed": seed}
                told = [f"--{name}={value}" for name, value in facts.items()]
                made.append(Job(f"{teacher}-{labels}-{seed}", facts, [*told, "--num-threads=1", *extra]))
    return made


def finished(out: Path) -> list[dict[str, Any]]:
    """A row for each run in the folder, of this command and of those before it."""
    rows = [json.loads(path.read_text()) for path in out.glob("*-*-*.json")]
    return sorted(rows, key=lambda row: (row["teacher"] != "oracle", row["teacher"], -row["labels"], row["seed"]))


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Clean backflips against labels: a dot is a run, a line the interquartile mean, a band the quartiles."""
    ink, numbers = light(), sorted({row["labels"] for row in rows})
    with mpl.rc_context(style(ink)):
        figure = Figure(figsize=(6.6, 3.6), layout="constrained")
        axes = figure.subplots()
        for place, teacher in enumerate(dict.fromkeys(row["teacher"] for row in rows)):
            found = {n: [r[FIGURE] for r in rows if (r["teacher"], r["labels"]) == (teacher, n)] for n in numbers}
            there = [n for n in numbers if found[n]]
            colour, aside = ink[f"series-{place + 1}"], 1.02 ** (2 * place - 1)  # so that dots of two lie side by side
            dots = np.array([(n * aside, value) for n in there for value in found[n]])
            axes.plot(*dots.T, ".", color=colour, alpha=0.4, markersize=5)
            low, high = np.transpose([np.percentile(found[n], [25, 75]) for n in there])
            axes.fill_between(there, low, high, color=colour, alpha=0.15, linewidth=0)
            means = [statistics(np.array(found[n]))["iqm"] for n in there]
            axes.plot(there, means, color=colour, marker="os^Dv"[place % 5], label=teacher)
        axes.set(xscale="log", xlabel="comparisons", ylabel="clean backflips in 4 s", ylim=(-0.3, None))
        axes.xaxis.set(major_locator=FixedLocator(numbers), minor_locator=NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
        axes.legend(frameon=False, labelcolor=ink["ink"])
        figure.savefig(path, dpi=160)


def main(arguments: Sequence[str]) -> int:
    """Trains and evaluates what is missing, writes and draws it, prints the table; returns 1 if any run failed."""
    own, extra = split_arguments(arguments)
    config = tyro.cli(CurveConfig, args=own)
    defaults = {name: value for name, value in to_json(TrainConfig()).items() if name != "num_threads"}
    few = {name: value for name, value in to_json(of_few()).items() if name in ("loop", "reward")}
    told = {"extra": extra, "episodes": config.episodes, "evaluation_seed": config.evaluation_seed, "few": few}
    same_options(config.out, told | defaults)  # so that no table mixes runs from before and after a change
    measured = (config.out, config.episodes, config.evaluation_seed)
    with ThreadPoolExecutor(config.parallel) as pool:
        _, failures = gather({job.name: pool.submit(train_and_evaluate, job, *measured) for job in jobs(config, extra)})
    if rows := finished(config.out):
        write_csv(config.out / "curve.csv", rows)
        draw(rows, config.out / "curve.png")
        print(f"{table(rows, ['teacher', 'labels'])}\n")
        print(f"Options: `{' '.join(extra) or 'the defaults'}`. {config.parallel} runs at a time on {machine()}.")
    return bool(failures)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
