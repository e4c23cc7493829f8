"""Training put together: from options to a run folder, and from a run folder back to where it stood."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import gymnasium as gym
import torch
import tyro

from prefgym.agents.checkpoint import (
    adapter_state,
    agent_state,
    generator_states,
    load_parameters,
    save_agent,
    set_adapter_state,
    set_agent_state,
    set_generator_states,
)
from prefgym.agents.control import PPOConfig, make_ppo
from prefgym.agents.vec_env import VectorAdapter
from prefgym.episodes import EpisodeLog
from prefgym.loop import LoopConfig, PreferenceLoop, Report, plan
from prefgym.queries import queries
from prefgym.recorder import Recorder
from prefgym.rewards.ensemble import EnsembleConfig, RewardEnsemble
from prefgym.runs import Run, read_state, write_state
from prefgym.store import Store
from prefgym.teachers import teachers
from prefgym.vector import PreferenceReward

JUDGED = ("clean_backflips", "revolutions")
CHECKPOINT_SECONDS = 20.0
CHECKPOINT_SHARE = 0.03  # of the time that checkpoints may take
SEED_STRIDE = 10_000  # between the environments' seeds of two runs, so that no two runs share an episode


@dataclass(frozen=True)
class TrainConfig:
    """What to train, how, and where to put it.

    Attributes:
        teacher: who answers: oracle, rational, myopic, mistaken, skipping, equal or noisy.
        query: what is asked: uniform, on-policy, disagreement, entropy, information or ranked.
        seed: of everything random.
        envs: environments simulated at once.
        num_threads: threads that simulate; results do not depend on it.
        out: the run's folder; by default a new one under runs/.
        reuse_labels: a run whose answers are used too; they are not counted as asked for.
        reward_model: a run whose reward model is used from the start; with --labels 0 as it is, else fitted further.
        env_id: Gymnasium id.
        loop: budgets of labels and steps.
        ppo: options of PPO.
        reward: options of the reward model.
    """

    teacher: str = "oracle"
    query: str = "on-policy"
    seed: int = 0
    envs: int = 256
    num_threads: int = 2
    out: Path | None = None
    reuse_labels: Path | None = None
    reward_model: Path | None = None
    env_id: str = "prefgym/Backflip-v0"
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(default_factory=LoopConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    reward: EnsembleConfig = field(default_factory=EnsembleConfig)

    def __post_init__(self) -> None:
        for name, least in {"seed": 0, "envs": 1, "num_threads": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}")
        if not self.loop.labels and self.reward_model is None and self.reuse_labels is None:
            raise ValueError("`labels` must be at least 1 without a reward model or labels of another run, got 0")


class Training:
    """All parts of a run, ready to go on.

    Args:
        config: what to train.
        run: its folder.
    """

    def __init__(self, config: TrainConfig, run: Run) -> None:
        torch.set_num_threads(1)  # more are slower for networks this small
        self.config, self.run = config, run
        self.teacher, strategy = teachers[config.teacher](seed=config.seed), queries[config.query]()
        self.env = PreferenceReward(make_env(config), recorder=Recorder(config.loop.window))
        self.log = EpisodeLog(self.env, JUDGED)
        self.adapter = VectorAdapter(self.log)
        self.agent = make_ppo(self.adapter, config.ppo, config.seed)
        self.adapter.seed(config.seed * SEED_STRIDE)
        self.model = make_model(config, self.env)
        self.store = Store(run.database)
        self.loop = PreferenceLoop(
            self.agent,
            self.env,
            self.model,
            self.teacher,
            strategy,
            self.store,
            config.loop,
            rollout=config.ppo.n_steps * config.envs,
            seed=config.seed * SEED_STRIDE,
            name=config.query,
            fitted=config.reward_model is not None,
            on_rollout=self._after_rollout,
            on_session=self._after_session,
        )
        self.seconds, self.rows = 0.0, 0
        self._started = self._saved = time.monotonic()
        self._last = (0, 0.0)
        self.on_progress: Callable[[Training], None] = lambda training: None

    @classmethod
    def start(cls, config: TrainConfig) -> Training:
        """Makes a run folder and gets ready to train.

        Raises:
            ValueError: for an option out of its range.
            RunError: the folder exists, or cannot be written.
        """
        check(config)
        run = Run.create(config.out or default_folder(config), to_json(config))
        training = cls(config, run)
        training.adopt()
        return training

    def adopt(self) -> None:
        """Takes over labels and the reward model of other runs, if that was asked for."""
        if self.config.reuse_labels is not None:
            with Store(Run.open(self.config.reuse_labels).database, create=False) as other:
                self.store.copy_from(other)
        if self.config.reward_model is not None:
            self.model.load(Run.open(self.config.reward_model).last_checkpoint / "reward")

    @classmethod
    def resume(cls, folder: Path) -> Training:
        """Opens a run where its last checkpoint left it."""
        run = Run.open(folder)
        training = cls(from_json(TrainConfig, run.options), run)
        training.restore(run.last_checkpoint)
        return training

    def train(self) -> None:
        """Goes on to the end of the loop, and saves."""
        self._started = time.monotonic()
        self.loop.run()
        self.save()

    # Reports.

    def _after_rollout(self) -> None:
        self.on_progress(self)

    def _after_session(self, report: Report) -> None:
        self.run.append(self._row(report))
        self.rows += 1
        self.on_progress(self)

    @property
    def elapsed(self) -> float:
        """Seconds of training, also those before the last interruption."""
        return self.seconds + time.monotonic() - self._started

    def _row(self, report: Report) -> dict[str, Any]:
        steps, seconds = self._last
        self._last = (report.steps, self.elapsed)
        speed = (report.steps - steps) / max(self.elapsed - seconds, 1e-9)
        row = {"session": report.session, "steps": report.steps, "labels": report.labels}
        row |= {"seconds": round(self.elapsed, 3), "steps_per_second": round(speed, 1)}
        row |= {"fit_seconds": round(report.fit_seconds, 4)} | self.log.drain()
        row |= {name: report.fit.get(name, float("nan")) for name in FIT}
        return row | {
            "new_accuracy": report.new_accuracy,
            "reward_correlation": report.reward_correlation,
            "teacher": self.config.teacher,
        }

    # Checkpoints.

    def save(self) -> None:
        """Replaces the checkpoint by the present state."""
        self.run.save(self._write)

    def _write(self, folder: Path) -> None:
        save_agent(self.agent, folder / "agent.zip")
        self.model.save(folder / "reward")
        write_state(folder, "state", self._state())

    def _state(self) -> dict[str, Any]:
        parts = {"loop": self.loop, "log": self.log, "recorder": self.env.recorder, "env": self.env.unwrapped}
        state = {name: part.get_state() for name, part in parts.items()}
        state |= {"agent": agent_state(self.agent), "adapter": adapter_state(self.adapter)}
        state |= {"generators": generator_states()}
        return state | {"rows": self.rows, "seconds": self.elapsed, "last": list(self._last)}

    def restore(self, folder: Path) -> None:
        """Goes back to a checkpoint."""
        state = read_state(folder, "state")
        load_parameters(self.agent, folder / "agent.zip")
        self.model.load(folder / "reward")
        parts = {"loop": self.loop, "log": self.log, "recorder": self.env.recorder, "env": self.env.unwrapped}
        self.adapter.reset()
        for name, part in parts.items():
            part.set_state(state[name])
        set_agent_state(self.agent, state["agent"])
        set_adapter_state(self.adapter, state["adapter"])
        self.rows, self.seconds, self._last = state["rows"], state["seconds"], tuple(state["last"])
        self.run.keep_metrics(self.rows)
        set_generator_states(state["generators"])


FIT = (
    "training_loss",
    "validation_loss",
    "training_accuracy",
    "validation_accuracy",
    "weight_decay",
)


def check(config: TrainConfig) -> None:
    """Raises what is wrong with the options, before anything is written."""
    _ = teachers[config.teacher], queries[config.query]
    plan(config.loop, config.ppo.n_steps * config.envs, config.envs)
    for other in (config.reuse_labels, config.reward_model):
        if other is not None:
            _ = Run.open(other).last_checkpoint


def default_folder(config: TrainConfig) -> Path:
    """A new folder under runs/, named by the time."""
    name = config.env_id.rpartition("/")[2].partition("-")[0].lower()
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}-{config.seed}"


def make_env(config: TrainConfig, num_envs: int | None = None) -> gym.vector.VectorEnv:
    """The vector environment of a run."""
    return gym.make_vec(config.env_id, num_envs=num_envs or config.envs, num_threads=config.num_threads)


def make_model(config: TrainConfig, env: gym.vector.VectorEnv) -> RewardEnsemble:
    """The reward model of a run, before any fit."""
    observations, actions = env.single_observation_space.shape, env.single_action_space.shape
    assert observations is not None and actions is not None  # noqa: PT018
    return RewardEnsemble(observations[0], actions[0], config.reward, config.seed)


def to_json(config: Any) -> dict[str, Any]:
    """A dataclass as JSON can hold it."""
    return {k: to_json(v) if isinstance(v, dict) else str(v) if isinstance(v, Path) else v for k, v in _dict(config)}


def _dict(config: Any) -> Any:
    return (config if isinstance(config, dict) else asdict(config)).items()


def from_json(kind: type, values: dict[str, Any]) -> Any:
    """The dataclass again; options that it does not know any more are left out."""
    hints, known = get_type_hints(kind), {one.name for one in fields(kind)}
    return kind(**{name: _value(hints[name], value) for name, value in values.items() if name in known})


def _value(hint: Any, value: Any) -> Any:
    if is_dataclass(hint):
        return from_json(hint, value)  # type: ignore[arg-type]
    return Path(value) if value is not None and "Path" in str(hint) else value
