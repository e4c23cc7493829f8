"""The over-optimisation track: how far a learned reward can be trusted, by PPO and by the best of n.

After Gao, Schulman & Hilton 2022: a reward is fitted once, to comparisons of what the fine-tuned model says, and is
then optimised ever harder. At every distance from that model, √KL, it is noted what the learned reward (the proxy) and
the true score (gold) think of what comes out. PPO has no KL penalty, so that nothing but the reward holds it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefgym.agents.text_ppo import make_text_ppo
from prefgym.agents.text_reward import TextRewardEnsemble
from prefgym.agents.token_buffer import TokenRolloutBuffer
from prefgym.agents.vec_env import VectorAdapter
from prefgym.benchmark.cells import Cell
from prefgym.benchmark.methods import Scorer, View, methods
from prefgym.benchmark.pools import Pool, load_pool
from prefgym.benchmark.settings import Settings
from prefgym.benchmark.tasks import Task, tasks
from prefgym.benchmark.teachers import teachers
from prefgym.benchmark.text_making import PPO_CONFIG, ROWS, SAMPLES, Writer, learn, rollouts, text_env
from prefgym.benchmark.text_models import policy_with
from prefgym.benchmark.tracks.offline import Asking, standard_of
from prefgym.envs.text_tasks import TextTask, text_tasks
from prefgym.overoptimisation import best_of_n, best_of_n_kl
from prefgym.recorder import Pieces
from prefgym.text_recorder import TextRecorder
from prefgym.vector import PreferenceReward

TUNED = 1
"""Which of a pool's stages the fine-tuned model is."""

BEST_OF = (1, 2, 4, 8, 16, 32, 64)
PROMPTS = 64
"""Held-out prompts that are answered max(BEST_OF) times."""

ANSWERS_SEED = 10_000
"""Of what is said for the best of n; the same in every cell, so that rewards alone differ."""

Rows = Iterator[dict[str, Any]]


def run(cell: Cell, settings: Settings) -> list[dict[str, Any]]:
    """The rows of a cell: for every budget of comparisons gold and proxy along √KL, of both ways.

    The budgets are those of the online track, of which a task may take a multiple; so is the length of PPO.

    Raises:
        ValueError: a task of control.
    """
    task = tasks[cell.task]
    if not task.text:
        raise ValueError(f"`task` must be one of text on the track overoptimisation, got {task.name}")
    pool = load_pool(task, settings.pool)
    begun = Beginning.of(task, pool, settings.pool.seed)
    ask = Asking(begun.candidates, teachers[cell.teacher](standard_of(pool, task.env_id), cell.seed))
    budgets = [task.scale * labels for labels in settings.online.labels]
    scorers = methods[cell.method]().fit(begun.view, ask, budgets, cell.seed)
    steps, rows = rollouts(task, settings.online.steps, begun.told), []
    for budget in budgets:
        ask.limit, started = budget, time.perf_counter()
        reward = _normalised(next(scorers), begun)
        found = [*best_of(reward, begun), *ppo(reward, begun, steps, cell.seed)]
        seconds = round(time.perf_counter() - started, 2)
        rows += [{"budget": budget, "seconds": seconds, **row} for row in found]
    return rows


@dataclass(frozen=True, eq=False)
class Beginning:
    """Where all optimisation begins: the fine-tuned model of a pool, and what it said.

    Attributes:
        told: the task.
        pool: with the model.
        candidates: what it said to the prompts that are trained with.
        seed: of the pool, and of what it says for the best of n.
    """

    told: TextTask
    pool: Pool
    candidates: Pieces
    seed: int

    @classmethod
    def of(cls, task: Task, pool: Pool, seed: int) -> Beginning:
        """The beginning of a pool."""
        stages = np.array_split(np.arange(len(pool.candidates)), 4)
        return cls(text_tasks[task.text](seed), pool, pool.candidates.take(stages[TUNED]), seed)

    @property
    def view(self) -> View:
        """What a method sees."""
        said = self.candidates
        return View(said.observations, said.actions, said.steps, None, said.groups, self.pool.policy)

    def answers(self) -> Pieces:
        """[P S] responses to held-out prompts, those to one prompt beside each other."""
        writer = Writer(policy_with(self.pool.policy), self.told, 0, ANSWERS_SEED + self.seed)
        return writer.answers(self.told.held_out[:PROMPTS], max(BEST_OF))


def _normalised(scorer: Scorer, begun: Beginning) -> TextRewardEnsemble:
    """The learned reward, with mean 0 and deviation 1 on what the fine-tuned model says."""
    reward = scorer.model
    reward.normalise(begun.candidates.observations[:, 0], begun.candidates.actions[:, 0])
    return reward


def best_of(reward: TextRewardEnsemble, begun: Beginning) -> Rows:
    """Rows of the best of n."""
    said = begun.answers()
    shape = -1, max(BEST_OF)
    proxy, gold = reward(said.observations[:, 0], said.actions[:, 0]).reshape(shape), said.rewards.reshape(shape)
    for n in BEST_OF:
        yield from _rows("best_of_n", best_of_n_kl(n), *best_of_n(proxy, gold, n))


def ppo(reward: TextRewardEnsemble, begun: Beginning, count: int, seed: int) -> Rows:
    """Rows of PPO, one pair for each of `count` rollouts; what a rollout says is from before its update."""
    policy = policy_with(begun.pool.policy)
    recorder = TextRecorder(1, policy.codec.text, SAMPLES)
    env = PreferenceReward(text_env(begun.told, policy, ROWS, SAMPLES), reward, recorder)
    adapter = VectorAdapter(env, seed)
    agent = make_text_ppo(adapter, policy.model, replace(PPO_CONFIG, kl_coefficient=0.0), seed=seed)
    for _ in range(count):
        learn(agent, 1)
        assert isinstance(agent.rollout_buffer, TokenRolloutBuffer)
        tokens, done = recorder.recent(1)
        gold = float(np.mean([one.reward for one in recorder.last()]))
        yield from _rows("ppo", max(0.0, agent.rollout_buffer.statistics["kl"]), _mean(reward(tokens, done)), gold)
    adapter.close()


def _mean(values: NDArray) -> float:
    return float(np.mean(values))


def _rows(stage: str, kl: float, proxy: float, gold: float) -> Rows:
    for metric, value in (("proxy", proxy), ("gold", gold)):
        yield {"metric": metric, "stage": stage, "value": value, "kl": kl}
