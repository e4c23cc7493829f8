"""The online track: the whole loop at a fixed budget of comparisons and of env steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from prefgym.agents.control import PPOConfig, SACConfig, make_ppo, make_sac
from prefgym.agents.vec_env import VectorAdapter
from prefgym.benchmark.cells import Cell
from prefgym.benchmark.methods import Method, methods
from prefgym.benchmark.pools import Pool, load_pool
from prefgym.benchmark.scoring import ALL
from prefgym.benchmark.settings import OnlineSettings, Settings
from prefgym.benchmark.tasks import Task, tasks
from prefgym.benchmark.teachers import Answering, teachers
from prefgym.benchmark.tracks.offline import standard_of
from prefgym.comparisons import Comparison, Query
from prefgym.envs.stock import make_vector
from prefgym.loop import PreferenceLoop, Report
from prefgym.plan import LoopConfig
from prefgym.queries import queries
from prefgym.recorder import Recorder
from prefgym.rewards.ensemble import RewardEnsemble
from prefgym.scripts.playing import measure
from prefgym.store import Store
from prefgym.vector import PreferenceReward

ENOUGH = 0.8
"""Score that "labels_to_80" is about."""

EVALUATION_SEED = 1000
SEED_STRIDE = 10_000  # between the environments' seeds of two cells, so that no two share an episode


def run(cell: Cell, settings: Settings) -> list[dict[str, Any]]:
    """The rows of an online cell: for every budget of labels, a run of its own.

    `score` is how far the final policy is from random actions (0) to PPO on the true reward (1), by the true return of
    whole episodes: the ratio of the returns, where random actions have none. The measure is the last policy of the PPO
    run that the task's pool is from. `labels_to_80` is how many labels had been asked for when it first was 0.8, empty
    if it never was; `clean_flips` are per episode, of the backflip alone.
    """
    task, method = tasks[cell.task], methods[cell.method]()
    pool = load_pool(task, settings.pool)
    rows = []
    for labels in settings.online.labels:
        teacher = teachers[cell.teacher](standard_of(pool, task.env_id), cell.seed)
        began, trial = time.perf_counter(), Trial(task, method, teacher, pool, settings.online, labels, cell.seed)
        figures = trial.run()
        seconds = round(time.perf_counter() - began, 2)
        told = {**figures, "seconds": seconds}
        rows += [
            {"budget": labels, "metric": metric, "stage": ALL, "value": value, "seconds": seconds}
            for metric, value in told.items()
        ]
    return rows


class Trial:
    """One run of the loop, judged.

    Args:
        task: what is to be learned.
        method: chooses queries, and what learns from the reward.
        teacher: who answers.
        pool: its facts are what the score is measured by.
        settings: of the track.
        labels: comparisons to ask for.
        seed: of everything random.
        steps: env steps; 0 for those of the settings or, where these say 0 too, of the task.
    """

    def __init__(
        self,
        task: Task,
        method: Method,
        teacher: Answering,
        pool: Pool,
        settings: OnlineSettings,
        labels: int,
        seed: int,
        steps: int = 0,
    ) -> None:
        self.task, self.method, self.teacher, self.pool = task, method, teacher, pool
        self.settings, self.labels, self.seed = settings, labels, seed
        self.steps = steps or settings.steps or task.expert_steps
        self.reached: int | None = None
        recorder = None if method.informed else Recorder(LoopConfig.window)
        self.env = PreferenceReward(make_vector(task.env_id, settings.envs), recorder=recorder)
        self.adapter = VectorAdapter(self.env, seed * SEED_STRIDE)
        self.agent, self.rollout = self._agent()

    def run(self) -> dict[str, float | str]:
        """Trains, and says what came of it, by metric."""
        if self.method.informed:
            self.agent.learn(self.steps // self.rollout * self.rollout)
        else:
            with TemporaryDirectory() as folder, Store(Path(folder) / "feedback.db") as store:
                self._loop(store).run()
        figures = self._measured(self.settings.episodes)
        self.adapter.close()
        told: dict[str, float | str] = {"score": self._score(figures)}
        if "clean_backflips" in figures:
            told["clean_flips"] = figures["clean_backflips"]["mean"]
        if not self.method.informed:
            told["labels_to_80"] = "" if self.reached is None else self.reached
        return told

    def _agent(self) -> tuple[BaseAlgorithm, int]:
        """What learns, and the env steps that it learns from at a time."""
        if self.method.agent == "sac":
            sac = SACConfig()
            return make_sac(self.adapter, sac, self.seed, source=self.env), sac.rollout(self.settings.envs)
        ppo = PPOConfig()
        return make_ppo(self.adapter, ppo, self.seed), ppo.rollout(self.settings.envs)

    def _loop(self, store: Store) -> PreferenceLoop:
        widths = [space.shape[0] for space in (self.env.single_observation_space, self.env.single_action_space)]  # type: ignore[index]
        config = LoopConfig(
            labels=self.labels,
            steps=self.steps,
            sessions=self.settings.sessions,
            explore_steps=max(LoopConfig.explore_steps, self.task.segment_length * self.settings.envs),
            segment_length=self.task.segment_length,
        )
        return PreferenceLoop(
            self.agent,
            self.env,
            RewardEnsemble(widths[0], widths[1], self.method.reward, self.seed),
            Heard(self.teacher, self.method, self.seed),
            queries[self.method.strategy](),
            store,
            config,
            rollout=self.rollout,
            seed=self.seed * SEED_STRIDE,
            name=self.method.strategy,
            on_session=self._after_session,
        )

    def _after_session(self, report: Report) -> None:
        if self.reached is None and self._score(self._measured(max(1, self.settings.episodes // 4))) >= ENOUGH:
            self.reached = report.labels

    def _measured(self, episodes: int) -> dict[str, Any]:
        return measure(self.agent, self.task.env_id, episodes, EVALUATION_SEED)

    def _score(self, figures: dict[str, Any]) -> float:
        return self.pool.score(figures["true_return"]["mean"])


class Heard:
    """A teacher as a method hears them: as they are, but for baselines that must lose.

    Args:
        teacher: who answers.
        method: has `heard`.
        seed: of what it does with the answers.
    """

    def __init__(self, teacher: Answering, method: Method, seed: int) -> None:
        self.teacher, self.method, self.rng = teacher, method, np.random.default_rng(seed)

    def submit(self, queries: Sequence[Query]) -> None:
        """Puts queries to the teacher."""
        self.teacher.submit(queries)

    def collect(self) -> list[Comparison]:
        """The teacher's answers, as heard."""
        return [replace(said, answer=self.method.heard(said.answer, self.rng)) for said in self.teacher.collect()]
