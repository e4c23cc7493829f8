"""What to train, how, and where to put it: the options of a robot's run, and what they alone decide."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import gymnasium as gym
import tyro

from prefgym.agents.control import PPOConfig, SACConfig
from prefgym.envs.stock import make_vector
from prefgym.plan import LoopConfig, plan
from prefgym.queries import queries
from prefgym.registry import UnknownNameError
from prefgym.rewards.ensemble import EnsembleConfig, RewardEnsemble
from prefgym.runs import Run
from prefgym.teachers import check_teacher

BACKFLIP = EnsembleConfig(
    inputs=("torso_height", "torso_turning", "foot_clearance", "spoiled", "due"), weight_decay=3.0
)
"""Of a backflip's reward: what anyone would look at, told to the model instead of learned from comparisons."""


@dataclass(frozen=True)
class TrainConfig:
    """What to train, how, and where to put it.

    Attributes:
        teacher: who answers: oracle, rational, myopic, mistaken, skipping, equal or noisy; or human: training then
            waits for people, who answer at `prefgym label RUN`.
        query: how it is chosen what to ask: uniform, on-policy, disagreement, entropy, information or ranked.
        agent: what learns: ppo or sac.
        seed: of everything random.
        envs: environments simulated at once.
        stagger: begin the first episodes at different times, so that every rollout has all parts of an episode.
        num_threads: threads that simulate; results do not depend on it.
        out: the run's folder; by default a new one under runs/.
        store: URL of an empty database for queries and answers, for a team, as postgresql+psycopg://user@host/name; by
            default the run's own feedback.db. It is written to config.json: keep its password in ~/.pgpass.
        reuse_labels: a run whose answers are used too; they are not counted as asked for.
        reward_model: a run whose reward model is used from the start: as it is with --labels 0, else fitted further.
        env_id: Gymnasium id.
        loop: budgets of labels and steps.
        ppo: options of PPO.
        sac: options of SAC, for --agent sac.
        reward: options of the reward model.
    """

    teacher: str = "oracle"
    query: str = "disagreement"
    agent: str = "ppo"
    seed: int = 0
    envs: int = 128
    stagger: bool = False
    num_threads: int = field(default_factory=lambda: min(4, os.cpu_count() or 1))
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    store: Annotated[str | None, tyro.conf.arg(metavar="URL")] = None
    reuse_labels: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    reward_model: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    env_id: Annotated[str, tyro.conf.Suppress] = "prefgym/Backflip-v0"
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(default_factory=LoopConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    reward: EnsembleConfig = BACKFLIP

    def __post_init__(self) -> None:
        for name, least in {"seed": 0, "envs": 1, "num_threads": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}")

    @property
    def algorithm(self) -> PPOConfig | SACConfig:
        """The options of the agent that learns."""
        known = {"ppo": self.ppo, "sac": self.sac}
        if self.agent not in known:
            raise UnknownNameError("agent", self.agent, known)
        return known[self.agent]  # type: ignore[return-value]

    @property
    def reset_options(self) -> dict[str, bool]:
        """Of the environment's first reset."""
        return {"stagger": True} if self.stagger else {}

    def check(self) -> None:
        """Raises what is wrong with the options, before anything is written.

        Raises:
            ValueError: a budget that cannot be met.
            UnknownNameError: a name that does not exist; the message says which do.
            RunError: another run that is named has nothing to reuse.
        """
        check_teacher(self.teacher)
        _ = queries[self.query]
        if not self.loop.labels and self.reward_model is None and self.reuse_labels is None:
            raise ValueError("`labels` must be at least 1 without --reward-model or --reuse-labels, got 0")
        plan(self.loop, self.algorithm.rollout(self.envs), self.envs)
        if self.reward.inputs:  # else there is no name that could be wrong
            make_model(self, make_env(self, 1))
        if self.reuse_labels is not None:
            Run.open(self.reuse_labels)


def make_env(config: TrainConfig, num_envs: int | None = None) -> gym.vector.VectorEnv:
    """The vector environment of a run."""
    return make_vector(config.env_id, num_envs or config.envs, config.num_threads)


def make_model(config: TrainConfig, env: gym.vector.VectorEnv) -> RewardEnsemble:
    """The reward model of a run, before any fit."""
    observations, actions = env.single_observation_space.shape or (0,), env.single_action_space.shape or (0,)
    names = getattr(env.unwrapped, "observation_names", ())
    return RewardEnsemble(observations[0], actions[0], config.reward, config.seed, names)
