"""prefgym evaluate: what a run's policy comes to, as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import tyro
from stable_baselines3.common.base_class import BaseAlgorithm

BATCH = 256
"""Episodes simulated at once."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure the policy of a run; JSON on standard output.

    Attributes:
        run: the run's folder.
        episodes: how many.
        seed: of the episodes: number i begins from seed + i.
        stochastic: draw the actions, instead of taking the most likely.
    """

    run: Annotated[Path, tyro.conf.Positional]
    episodes: int = 100
    seed: int = 1000
    stochastic: bool = False


def main(arguments: Sequence[str]) -> int:
    """Prints the figures."""
    config = tyro.cli(EvaluateConfig, prog="prefgym evaluate", args=list(arguments))
    from prefgym.scripts.training import Training

    training = Training.resume(config.run)
    figures = measure(training.agent, training.config.env_id, config.episodes, config.seed, not config.stochastic)
    print(json.dumps(figures))
    return 0


def measure(agent: BaseAlgorithm, env_id: str, episodes: int, seed: int, deterministic: bool = True) -> dict[str, Any]:
    """Figures of so many episodes, by name: mean, standard deviation and interquartile mean."""
    if episodes < 1:
        raise ValueError(f"`episodes` must be at least 1, got {episodes}")
    batches = [
        play_out(agent, env_id, min(BATCH, episodes - start), seed + start, deterministic)
        for start in range(0, episodes, BATCH)
    ]
    names = [name for name in batches[0] if name != "shown"]
    figures: dict[str, Any] = {name: statistics(np.concatenate([batch[name] for batch in batches])) for name in names}
    return figures | {"episodes": episodes, "seed": seed}


def play_out(agent: BaseAlgorithm, env_id: str, count: int, seed: int, deterministic: bool) -> dict[str, np.ndarray]:
    """Plays the first episode of each of `count` environments.

    Returns:
        "true_return", and "revolutions" and "clean_backflips" where the judge counts them, each [count]; "shown"
        [T, count, D], what clips are drawn from.
    """
    env = gym.make_vec(env_id, num_envs=count)
    observations, _ = env.reset(seed=seed)
    returns, ended, shown = np.zeros(count), np.zeros(count, dtype=bool), []
    last: dict[str, np.ndarray] = {}
    while not ended.all():
        actions, _ = agent.predict(observations, deterministic=deterministic)
        observations, _, terminations, truncations, info = env.step(actions)
        dones = terminations | truncations
        said = info.get("final_info", info)
        new = dones & ~ended
        for name in ("revolutions", "clean_backflips"):
            if name in said:
                last[name] = np.where(new, said[name], last.get(name, 0))
        returns += np.where(ended, 0, np.where(dones, said["true_reward"], info["true_reward"]))
        shown.append(np.where(dones[:, None], said["shown"], info["shown"]))
        ended |= dones
    env.close()
    return last | {"true_return": returns, "shown": np.stack(shown)}


def statistics(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation, and interquartile mean: the mean without the lower and the upper quarter."""
    cut = len(values) // 4
    middle = np.sort(values)[cut : len(values) - cut]
    return {"mean": float(values.mean()), "std": float(values.std()), "iqm": float(middle.mean())}
