"""What the judge's reward itself leads to: PPO without any reward model, for some seeds.

    python benchmarks/teacher_scores.py --seeds 10 --out runs/scores

It shows what the reward leads to when it is known exactly, beside the curve of what it leads to when it is learned, and
is a test of the reward: a policy that earns much without clean backflips has found a hole. The options of PPO are those
of `prefgym backflip`. Prints the same table as backflip_curve.py.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
import tyro
from summary import figures_of, gather, machine, same_options, table, write_csv

from prefgym.agents.control import PPOConfig, make_ppo
from prefgym.agents.vec_env import VectorAdapter
from prefgym.scripts.playing import measure
from prefgym.scripts.train_config import TrainConfig
from prefgym.scripts.training import SEED_STRIDE


@dataclass(frozen=True)
class ScoresConfig:
    """Train on a reward of the environment, and count clean backflips.

    Attributes:
        reward: name of the environment's reward: clean is the judge's.
        steps: env steps to take, rounded down to whole rollouts.
        envs: environments simulated at once.
        seeds: runs.
        first_seed: of these seeds.
        parallel: runs at a time, one thread each.
        episodes: that each final policy is measured on.
        evaluation_seed: of the first of these episodes.
        out: folder of the results.
        ppo: options of PPO.
    """

    reward: str = "clean"
    steps: int = 1_000_000
    envs: int = TrainConfig.envs
    seeds: int = 10
    first_seed: int = 0
    parallel: int = 2
    episodes: int = 32
    evaluation_seed: int = 1000
    out: Path = Path("runs/scores")
    ppo: PPOConfig = field(default_factory=PPOConfig)


def score(config: ScoresConfig, seed: int) -> dict[str, Any]:
    """A row of the CSV; what was done before is not done again."""
    result = config.out / f"{config.reward}-{seed}.json"
    if result.exists():
        return json.loads(result.read_text())
    torch.set_num_threads(1)
    env_id = "prefgym/Backflip-v0"
    adapter = VectorAdapter(gym.make_vec(env_id, num_envs=config.envs, reward=config.reward), seed * SEED_STRIDE)
    agent = make_ppo(adapter, config.ppo, seed)
    began, rollout = time.perf_counter(), config.ppo.rollout(config.envs)
    agent.learn(config.steps // rollout * rollout)
    seconds, steps = time.perf_counter() - began, agent.num_timesteps
    row = {"reward": config.reward, "seed": seed, "steps": steps}
    row |= {"seconds": seconds, "steps_per_second": steps / seconds}
    row |= figures_of(measure(agent, env_id, config.episodes, config.evaluation_seed))
    result.write_text(json.dumps(row, indent=2) + "\n")
    return row


def main(arguments: Sequence[str]) -> int:
    """Trains and measures what is missing, writes the CSV, prints the table; returns 1 if any run failed."""
    config = tyro.cli(ScoresConfig, args=arguments)
    told = {"steps": config.steps, "envs": config.envs, "ppo": asdict(config.ppo)}
    same_options(config.out, told | {"episodes": config.episodes, "evaluation_seed": config.evaluation_seed})
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    with ProcessPoolExecutor(config.parallel, mp_context=get_context("spawn")) as pool:
        rows, failures = gather({f"{config.reward}-{seed}": pool.submit(score, config, seed) for seed in seeds})
    if rows:
        write_csv(config.out / f"{config.reward}.csv", rows)
        print(f"{table(rows, ['reward'])}\n\n{config.steps:,} steps, {config.parallel} runs at a time on {machine()}.")
    return bool(failures)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
