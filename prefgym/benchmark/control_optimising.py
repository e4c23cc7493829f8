"""Optimising what a robot does against a learned reward, from a policy on that is halfway to an expert."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from torch.distributions import Normal, kl_divergence

from prefgym.agents.control import PPOConfig, make_ppo
from prefgym.agents.vec_env import VectorAdapter
from prefgym.benchmark.making import trained_for
from prefgym.benchmark.methods import Scorer, View
from prefgym.benchmark.optimising import BEST_OF, Rows, best_of, rows
from prefgym.benchmark.pools import STAGES, Pool, PoolSpec, pool_path
from prefgym.benchmark.tasks import Task
from prefgym.envs.stock import make_vector
from prefgym.pages import write_whole
from prefgym.recorder import Pieces
from prefgym.rewards.ensemble import RewardEnsemble
from prefgym.vector import PreferenceReward

STAGE = 2
"""Which of a pool's stages is halfway."""

STEPS = 400_000
"""Env steps of PPO, if the settings do not say."""

GROUPS = 8
"""Of max(BEST_OF) episodes each, of which the best are taken."""

EPISODES, EVERY = 64, 2
"""Played to measure what PPO has come to, and after how many rollouts each time."""

PLAY_SEED = 10_000
"""Of what is played to measure; the same in every cell, so that rewards and policies alone differ."""


class Played(NamedTuple):
    """E whole episodes of T steps.

    Attributes:
        seen: [T, E, O] observations that actions were chosen by.
        proxy: [E] sums of the learned reward.
        gold: [E] of the true reward.
    """

    seen: NDArray[np.float32]
    proxy: NDArray[np.float64]
    gold: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HalfTrained:
    """The policy of a pool's stage "half", and what it did; see `prefgym.benchmark.optimising.Beginning`.

    Proxies are returns of whole episodes, in deviations from what that policy comes to; gold is 0 for random actions
    and 1 for the pool's expert, as on the online track. KL is the sum over the steps of an episode, in nats, on states
    that the new policy comes to, of the actions before they are clipped.

    Attributes:
        task: what it does.
        pool: with its segments.
        spec: of the pool.
        steps: env steps of PPO.
    """

    task: Task
    pool: Pool
    spec: PoolSpec
    steps: int

    @classmethod
    def of(cls, task: Task, pool: Pool, spec: PoolSpec, steps: int) -> HalfTrained:
        """The beginning of a pool; PPO takes these env steps, or `STEPS`."""
        return cls(task, pool, spec, steps or STEPS)

    @cached_property
    def candidates(self) -> Pieces:
        """Segments of the policy."""
        return self.pool.candidates_of(STAGE)

    @property
    def view(self) -> View:
        """What a method sees."""
        done = self.candidates
        return View(done.observations, done.actions, done.steps)

    def optimise(self, scorer: Scorer, seed: int) -> Rows:
        """Rows of the best of n, and of PPO."""
        reward: RewardEnsemble = scorer.model
        done = self.candidates
        reward.normalise(*(array.reshape(-1, array.shape[-1]) for array in (done.observations, done.actions)))
        adapter, agent = self._agent(reward, seed)
        begun = play(agent, self.task.env_id, GROUPS * max(BEST_OF), PLAY_SEED, reward)
        yield from self._best_of(begun)
        yield from self._ppo(agent, reward, begun)
        adapter.close()

    def _agent(self, reward: RewardEnsemble, seed: int) -> tuple[VectorAdapter, PPO]:
        """PPO with the policy, and new statistics and moments, to learn from the learned reward."""
        adapter = VectorAdapter(PreferenceReward(make_vector(self.task.env_id, self.spec.envs), reward), seed)
        agent = make_ppo(adapter, PPOConfig(), seed)
        agent.policy.load_state_dict(self._parameters)
        return adapter, agent

    @cached_property
    def _parameters(self) -> dict[str, torch.Tensor]:
        """The policy's; trained again as the pool's was where they are not in the cache."""
        steps = self.pool.facts["steps"][STAGES[STAGE]]
        path = pool_path(self.task, self.spec).with_suffix(f".{steps}.safetensors")
        if not path.exists():
            write_whole(path, save(trained_for(self.task, self.spec, steps)))
        return load(path.read_bytes())

    def _best_of(self, played: Played) -> Rows:
        proxy, gold = (
            values.reshape(GROUPS, -1) for values in (_standard(played.proxy, played), self.pool.score(played.gold))
        )
        return best_of(proxy, gold)

    def _ppo(self, agent: PPO, reward: RewardEnsemble, begun: Played) -> Rows:
        first = deepcopy(agent.policy)
        rollout = agent.n_steps * agent.n_envs
        for number in range(self.steps // rollout + 1):
            if number:
                agent.learn(rollout, reset_num_timesteps=False)
            if number % EVERY == 0:
                now = play(agent, self.task.env_id, EPISODES, PLAY_SEED, reward)
                distance = divergence(agent.policy, first, now.seen)
                yield from rows(
                    "ppo", distance, float(_standard(now.proxy, begun).mean()), float(self.pool.score(now.gold).mean())
                )


def play(agent: PPO, env_id: str, count: int, seed: int, reward: RewardEnsemble) -> Played:
    """Plays one episode in each of `count` environments, with the policy's noise; training's chances stay as they were.

    Raises:
        ValueError: episodes that do not all end at once.
    """
    env = PreferenceReward(make_vector(env_id, count), reward)
    observations, _ = env.reset(seed=seed)
    proxy, gold, seen = np.zeros(count), np.zeros(count), []
    over = np.zeros(count, dtype=bool)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        while not over.any():
            seen.append(observations)
            actions, _ = agent.predict(observations, deterministic=False)
            observations, given, terminated, truncated, info = env.step(actions)
            proxy += given
            gold += info["true_reward"]
            over = terminated | truncated
    env.close()
    if not over.all():
        raise ValueError(f"the episodes of {env_id} must end at once for this track")
    return Played(np.stack(seen), proxy, gold)


@torch.no_grad()
def divergence(policy: ActorCriticPolicy, first: ActorCriticPolicy, seen: NDArray[np.float32]) -> float:
    """KL(policy ‖ first) of the actions of an episode, nats: summed over the steps of [T, E, O], mean over episodes."""
    states = torch.from_numpy(seen.reshape(-1, seen.shape[-1]))
    new, old = (one.get_distribution(states).distribution for one in (policy, first))
    assert isinstance(new, Normal)
    assert isinstance(old, Normal)
    return float(kl_divergence(new, old).sum()) / seen.shape[1]


def _standard(proxy: NDArray[np.float64], begun: Played) -> NDArray[np.float64]:
    """In deviations from what was begun with."""
    return (proxy - begun.proxy.mean()) / (begun.proxy.std() + 1e-12)
