"""The curve of clean backflips against labels: `prefgym backflip` for each teacher, number of labels and seed.

    python benchmarks/backflip_curve.py --labels 900 300 100 --seeds 10 --out runs/curve -- --query ranked

What follows `--` is passed on to `prefgym backflip`. A run that is finished is not done again, and one that was
interrupted goes on, so the same command may be given many times, also with more labels or seeds. Writes curve.csv (one
row a run) and prints a Markdown table: the figure is the mean number of clean backflips of the final policy, its
interquartile mean, quartiles and range are over seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tyro
from summary import Job, gather, machine, same_options, split_arguments, table, train_and_evaluate, write_csv

from prefgym.scripts.backflip import of_few
from prefgym.scripts.options import to_json
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


def main(arguments: Sequence[str]) -> int:
    """Trains and evaluates what is missing, writes the CSV, prints the table; returns 1 if any run failed."""
    own, extra = split_arguments(arguments)
    config = tyro.cli(CurveConfig, args=own)
    defaults = {name: value for name, value in to_json(TrainConfig()).items() if name != "num_threads"}
    few = {name: value for name, value in to_json(of_few()).items() if name in ("loop", "reward")}
    told = {"extra": extra, "episodes": config.episodes, "evaluation_seed": config.evaluation_seed, "few": few}
    same_options(config.out, told | defaults)  # so that no table mixes runs from before and after a change
    measured = (config.out, config.episodes, config.evaluation_seed)
    with ThreadPoolExecutor(config.parallel) as pool:
        rows, failures = gather(
            {job.name: pool.submit(train_and_evaluate, job, *measured) for job in jobs(config, extra)}
        )
    rows.sort(key=lambda row: (config.teachers.index(row["teacher"]), -row["labels"], row["seed"]))
    if rows:
        write_csv(config.out / "curve.csv", rows)
        print(f"{table(rows, ['teacher', 'labels'])}\n")
        print(f"Options: `{' '.join(extra) or 'the defaults'}`. {config.parallel} runs at a time on {machine()}.")
    return bool(failures)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
