"""prefgym backflip: teach a one-legged robot to do backflips, by comparisons."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from prefgym.runs import EVALUATION, Run, RunError
from prefgym.scripts.conduct import conduct
from prefgym.scripts.options import changed
from prefgym.scripts.playing import animate, measure
from prefgym.scripts.train_config import TrainConfig
from prefgym.scripts.training import Training, default_folder

logger = logging.getLogger(__name__)

EPISODES = 32
EVALUATION_SEED = 1000
WITH_RESUME = ("resume", "num_threads", "feedback")  # options that may go with --resume


@dataclass(frozen=True)
class BackflipConfig(TrainConfig):
    """Teach a one-legged robot to do backflips, by comparisons.

    A synthetic teacher answers which of two clips is better; a reward model is fitted to the answers; PPO learns from
    the reward model. Ctrl-C saves, and says how to go on.

    Fewer than 300 comparisons are asked for early, fitted with more weight decay, and practised for longer: --steps
    3600000 --until 0.2 --reward.weight-decay 10, where nothing else is said.

    Attributes:
        feedback: let people answer, at a window, in browsers (web) or in the terminal, while training goes on beside.
        resume: a run to go on with; its own options hold.
    """

    feedback: Literal["window", "web", "terminal"] | None = None
    resume: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None


FEW = 300
"""Labels, fewer than which are made the most of."""


def main(arguments: Sequence[str]) -> int:
    """Trains, evaluates, and writes the animation and the report; returns 0, or 130 after Ctrl-C."""
    return run(parsed(arguments), "backflip", arguments)


def parsed(arguments: Sequence[str]) -> BackflipConfig:
    """The options that are given, the others by default, which depends on how many labels there are."""
    config = _told(arguments, BackflipConfig())
    if config.resume is None and 0 < config.loop.labels < FEW:
        return _told(arguments, of_few())
    return config


def of_few() -> BackflipConfig:
    """What is best with few labels: what they say is soon used up, but not what can be learned from it."""
    usual = BackflipConfig()
    loop, reward = replace(usual.loop, steps=3_600_000, until=0.2), replace(usual.reward, weight_decay=10.0)
    return replace(usual, loop=loop, reward=reward)


def _told(arguments: Sequence[str], default: BackflipConfig) -> BackflipConfig:
    return tyro.cli(BackflipConfig, prog="prefgym backflip", args=list(arguments), default=default)


def run(config: BackflipConfig, verb: str, arguments: Sequence[str]) -> int:
    """What a verb that trains does; `arguments` are those it was given, for the process that trains beside people."""
    if config.feedback is not None:
        from prefgym.scripts.people import train_with_people

        return train_with_people(config.feedback, config, config.out or default_folder(config), verb, arguments)
    return conduct(verb, lambda: begin(config), finish)


def begin(config: BackflipConfig) -> Training:
    """A new run, or an old one to go on with.

    Raises:
        ValueError: options beside --resume.
        RunError: the run to resume is finished.
    """
    if config.resume is None:
        return Training.start(config)
    extra = [name.removeprefix("loop.") for name in changed(config, type(config)()) if name not in WITH_RESUME]
    if extra:
        raise ValueError(f"a resumed run keeps its options: leave out `{'`, `'.join(extra)}`, or begin a new run")
    if (config.resume / EVALUATION).exists():
        raise RunError(f"{config.resume} is finished: see prefgym info, or begin a new run")
    return Training.resume(config.resume)


def finish(training: Training) -> dict[str, Any]:
    """Evaluates the final policy, writes evaluation.json, the animation and the report, and prints what came out."""
    run, env_id, seconds = training.run, training.config.env_id, training.elapsed
    figures = measure(training.agent, env_id, EPISODES, EVALUATION_SEED)
    written = animate(training.agent, env_id, EVALUATION_SEED, run.folder / "policy")
    run.write_text(EVALUATION, json.dumps(figures, indent=2) + "\n")
    report = _report(run)
    _print(figures, training, seconds, [*written, *report])
    return figures


def _report(run: Run) -> list[Path]:
    try:
        from prefgym.scripts.report import write_report

        return [write_report(run)]
    except Exception as error:
        logger.warning("The report could not be written: %s", error)
        return []


def _print(figures: dict[str, Any], training: Training, seconds: float, written: list[Path]) -> None:
    name = "clean_backflips" if "clean_backflips" in figures else "true_return"
    console = Console(highlight=False, soft_wrap=True)
    loop, speed = training.loop, training.loop.steps / seconds
    console.print(
        f"[bold green]{figures[name]['mean']:.2f} ± {figures[name]['std']:.2f} {name.replace('_', ' ')}[/] an episode, "
        f"mean of {EPISODES}, from {loop.asked} comparisons; {loop.steps:,} steps in {seconds:.0f} s ({speed:,.0f}/s)"
    )
    for path in written:
        console.print(f"  {path}")
    console.print(f"  prefgym play {training.run.folder}")
