"""Making a pool: PPO learns the true reward, and policies on its way are played again and recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO

from prefgym.agents.control import PPOConfig, make_ppo
from prefgym.agents.vec_env import VectorAdapter
from prefgym.benchmark.pools import STAGES, Pool, PoolSpec
from prefgym.benchmark.tasks import Task
from prefgym.envs.stock import make_vector
from prefgym.recorder import FIELDS, Pieces, Recorder
from prefgym.scripts.playing import play_out
from prefgym.shortlist import distinct
from prefgym.vector import PreferenceReward

WAYS = {"early": 0.1, "half": 0.5, "expert": 1.0}
"""How far each stage is on the way from random actions to the last policy, by true return."""

WINDOW, RECORDED = 400, 64
"""Steps, and environments, that a stage's segments are drawn from."""

EPISODES = 32
"""That a policy's return is the mean of."""

TRAINED = 0.8
"""Share of the work that is the training."""


class RandomActor:
    """Acts at random, as a policy is asked to.

    Args:
        space: of the actions of one environment.
        seed: of the actions.
    """

    def __init__(self, space: gym.Space, seed: int) -> None:
        self.space = space
        self.space.seed(seed)

    def predict(self, observations: np.ndarray, deterministic: bool = False) -> tuple[np.ndarray, None]:
        """Actions [N, A], whatever the observations [N, O] are."""
        return np.stack([self.space.sample() for _ in observations]), None


@dataclass(frozen=True)
class Snapshot:
    """A policy in the course of training, after so many env steps."""

    steps: int
    parameters: dict[str, torch.Tensor]


def make_pool(task: Task, spec: PoolSpec, on_progress: Callable[[float], None] = lambda share: None) -> Pool:
    """Trains, plays the stages, and draws their segments: seconds to minutes.

    Raises:
        ValueError: PPO does not get better than random actions in so few steps.
    """
    torch.set_num_threads(1)
    adapter = VectorAdapter(make_vector(task.env_id, spec.envs), seed=spec.seed)
    agent = make_ppo(adapter, PPOConfig(), spec.seed)
    random = RandomActor(adapter.action_space, spec.seed)
    trail = _train(agent, spec.steps or task.expert_steps, spec, lambda share: on_progress(TRAINED * share))
    lowest = _mean_return(random, task, spec.seed)
    returns = [_mean_return(_at(agent, snapshot), task, spec.seed) for snapshot in trail]
    chosen = [trail[number] for number in stages(lowest, returns)]
    parts = [_record(random, task, spec, 0, 0)]
    parts += [_record(_at(agent, one), task, spec, one.steps, number) for number, one in enumerate(chosen, start=1)]
    expert = _mean_return(_at(agent, trail[-1]), task, spec.seed, deterministic=True)
    adapter.close()
    facts = {"random_return": lowest, "expert_return": expert, "agent": "ppo"}
    facts |= {"steps": dict(zip(STAGES, [0] + [one.steps for one in chosen], strict=True))}
    facts |= {"returns": dict(zip(STAGES, [lowest] + [returns[trail.index(one)] for one in chosen], strict=True))}
    on_progress(1.0)
    return Pool(_joined([first for first, _ in parts]), _joined([second for _, second in parts]), facts)


def trained_for(task: Task, spec: PoolSpec, steps: int) -> dict[str, torch.Tensor]:
    """Parameters of the policy that a pool's training had come to after so many env steps: it is done again."""
    torch.set_num_threads(1)
    adapter = VectorAdapter(make_vector(task.env_id, spec.envs), seed=spec.seed)
    trail = _train(make_ppo(adapter, PPOConfig(), spec.seed), steps, replace(spec, snapshots=3), lambda share: None)
    adapter.close()
    return trail[-1].parameters


def stages(lowest: float, returns: Sequence[float]) -> list[int]:
    """Numbers of the snapshots that stand for early, half and expert: the first that came so far, and the last.

    Where one came so far only together with the next, the one before it is taken, so that no two stages are one policy.

    Args:
        lowest: return of random actions.
        returns: of the snapshots.

    Raises:
        ValueError: the last is no better than random actions.
    """
    if not returns[-1] > lowest:
        raise ValueError(
            f"a pool needs PPO to get better than random actions, which have a return of {lowest:.4g}, got "
            f"{returns[-1]:.4g}: give it more `steps`"
        )
    way = (np.array(returns) - lowest) / (returns[-1] - lowest)
    first = [int(np.flatnonzero(way >= share)[0]) for share in WAYS.values()]
    last = range(len(returns) - len(WAYS), len(returns))
    return [max(0, min(number, bound)) for number, bound in zip([*first[:-1], last[-1]], last, strict=True)]


def _train(agent: PPO, steps: int, spec: PoolSpec, on_progress: Callable[[float], None]) -> list[Snapshot]:
    """Trains for whole rollouts, and returns the policies on the way, untrained first."""
    rollout = agent.n_steps * agent.n_envs
    count = max(1, steps // rollout)
    kept = set(np.linspace(0, count, min(spec.snapshots, count + 1)).round().astype(int).tolist())
    trail = [_snapshot(agent)]
    for number in range(1, count + 1):
        agent.learn(rollout, reset_num_timesteps=False)
        trail += [_snapshot(agent)] if number in kept else []
        on_progress(number / count)
    return trail


def _snapshot(agent: PPO) -> Snapshot:
    parameters = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    return Snapshot(agent.num_timesteps, parameters)


def _at(agent: PPO, snapshot: Snapshot) -> PPO:
    """The agent with the policy it had then."""
    agent.policy.load_state_dict(snapshot.parameters)
    return agent


def _mean_return(actor: Any, task: Task, seed: int, *, deterministic: bool = False) -> float:
    """Of whole episodes."""
    torch.manual_seed(seed)
    episodes = play_out(actor, task.env_id, EPISODES, seed, deterministic=deterministic)
    return float(episodes.final()["true_return"].mean())


def _record(actor: Any, task: Task, spec: PoolSpec, steps: int, number: int) -> tuple[Pieces, Pieces]:
    """Candidates and held-out segments of a stage, of episodes of their own."""
    counts = (spec.candidates, 2 * spec.queries)
    pieces = [
        _drawn(_played(actor, task, [spec.seed, number, part]), task, count, steps) for part, count in enumerate(counts)
    ]
    return pieces[0], pieces[1]


def _played(actor: Any, task: Task, key: list[int]) -> tuple[Recorder, np.random.Generator]:
    """A recording of the actor at work, and what draws from it."""
    rng = np.random.default_rng(key)
    seed = int(rng.integers(2**31))
    torch.manual_seed(seed)
    recorder = Recorder(WINDOW)
    env = PreferenceReward(make_vector(task.env_id, RECORDED), recorder=recorder)
    observations, _ = env.reset(seed=seed)
    for _ in range(WINDOW):
        observations, *_ = env.step(actor.predict(observations, deterministic=False)[0])
    env.close()
    return recorder, rng


def _drawn(played: tuple[Recorder, np.random.Generator], task: Task, count: int, steps: int) -> Pieces:
    """`count` different segments, as old as the policy; all that there are may be fewer.

    Raises:
        ValueError: they are fewer.
    """
    recorder, rng = played
    places = RECORDED * (WINDOW - task.segment_length)
    pieces = distinct(recorder.draw(min(2 * count, places), task.segment_length, rng))
    if len(pieces) < count:
        raise ValueError(f"a stage has {len(pieces)} different segments, and {count} are to be drawn")
    return replace(pieces.take(np.arange(count)), steps=np.full(count, steps, np.int64))


def _joined(parts: Sequence[Pieces]) -> Pieces:
    named = {name: np.concatenate([getattr(part, name) for part in parts]) for name in (*FIELDS, "steps")}
    return Pieces(**named)
