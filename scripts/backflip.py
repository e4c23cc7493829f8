"""prefgym backflip: teach a one-legged robot to do backflips, by comparisons."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from prefgym.scripts.evaluate import measure
from prefgym.scripts.training import TrainConfig, Training


def main(arguments: Sequence[str]) -> int:
    """Trains, and says where the run is."""
    config = tyro.cli(TrainConfig, prog="prefgym backflip", description=__doc__, args=list(arguments))
    training = Training.start(config)
    training.on_progress = show
    training.train()
    print(file=sys.stderr)
    figures = measure(training.agent, config.env_id, 32, 1000)
    print(figures)
    print(training.run.folder)
    return 0


def show(training: Training) -> None:
    """One line on standard error."""
    loop = training.loop
    line = f"{loop.steps} steps, {loop.asked} labels, {loop.steps / max(training.elapsed, 1e-9):.0f} steps/s"
    print(line, end="\r", file=sys.stderr, flush=True)
