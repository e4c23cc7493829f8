"""What the benchmarks share: subprocesses that go on after an interruption, statistics over seeds, Markdown tables."""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from prefgym.scripts.playing import statistics

COMMAND = (sys.executable, "-m", "prefgym")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
FIGURE = "clean_backflips"


@dataclass(frozen=True)
class Job:
    """One run of a verb that trains, and its evaluation.

    Attributes:
        name: the run's folder under the benchmark's, and its evaluation's name.
        facts: what the run was, as columns of the CSV: seed, labels, teacher, …
        arguments: of `prefgym backflip`, without --out.
    """

    name: str
    facts: Mapping[str, Any]
    arguments: Sequence[str]


def prefgym(*arguments: str | Path, log: Path | None = None) -> str:
    """Runs a verb in a process of its own; returns its standard output.

    Raises:
        RuntimeError: it failed; the message has the end of what it said.
    """
    command = [*COMMAND, *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False)
    if log is not None:
        log.write_text(done.stdout + done.stderr)
    if done.returncode:
        raise RuntimeError(f"prefgym {' '.join(map(str, arguments))}: {done.stderr.strip()[-600:]}")
    return done.stdout


def train_and_evaluate(job: Job, out: Path, episodes: int, seed: int) -> dict[str, Any]:
    """A row of the CSV; what was done before is not done again."""
    folder, result = out / job.name, out / f"{job.name}.json"
    if result.exists():
        return json.loads(result.read_text())
    if not (folder / "evaluation.json").exists():
        begun = (folder / "config.json").exists()
        told = ["--resume", folder, "--num-threads", "1"] if begun else [*job.arguments, "--out", folder]
        prefgym("backflip", *told, log=out / f"{job.name}.log")
    figures = json.loads(prefgym("evaluate", folder, "--episodes", str(episodes), "--seed", str(seed)))
    row = {**job.facts, **figures_of(figures), **metrics_of(folder)}
    result.write_text(json.dumps(row, indent=2) + "\n")
    return row


def gather(waiting: Mapping[str, Future[dict[str, Any]]]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of all that is under way, by name, and what the failed ones said; one failure stops no other."""
    rows, failures = [], []
    try:
        for name, future in waiting.items():
            try:
                rows.append(future.result())
                print(f"{name}: {rows[-1][FIGURE]:.2f}", file=sys.stderr, flush=True)
            except Exception as error:
                failures.append(f"{name} failed: {error}")
                print(failures[-1], file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        for future in waiting.values():
            future.cancel()
        raise
    return rows, failures


def same_options(out: Path, options: Mapping[str, Any]) -> None:
    """Remembers the options that all runs in a folder share.

    Raises:
        SystemExit: the folder holds runs of other options, or of other defaults.
    """
    path = out / "options.json"
    told = json.loads(json.dumps(options))
    found = json.loads(path.read_text()) if path.exists() else told
    other = [f"{name} = {found.get(name)}" for name in told if found.get(name) != told[name]]
    if other:
        raise SystemExit(f"{out} holds runs with other options ({', '.join(other)}): choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=2) + "\n")


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What comes before `--`, and what comes after it."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:place]), list(arguments[place + 1 :])


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One row a run; columns that some runs lack are empty there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def table(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> str:
    """Markdown: one line for each group of rows that agree on the columns `by`, with the spread over seeds."""
    head = [*by, "seeds", "IQM", "quartiles", "min to max", "seconds", "steps/s"]
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    return markdown(head, [[*key, *_spread(group)] for key, group in groups.items()])


def markdown(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in [head, ["---"] * len(head), *lines])


def _spread(group: Sequence[Mapping[str, Any]]) -> list[str]:
    values = np.array([row[FIGURE] for row in group])
    low, high = np.percentile(values, [25, 75])
    taken, speed = (np.median([row[name] for row in group]) for name in ("seconds", "steps_per_second"))
    iqm = statistics(values)["iqm"]
    spread = [f"{iqm:.2f}", f"{low:.2f} to {high:.2f}", f"{values.min():.2f} to {values.max():.2f}"]
    return [str(len(values)), *spread, f"{taken:.0f}", f"{speed:,.0f}"]


def figures_of(figures: Mapping[str, Any]) -> dict[str, float]:
    """The means, and of the deciding figure the deviation over episodes."""
    means = {name: value["mean"] for name, value in figures.items() if isinstance(value, dict)}
    return means | {f"{FIGURE}_std": figures[FIGURE]["std"], "episodes": figures["episodes"]}


def metrics_of(folder: Path) -> dict[str, Any]:
    """What training took and asked for, the reward model's last figures, and the share of asking and fitting."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    last, seconds = rows[-1], float(rows[-1]["seconds"])
    kept = {name: float(last[name]) for name in ("validation_accuracy", "reward_correlation") if last.get(name)}
    counts = {"asked": int(last["labels"]), "steps": int(last["steps"]), "seconds": seconds}
    speed = {"steps_per_second": counts["steps"] / seconds}
    return counts | speed | {"fit_share": sum(float(row["fit_seconds"]) for row in rows) / seconds} | kept


def machine() -> str:
    """The processor, its cores, and the versions that matter."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        told = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        name = told[0].partition(": ")[2] if told else name
    versions = ", ".join(f"{one} {version(one)}" for one in ("prefgym", "torch", "mujoco", "stable-baselines3"))
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"
