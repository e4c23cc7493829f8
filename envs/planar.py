"""Planar bodies on `mujoco.batch`: the base that makes a task one short file.

The vector environment is the implementation; `PlanarEnv`, the single environment, is a batch of one.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from mujoco.batch import Batch, SimulationError

from prefgym.envs.kinematics import PlanarKinematics
from prefgym.registry import UnknownNameError

logger = logging.getLogger(__name__)

ASSETS = Path(__file__).parent / "assets"
STATE_FIELDS = ("time", "qpos", "qvel", "act", "qacc_warmstart", "ctrl")
RENDER_MODES = ("human", "rgb_array")


@dataclass(frozen=True, slots=True)
class Motion:
    """What the bodies did during one control step, for the judge; S physics substeps.

    Attributes:
        qpos: [N, S, nq] joint positions after each substep, metres and radians.
        qvel: [N, nv] raw velocities at the end, m/s and rad/s, never clipped.
        clearances: [N, S, C] metres from each capsule's lowest point to the floor; touching at 0 or below.
        actions: [N, A].
    """

    qpos: np.ndarray
    qvel: np.ndarray
    clearances: np.ndarray
    actions: np.ndarray


class PlanarVectorEnv(VectorEnv):
    """N planar bodies stepped as one batch, with a fixed horizon and a judge.

    A task sets the class attributes and writes three methods: `_observe`, `_judge_reset` and `_judge`. Episodes never
    terminate; all truncate after `horizon` steps and start again within the same step (`AutoresetMode.SAME_STEP`: the last
    observation is in ``info["final_obs"]``, its info in ``info["final_info"]``).

    Args:
        num_envs: how many bodies, N.
        reward: name of the reward to return, one of `rewards`; the judge's own is always in ``info["true_reward"]``.
        num_threads: threads that simulate; results do not depend on it.
        render_mode: "human" (a window), "rgb_array" or None.
        renderer: "painter" (capsules by pygame, no OpenGL) or "mujoco" (MuJoCo's own).
        size: width and height of the picture, pixels.

    Raises:
        ValueError: for an argument out of range; the message names it, its rule and its value.
        UnknownNameError: for an unknown reward.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": list(RENDER_MODES),
        "render_fps": 50,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }
    asset: ClassVar[Path]
    feet: ClassVar[tuple[str, ...]]
    rewards: ClassVar[dict[str, Callable[[Motion], np.ndarray] | None]]
    substeps: ClassVar[int] = 4
    horizon: ClassVar[int] = 200
    reset_noise: ClassVar[float] = 0.005
    judge_fields: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        num_envs: int = 1,
        *,
        reward: str | None = None,
        num_threads: int = 1,
        render_mode: str | None = None,
        renderer: str = "painter",
        size: tuple[int, int] = (480, 360),
    ) -> None:
        self.num_envs = _at_least("num_envs", num_envs, 1)
        self.reward_name = next(iter(self.rewards)) if reward is None else reward
        if self.reward_name not in self.rewards:
            raise UnknownNameError("reward", self.reward_name, self.rewards)
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise ValueError(f"`render_mode` must be None or one of {RENDER_MODES}, got {render_mode!r}")
        self.render_mode = render_mode
        self._picture = {"renderer": renderer, "size": size}
        self._view: Any = None
        self._build(_at_least("num_threads", num_threads, 1))
        self._set_spaces()

    def _build(self, num_threads: int) -> None:
        self.model = self._compile()
        self.kinematics = PlanarKinematics(self.model)
        self._is_foot = np.isin(self.kinematics.names, self.feet)
        self._batch = Batch(self.model, self.num_envs, num_threads)
        self._qpos, self._qvel, self._ctrl = (self._batch.bind(name) for name in ("qpos", "qvel", "ctrl"))
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)
        self._diverged = np.zeros(self.num_envs, dtype=np.int64)
        self._everyone = np.ones(self.num_envs, dtype=bool)
        self._generators: list[np.random.Generator] = []

    def _compile(self) -> mujoco.MjModel:
        """Compile the task's model; override it to change what the file says."""
        return mujoco.MjModel.from_xml_path(str(self.asset))

    def _set_spaces(self) -> None:
        width = self._observe(np.zeros((1, self.model.nq)), np.zeros((1, self.model.nv))).shape[1]
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (width,), np.float32)
        low, high = self.model.actuator_ctrlrange.T.astype(np.float32)
        self.single_action_space = gym.spaces.Box(low, high, dtype=np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    # What a task writes.

    @abstractmethod
    def _observe(self, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
        """Observations [n, O] float32 of n bodies."""

    @abstractmethod
    def _judge_reset(self, mask: np.ndarray) -> None:
        """Begin the judging of the episodes that just began, mask [N]."""

    @abstractmethod
    def _judge(self, motion: Motion) -> dict[str, np.ndarray]:
        """Judge one control step; returns the info's arrays [N], "true_reward" among them."""

    # Gymnasium's API.

    def reset(  # type: ignore[override]
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start every episode anew; with a seed, environment i draws from ``seed + i`` as in Gymnasium's vector envs."""
        if seed is not None or not self._generators:
            self._generators = [np.random.default_rng(one) for one in self._seeds(seed)]
        self._begin(self._everyone)
        return self._observe(self._qpos, self._qvel), self._info({})

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every body by one control step of `substeps` physics steps.

        Raises:
            ValueError: for actions of a wrong shape, out of bounds or NaN.
            gymnasium.error.ResetNeeded: before the first reset.
        """
        actions = self._checked(actions)
        self._ctrl[:] = actions
        qpos, failed = self._simulate()
        motion = Motion(qpos, self._qvel, self.kinematics.clearances(qpos), actions)
        judged = self._judge(motion)
        chosen = self.rewards[self.reward_name]
        rewards = judged["true_reward"] if chosen is None else chosen(motion)
        observations, info = self._observe(self._qpos, self._qvel), self._info(judged)
        self._elapsed += 1
        truncations = (self._elapsed >= self.horizon) | failed
        if truncations.any():
            observations, info = self._autoreset(truncations, observations, info)
        return observations, rewards.copy(), np.zeros(self.num_envs, dtype=bool), truncations, info

    def close_extras(self, **kwargs: Any) -> None:
        """Close the window, if one is open."""
        if self._view is not None:
            self._view.close()
            self._view = None

    def render(self) -> tuple[np.ndarray, ...] | None:  # type: ignore[override]
        """Pictures of all bodies [H, W, 3] uint8 for "rgb_array"; "human" shows the first body in a window."""
        if self.render_mode is None:
            gym.logger.warn("render() does nothing without a render_mode: pass render_mode='rgb_array' or 'human'.")
            return None
        if self._view is None:
            from prefgym.envs.view import make_view

            self._view = make_view(self, human=self.render_mode == "human", **self._picture)
        if self.render_mode == "human":
            self._view.show(0)
            return None
        return tuple(self._view.frame(number) for number in range(self.num_envs))

    # State, so that a run can be resumed and a moment be tried twice.

    def get_state(self) -> dict[str, Any]:
        """All that the next steps depend on: physics, judge, clocks and random generators, as copies."""
        state = {f"physics/{name}": np.array(self._batch.bind(name)) for name in STATE_FIELDS}
        state |= {f"judge/{name}": getattr(self, f"_{name}").copy() for name in self.judge_fields}
        state |= {"elapsed": self._elapsed.copy(), "diverged": self._diverged.copy()}
        return state | {"generators": [generator.bit_generator.state for generator in self._generators]}

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Go back to a state from `get_state` of an environment of the same size; returns the observations [N, O]."""
        if len(state["elapsed"]) != self.num_envs:
            raise ValueError(f"`state` must be of {self.num_envs} environments, got {len(state['elapsed'])}")
        for name in STATE_FIELDS:
            self._batch.bind(name)[...] = state[f"physics/{name}"]
        for name in self.judge_fields:
            getattr(self, f"_{name}")[...] = state[f"judge/{name}"]
        self._elapsed[:], self._diverged[:] = state["elapsed"], state["diverged"]
        self._generators = [np.random.default_rng(0) for _ in state["generators"]]
        for generator, saved in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = saved
        return self._observe(self._qpos, self._qvel)

    @property
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generator of each environment."""
        return tuple(self._generators)

    # The parts of a step.

    def _seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None or isinstance(seed, int | np.integer):
            return [None if seed is None else int(seed) + number for number in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"`seed` must be an int or a list of {self.num_envs}, got a list of {len(seed)}")
        return seed

    def _begin(self, mask: np.ndarray) -> None:
        """Put the bodies of the mask at rest, with a little noise on positions and velocities."""
        ids = np.flatnonzero(mask)
        self._batch.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE)
        draws = np.array([self._generators[i].uniform(-1, 1, self.model.nq + self.model.nv) for i in ids])
        self._qpos[ids] += self.reset_noise * draws[:, : self.model.nq]
        self._qvel[ids] += self.reset_noise * draws[:, self.model.nq :]
        self._elapsed[ids] = 0
        self._judge_reset(mask)

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        if not self._generators:
            raise gym.error.ResetNeeded("call reset() before step()")
        actions = np.asarray(actions, dtype=np.float64)
        if actions.shape != self.action_space.shape:
            raise ValueError(f"`actions` must have the shape {self.action_space.shape}, got {actions.shape}")
        low, high = self.single_action_space.low, self.single_action_space.high  # type: ignore[attr-defined]
        wrong = ~((actions >= low) & (actions <= high))
        if wrong.any():
            env, number = np.argwhere(wrong)[0]
            raise ValueError(
                f"`actions` must be numbers from {low[number]} to {high[number]}, got {actions[env, number]} as action "
                f"{number} of environment {env}; clip them first"
            )
        return actions

    def _simulate(self) -> tuple[np.ndarray, np.ndarray]:
        """Step the physics; returns qpos [N, S, nq] and which simulations diverged [N] (they stand where they were)."""
        before = self._batch.state.copy()
        raised = np.zeros(self.num_envs, dtype=bool)
        warned = self._warnings()
        try:
            qpos = self._batch.rollout(self.substeps)["qpos"]
        except SimulationError as error:
            raised[error.ids] = True
            qpos = np.repeat(self._qpos[:, None], self.substeps, axis=1)
        raised |= (self._warnings() > warned) | ~np.isfinite(self._batch.state).all(axis=1)
        if raised.any():
            self._batch.state[raised] = before[raised]
            qpos[raised] = self._qpos[raised, None]
            self._diverged += raised
            logger.warning("The simulation diverged in environments %s: their episodes end here", np.flatnonzero(raised))
        return qpos, raised

    def _warnings(self) -> np.ndarray:
        """MuJoCo's warnings so far [N]; one more means that it found the state bad."""
        return self._batch.warning.reshape(self.num_envs, -1).sum(axis=1)

    def _info(self, judged: dict[str, np.ndarray]) -> dict[str, Any]:
        """The info as Gymnasium's vector envs give it, each key with its mask; "shown" is what clips are drawn from."""
        info = {"shown": self._qpos.astype(np.float32), "diverged": self._diverged.copy()}
        info |= {name: values.copy() for name, values in judged.items()}
        return info | {f"_{name}": self._everyone for name in info}

    def _autoreset(
        self, mask: np.ndarray, observations: np.ndarray, info: dict[str, Any]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        final_obs = np.full(self.num_envs, None, dtype=object)
        for number in np.flatnonzero(mask):
            final_obs[number] = observations[number].copy()
        final = {name: (mask if name.startswith("_") else values) for name, values in info.items()}
        self._begin(mask)
        fresh = info | {"shown": self._qpos.astype(np.float32)}
        fresh |= {"final_obs": final_obs, "_final_obs": mask, "final_info": final, "_final_info": mask}
        return self._observe(self._qpos, self._qvel), fresh


class PlanarEnv(gym.Env):
    """One planar body: a batch of one behind Gymnasium's single-environment API.

    Takes the arguments of its `vector_class` but `num_envs`. It does not reset by itself: after ``truncated`` call `reset`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(RENDER_MODES), "render_fps": 50}  # type: ignore[misc]
    vector_class: ClassVar[type[PlanarVectorEnv]]

    def __init__(self, **kwargs: Any) -> None:
        self.vector = self.vector_class(1, **kwargs)
        self.render_mode = self.vector.render_mode
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space
        self._over = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        self._over = False
        if seed is None and not self.vector._generators:
            seed = int(self.np_random.integers(2**31))
        observations, info = self.vector.reset(seed=seed, options=options)
        if self.render_mode == "human":
            self.render()
        return observations[0], _first(info)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """Advance by one control step; the error of a wrong action is the vector environment's."""
        if self._over:
            raise gym.error.ResetNeeded("the episode is over (truncated): call reset() before step()")
        observations, rewards, _, truncations, info = self.vector.step(np.asarray(action)[None])
        self._over = bool(truncations[0])
        if self._over:
            observations, info = info["final_obs"], info["final_info"]
        if self.render_mode == "human":
            self.render()
        return observations[0], float(rewards[0]), False, self._over, _first(info)

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """The picture [H, W, 3] uint8 for "rgb_array", a window for "human"."""
        frames = self.vector.render()
        return frames[0] if frames else None

    def close(self) -> None:
        """Close the window, if one is open."""
        self.vector.close()

    def get_state(self) -> dict[str, Any]:
        """See `PlanarVectorEnv.get_state`."""
        return self.vector.get_state() | {"over": self._over}

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """See `PlanarVectorEnv.set_state`; returns the observation [O]."""
        self._over = state["over"]
        return self.vector.set_state(state)[0]


def _first(info: dict[str, Any]) -> dict[str, Any]:
    """The info of a batch's only environment."""
    return {name: values[0] for name, values in info.items() if not name.startswith("_")}


def _at_least(name: str, value: int, least: int) -> int:
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}, got {value!r}")
    return int(value)
