"""How fast it is, as ratios measured side by side: the environment, and the whole loop.

    python benchmarks/throughput.py            # about 3 minutes
    python benchmarks/throughput.py --loop full

The environment is compared with one Gymnasium Hopper-v5 and with a bare `mujoco.batch` loop that steps the same bodies
under the same controls on as many threads. The three take turns, and a ratio is taken within a turn, so that a machine
that is busy now and then disturbs all alike. A turn is a whole episode, so that resets are paid for too.

The loop is `prefgym backflip --labels 900` in a process of its own: `full` runs the demo as it is, `short` takes a
fifth of everything, steps, sessions and labels.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import tyro
from mujoco.batch import Batch
from summary import machine, markdown, metrics_of, prefgym

import prefgym as package  # registers the environments
from prefgym.plan import LoopConfig
from prefgym.scripts.train_config import TrainConfig

ENV, PEER = "prefgym/Backflip-v0", "Hopper-v5"
PEER_STEPS = 1000
SHORT = 5  # a short loop takes one step in so many
IMITATION = "the `imitation` library took about 600 steps/s on seals/Hopper (shared/DESIGN.md; not measured here)"


@dataclass(frozen=True)
class ThroughputConfig:
    """Measure the speed of the environment and of the whole loop.

    Attributes:
        envs: numbers of environments to measure with.
        threads: numbers of threads that simulate.
        turns: how often everything is measured.
        loop: none, short or full.
        loops: how often the loop is measured, each time with another seed.
        labels: that the loop asks for.
    """

    envs: tuple[int, ...] = (128, 256)
    threads: tuple[int, ...] = field(default_factory=lambda: tuple(sorted({1, TrainConfig().num_threads})))
    turns: int = 5
    loop: Literal["none", "short", "full"] = "short"
    loops: int = 2
    labels: int = 900


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Turn:
    """One environment, the bare loop and the peer, ready to take turns.

    Args:
        count: environments, N.
        threads: that simulate.
    """

    def __init__(self, count: int, threads: int) -> None:
        self.env = gym.make_vec(ENV, num_envs=count, num_threads=threads)
        self.env.reset(seed=0)
        self.inner: Any = self.env.unwrapped
        self.batch = Batch(self.inner.model, count, threads)
        self.batch.reset()
        self.controls = self.batch.bind("ctrl")
        self.peer = gym.make(PEER)
        self.steps = count * self.inner.horizon
        self.rng = np.random.default_rng(0)

    def take(self) -> tuple[float, float, float]:
        """Steps per second of the environment, of the bare loop, and of the peer."""
        shape = (self.inner.horizon, *self.env.action_space.shape)
        actions = self.rng.uniform(-1, 1, shape).astype(np.float32)
        state = self.inner.get_state()
        for name in ("qpos", "qvel"):
            self.batch.bind(name)[...] = state[f"physics/{name}"]
        env = self.steps / seconds(lambda: [self.env.step(action) for action in actions])
        bare = self.steps / seconds(lambda: self._bare(actions))
        return env, bare, PEER_STEPS / seconds(self._peer)

    def _bare(self, actions: np.ndarray) -> None:
        for action in actions:
            self.controls[:] = action
            self.batch.step(nstep=self.inner.substeps)

    def _peer(self) -> None:
        self.peer.reset(seed=0)
        for _ in range(PEER_STEPS):
            _, _, terminated, truncated, _ = self.peer.step(self.peer.action_space.sample())
            if terminated or truncated:
                self.peer.reset()

    def close(self) -> None:
        self.env.close()
        self.peer.close()


def measure_envs(config: ThroughputConfig) -> list[list[str]]:
    """Lines of the table: speeds and ratios for each number of environments and threads."""
    turns = {(count, threads): Turn(count, threads) for threads in config.threads for count in config.envs}
    taken: dict[tuple[int, int], list[tuple]] = {setting: [] for setting in turns}
    for _ in range(config.turns):
        for setting, turn in turns.items():
            taken[setting].append(turn.take())
    lines = []
    for (count, threads), speeds in taken.items():
        env, bare, peer = np.array(speeds).T
        what = f"{count} envs, {threads} thread{'s' * (threads > 1)}"
        lines += [_line(f"{what}: steps/s", env, ",.0f", ""), _line(f"{what}: ÷ {PEER}", env / peer, ".1f", "≥ 10")]
        lines += [_line(f"{what}: ÷ bare mujoco.batch", env / bare, ".2f", "≥ 0.85")]
        turns[count, threads].close()
    return [*lines, _line(f"{PEER}, 1 env: steps/s", [one[2] for all_ in taken.values() for one in all_], ",.0f", "")]


def measure_loop(config: ThroughputConfig) -> list[list[str]]:
    """Lines of the table for the whole loop: training alone, the whole command, the share of fits, memory."""
    usual, part = LoopConfig(), SHORT if config.loop == "short" else 1
    budget = {"labels": config.labels // part, "steps": usual.steps // part, "sessions": max(usual.sessions // part, 1)}
    runs, commands = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(config.loops):
            out = Path(folder) / str(seed)
            told = [
                "backflip",
                *(f"--{name}={value}" for name, value in budget.items()),
                f"--seed={seed}",
                "--out",
                out,
            ]
            commands.append(seconds(lambda told=told: prefgym(*told)))  # type: ignore[misc]
            runs.append(metrics_of(out))
    speeds, shares = ([run[name] for run in runs] for name in ("steps_per_second", "fit_share"))
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # GiB, of the largest process
    what = f"{config.loop} loop, {budget['labels']} labels, {budget['steps']:,} steps"
    return [
        _line(f"{what}: steps/s", speeds, ",.0f", "≥ 12,000"),
        _line(f"{what}: share of asking and fitting", shares, ".1%", "< 15 %"),
        _line(f"{what}: whole command, s", commands, ".0f", "< 180" if part == 1 else ""),
        _line(f"{what}: peak memory, GiB", [memory], ".2f", "< 1.5"),
    ]


def _line(what: str, values: Sequence[float] | np.ndarray, form: str, goal: str) -> list[str]:
    low, middle, high = np.min(values), np.median(values), np.max(values)
    return [what, f"{middle:{form}}", f"{low:{form}} to {high:{form}}", goal]


def main(arguments: Sequence[str]) -> int:
    """Prints one Markdown table."""
    config = tyro.cli(ThroughputConfig, args=arguments)
    lines = measure_envs(config)
    if config.loop != "none":
        lines += measure_loop(config)
    print(markdown(["what", "median", "min to max", "goal"], lines))
    print(f"\nprefgym {package.__version__}, {config.turns} turns, on {machine()}. For comparison, {IMITATION}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
