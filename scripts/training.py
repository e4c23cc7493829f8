"""Training put together: from options to a run folder, and from a run folder back to where it stood."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from prefgym.agents import checkpoint
from prefgym.agents.control import SACConfig, make_ppo, make_sac
from prefgym.agents.vec_env import VectorAdapter
from prefgym.envs.bodies import Body
from prefgym.episodes import EpisodeLog
from prefgym.labelling.quality import reliability
from prefgym.loop import PreferenceLoop, Report
from prefgym.queries import queries
from prefgym.recorder import Recorder
from prefgym.rewards.ensemble import RewardEnsemble
from prefgym.runs import Run, RunError
from prefgym.scripts.course import Course
from prefgym.scripts.options import from_json, to_json
from prefgym.scripts.playing import play_out
from prefgym.scripts.train_config import TrainConfig, make_env, make_model
from prefgym.store import Entry, Store
from prefgym.teachers import HUMAN, make_teacher
from prefgym.vector import PreferenceReward

logger = logging.getLogger(__name__)

JUDGED = ("clean_backflips", "revolutions")
FIT = ("training_loss", "validation_loss", "training_accuracy", "validation_accuracy")
STAGES = 8  # episodes kept of the policy in the course of training
STAGE_SEED, LIVE_SEED = 999, 998
SEED_STRIDE = 10_000  # between the environments' seeds of two runs, so that no two runs share an episode


class Training(Course):
    """All parts of a robot's run, ready to go on.

    Args:
        config: what to train.
        run: its folder.
    """

    def __init__(self, config: TrainConfig, run: Run) -> None:
        torch.set_num_threads(1)  # more are slower for networks this small
        super().__init__(config, run)
        self.env = PreferenceReward(make_env(config), recorder=Recorder(config.loop.window))
        self.log = EpisodeLog(self.env, JUDGED)
        self.adapter = VectorAdapter(self.log)
        self.agent = make_agent(config, self.adapter, self.env)
        self.adapter.seed(config.seed * SEED_STRIDE)
        self.adapter.set_options(config.reset_options)
        self.model = make_model(config, self.env)
        self.loop = self._make_loop()

    def _make_loop(self) -> PreferenceLoop:
        config = self.config
        return PreferenceLoop(
            self.agent,
            self.env,
            self.model,
            make_teacher(config.teacher, self.store, seed=config.seed),
            queries[config.query](),
            self.store,
            config.loop,
            rollout=config.algorithm.rollout(config.envs),
            seed=config.seed * SEED_STRIDE,
            name=config.query,
            fitted=config.reward_model is not None,
            reset_options=config.reset_options,
            trust=_trust if config.teacher == HUMAN else None,
            looks=self._looks(),
            before_rollout=self.pace.wait,
            on_rollout=self.after_rollout,
            on_session=self.after_session,
        )

    def _looks(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
        body = Body.of(self.config.env_id) if self.config.teacher == HUMAN else None
        return body.looks if body is not None else None

    @classmethod
    def start(cls, config: TrainConfig) -> Training:
        """Makes a run folder and gets ready to train.

        Raises:
            ValueError: for an option out of its range; also what `TrainConfig.check` raises.
            RunError: the folder exists, or cannot be written.
        """
        config.check()
        if config.reward_model is not None:
            config = like(config, Run.open(config.reward_model))
        run = Run.create(config.out or default_folder(config), to_json(config))
        training = cls(config, run)
        training.begin()
        return training

    @classmethod
    def resume(cls, folder: Path) -> Training:
        """Opens a run where its last checkpoint left it; without one, at its beginning, with the answers given so far.

        Raises:
            RunError: there is no run, or it is damaged.
        """
        run = Run.open(folder)
        training = cls(config_of(run), run)
        training.begin()
        return training

    def row(self, report: Report) -> dict[str, Any]:
        """What metrics.csv says of a session."""
        episodes = self.log.drain()
        return {
            **self.common(report),
            **{name: episodes[name] for name in (*JUDGED, "true_return", "learned_return")},
            **{name: report.fit.get(name, float("nan")) for name in FIT},
            "new_accuracy": report.new_accuracy,
            "reward_correlation": report.reward_correlation,
            "weight_decay": report.fit.get("weight_decay", float("nan")),
            "teacher": self.config.teacher,
        }

    def episode(self) -> tuple[np.ndarray, float]:
        """An episode of the policy as it is now, and its clean backflips."""
        episodes = play_out(self.agent, self.config.env_id, 1, LIVE_SEED)
        flips = episodes.final().get("clean_backflips", np.full(1, np.nan))[0]
        return episodes.shown[:, 0].astype(np.float32), float(flips)

    def keep(self, report: Report) -> None:
        """Writes stages/NNNN.npz after some sessions: one episode of the policy as it is now."""
        if report.session not in stages(len(self.loop.plan)):
            return
        episodes = play_out(self.agent, self.config.env_id, 1, STAGE_SEED)
        flips = episodes.final().get("clean_backflips", np.zeros(1))[0]
        try:
            self.run.stages.mkdir(exist_ok=True)
            path = self.run.stages / f"{report.session:04d}.npz"
            np.savez(path, qpos=episodes.shown[:, 0], clean_backflips=flips, steps=report.steps)
        except OSError as error:
            logger.warning("An episode for the report could not be kept: %s", error)

    @property
    def parts(self) -> dict[str, Any]:
        """What has a state, beside the agent and the reward model."""
        parts = {"loop": self.loop, "log": self.log, "adapter": self.adapter}
        return parts | {"recorder": self.env.recorder, "env": self.env.unwrapped}

    def adopt(self) -> None:
        """Takes over labels and the reward model of other runs, if that was asked for."""
        if self.config.reuse_labels is not None:
            with Store(Run.open(self.config.reuse_labels).database, create=False) as other:
                self.store.copy_from(other)
        if self.config.reward_model is not None:
            self.model.load(Run.open(self.config.reward_model).last_checkpoint / "reward")


def _trust(entries: Sequence[Entry]) -> dict[str, float]:
    """How far each of several annotators can be relied on; one alone is taken at their word."""
    return reliability(list(entries)) if len({entry.annotator for entry in entries}) > 1 else {}


# The parts of a run, also for those who only look at it.


def config_of(run: Run) -> TrainConfig:
    """What a run was told to do.

    Raises:
        RunError: if the options cannot be understood.
    """
    try:
        return from_json(TrainConfig, run.options)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise RunError(f"{run.config_path} is damaged: {error}") from error


def load_agent(run: Run) -> BaseAlgorithm:
    """The agent as the last checkpoint left it, to be looked at or to act; nothing in the run is changed."""
    source, config = run.last_checkpoint, config_of(run)
    env = PreferenceReward(make_env(config, 2))
    config = replace(config, ppo=replace(config.ppo, batch_size=2 * config.ppo.n_steps))  # SB3 warns of larger ones
    agent = make_agent(config, VectorAdapter(env), env)
    checkpoint.load_parameters(agent, source / "agent.zip")
    return agent


def load_model(run: Run) -> RewardEnsemble:
    """The reward model as the last checkpoint left it."""
    config = config_of(run)
    model = make_model(config, make_env(config, 1))
    model.load(run.last_checkpoint / "reward")
    return model


def make_agent(config: TrainConfig, adapter: VectorAdapter, source: PreferenceReward) -> BaseAlgorithm:
    """The agent of a run, untrained."""
    options = config.algorithm
    if isinstance(options, SACConfig):
        return make_sac(adapter, options, config.seed, source=source)
    return make_ppo(adapter, options, config.seed)


def like(config: TrainConfig, other: Run) -> TrainConfig:
    """The options with a reward model of the other run's shape."""
    given = config_of(other).reward
    same = {name: getattr(given, name) for name in ("members", "hidden", "inputs", "use_actions")}
    return replace(config, reward=replace(config.reward, **same))


def default_folder(config: TrainConfig) -> Path:
    """A new folder under runs/, named by what is trained and the time."""
    name = config.env_id.rpartition("/")[2].partition("-")[0].lower()
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}-seed{config.seed}"


def stages(sessions: int) -> set[int]:
    """The sessions after which an episode is kept, evenly spread from the first to the last."""
    return set(np.linspace(0, sessions - 1, STAGES).round().astype(int).tolist())
