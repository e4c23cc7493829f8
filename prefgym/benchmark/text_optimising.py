"""Optimising what a language model says against a learned reward, from the fine-tuned model of a pool on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from prefgym.agents.text_ppo import make_text_ppo
from prefgym.agents.text_reward import TextRewardEnsemble
from prefgym.agents.token_buffer import TokenRolloutBuffer
from prefgym.agents.vec_env import VectorAdapter
from prefgym.benchmark.methods import Scorer, View
from prefgym.benchmark.optimising import BEST_OF, Rows, best_of, rows
from prefgym.benchmark.pools import Pool
from prefgym.benchmark.tasks import Task
from prefgym.benchmark.text_making import PPO_CONFIG, ROWS, SAMPLES, Writer, learn, rollouts, text_env
from prefgym.benchmark.text_models import policy_with
from prefgym.envs.text_tasks import TextTask, text_tasks
from prefgym.recorder import Pieces
from prefgym.text_recorder import TextRecorder
from prefgym.vector import PreferenceReward

STAGE = 1
"""Which of a pool's stages the fine-tuned model is."""

PROMPTS = 64
"""Held-out prompts that are answered max(BEST_OF) times."""

ANSWERS_SEED = 10_000
"""Of what is said for the best of n; the same in every cell, so that rewards alone differ."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """The fine-tuned model of a pool, and what it said; see `prefgym.benchmark.optimising.Beginning`.

    Attributes:
        told: the task.
        pool: with the model.
        candidates: what it said to the prompts that are trained with.
        seed: of the pool, and of what it says for the best of n.
        rollouts: of PPO.
    """

    told: TextTask
    pool: Pool
    candidates: Pieces
    seed: int
    rollouts: int

    @classmethod
    def of(cls, task: Task, pool: Pool, seed: int, steps: int) -> Tuned:
        """The beginning of a pool; PPO takes these env steps, or as many as the task says."""
        told = text_tasks[task.text](seed)
        return cls(told, pool, pool.candidates_of(STAGE), seed, rollouts(task, steps, told))

    @property
    def view(self) -> View:
        """What a method sees."""
        said = self.candidates
        return View(said.observations, said.actions, said.steps, None, said.groups, self.pool.policy)

    def optimise(self, scorer: Scorer, seed: int) -> Rows:
        """Rows of the best of n, and of PPO."""
        reward: TextRewardEnsemble = scorer.model
        reward.normalise(self.candidates.observations[:, 0], self.candidates.actions[:, 0])
        yield from self._best_of(reward)
        yield from self._ppo(reward, seed)

    def answers(self) -> Pieces:
        """[P S] responses to held-out prompts, those to one prompt beside each other."""
        writer = Writer(policy_with(self.pool.policy), self.told, 0, ANSWERS_SEED + self.seed)
        return writer.answers(self.told.held_out[:PROMPTS], max(BEST_OF))

    def _best_of(self, reward: TextRewardEnsemble) -> Rows:
        said = self.answers()
        shape = -1, max(BEST_OF)
        proxy, gold = reward(said.observations[:, 0], said.actions[:, 0]).reshape(shape), said.rewards.reshape(shape)
        return best_of(proxy, gold)

    def _ppo(self, reward: TextRewardEnsemble, seed: int) -> Rows:
        """A pair of rows for each rollout; what a rollout says is from before its update."""
        policy = policy_with(self.pool.policy)
        recorder = TextRecorder(1, policy.codec.text, SAMPLES)
        env = PreferenceReward(text_env(self.told, policy, ROWS, SAMPLES), reward, recorder)
        adapter = VectorAdapter(env, seed)
        agent = make_text_ppo(adapter, policy.model, replace(PPO_CONFIG, kl_coefficient=0.0), seed=seed)
        for _ in range(self.rollouts):
            learn(agent, 1)
            assert isinstance(agent.rollout_buffer, TokenRolloutBuffer)
            tokens, done = recorder.recent(1)
            proxy, gold = reward(tokens, done).mean(), np.mean([one.reward for one in recorder.last()])
            yield from rows("ppo", max(0.0, agent.rollout_buffer.statistics["kl"]), float(proxy), float(gold))
        adapter.close()
