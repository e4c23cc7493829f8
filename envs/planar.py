"""Planar bodies on `mujoco.batch`: the base that makes a task one short file.

The vector environment is the implementation; `PlanarEnv`, the single environment, is a batch of one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from prefgym.envs.kinematics import PlanarKinematics
from prefgym.envs.physics import Physics
from prefgym.registry import UnknownNameError

ASSETS = Path(__file__).parent / "assets"
RENDER_MODES = ("human", "rgb_array")
RENDERERS = ("painter", "mujoco")
OPTIONS = ("stagger",)

HEIGHTS = (-1.0, 5.0)  # metres; observations of heights and clearances are clipped to it
ANGLES = (-np.pi, np.pi)  # radians; joints
SPEEDS = (-25.0, 25.0)  # m/s and rad/s


@dataclass(frozen=True, slots=True)
class Motion:
    """What the bodies did during one control step, for the judge; S physics substeps.

    Attributes:
        qpos: [N, S, nq] joint positions after each substep, metres and radians.
        qvel: [N, nv] raw velocities at the end, m/s and rad/s, never clipped.
        clearances: [N, S, C] metres from each capsule's lowest point to the floor; touching at 0 or below.
        actions: [N, A].
        feet: [N, S] whether a foot touches the floor,
        others: [N, S] and whether something else does.
    """

    qpos: NDArray[np.float64]
    qvel: NDArray[np.float64]
    clearances: NDArray[np.float64]
    actions: NDArray[np.float64]
    feet: NDArray[np.bool_]
    others: NDArray[np.bool_]


class PlanarVectorEnv(VectorEnv):
    """N planar bodies stepped as one batch, with a fixed horizon and a judge.

    A task sets the class attributes and writes two methods, `_judge_reset` and `_judge`. Episodes never terminate; all
    truncate after `horizon` steps and start again within the same step (`AutoresetMode.SAME_STEP`: the last observation
    is in ``info["final_obs"]``, its info in ``info["final_info"]``, whose masks say where an episode ended).

    ## Observations
    For a body of J joints (beside the root's three) and C capsules, 6 + 2 J + C numbers and one more for each state of
    the judge that a task shows, float32, clipped to:

    | Num | Observation | Min | Max | Unit |
    | --- | --- | --- | --- | --- |
    | 0 | sine of the torso's angle (positive tips forward) | -1 | 1 | |
    | 1 | cosine of the torso's angle | -1 | 1 | |
    | 2 | height of the torso (rootz) | -1 | 5 | m |
    | 3 … 2 + J | angles of the joints | -π | π | rad |
    | 3 + J | velocity of the torso along x (forward) | -25 | 25 | m/s |
    | 4 + J | velocity of the torso along z (up) | -25 | 25 | m/s |
    | 5 + J | angular velocity of the torso | -25 | 25 | rad/s |
    | 6 + J … 5 + 2 J | angular velocities of the joints | -25 | 25 | rad/s |
    | 6 + 2 J … 5 + 2 J + C | clearance of each capsule's lowest point above the floor | -1 | 5 | m |
    | 6 + 2 J + C … | states of the judge (`observed`): what one who watches would remember | | | |

    The place along x is not observed, nor how often the torso has turned, nor the time.

    ## Info
    What the judge says, as arrays [N] (zeros after a reset); `shown` [N, nq], the positions that clips are drawn from;
    `diverged` [N], how often each simulation has blown up so far: its episode is truncated and a new one begins.

    Args:
        num_envs: how many bodies, N.
        reward: name of the reward to return, one of `rewards`; the judge's own is always in ``info["true_reward"]``.
        num_threads: threads that simulate; results do not depend on it.
        render_mode: "human" (a window that shows the first body), "rgb_array" or None.
        renderer: "painter" (capsules by pygame, no OpenGL) or "mujoco" (MuJoCo's own).
        size: width and height of the picture, pixels.

    Raises:
        ValueError: for an argument out of range; the message names it, its rule and its value.
        UnknownNameError: for an unknown reward, renderer or option of `reset`.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
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
    observed: ClassVar[dict[str, tuple[float, float]]] = {}  # of these, those that are observed, with their bounds

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
        self.reward_name = next(iter(self.rewards)) if reward is None else _known("reward", reward, self.rewards)
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise ValueError(f"`render_mode` must be None or one of {RENDER_MODES}, got {render_mode!r}")
        self.render_mode = render_mode
        self._renderer, self._size = _known("renderer", renderer, RENDERERS), _pixels(size)
        self._view: Any = None
        self._build(_at_least("num_threads", num_threads, 1))
        self._set_spaces()
        self._unjudged = self._judge_nothing()

    def _build(self, num_threads: int) -> None:
        self.model = self._compile()
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ISLAND  # one body is one: the search takes 6 %
        self.kinematics = PlanarKinematics(self.model)
        is_foot = np.isin(self.kinematics.names, self.feet)
        self._feet, self._others = np.flatnonzero(is_foot).tolist(), np.flatnonzero(~is_foot).tolist()
        self._physics = Physics(self.model, self.num_envs, num_threads)
        self._qpos, self._qvel = self._physics.qpos, self._physics.qvel
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)
        self._everyone = np.ones(self.num_envs, dtype=bool)
        self._everyone.flags.writeable = False  # it is every info's mask
        self._generators: list[np.random.Generator] = []
        self._started = False

    def _compile(self) -> mujoco.MjModel:
        """Compile the task's model; override it to change what the file says."""
        return mujoco.MjModel.from_xml_path(str(self.asset))

    def _set_spaces(self) -> None:
        joints, capsules = self.model.nq - 3, len(self.kinematics.names)
        bounds = [(-1.0, 1.0)] * 2 + [HEIGHTS] + [ANGLES] * joints + [SPEEDS] * self.model.nv + [HEIGHTS] * capsules
        bounds += list(self.observed.values())
        low, high = np.array(bounds, dtype=np.float32).T
        self.single_observation_space = gym.spaces.Box(low, high, dtype=np.float32)
        low, high = self.model.actuator_ctrlrange.T.astype(np.float32)
        self.single_action_space = gym.spaces.Box(low, high, dtype=np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    # What a task writes.

    @abstractmethod
    def _judge_reset(self, mask: np.ndarray) -> None:
        """Begin the judging of episodes that just began, mask [N]; the arrays of `judge_fields` exist from then on."""

    @abstractmethod
    def _judge(self, motion: Motion) -> dict[str, np.ndarray]:
        """Judge one control step; returns the info's arrays [N], "true_reward" among them."""

    def caption(self, number: int) -> dict[str, Any]:
        """What a picture of body `number` says beside the time: keyword arguments of `Painter.paint`."""
        return {}

    # Gymnasium's API.

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start every episode anew.

        Args:
            seed: environment i draws from ``seed + i``, as in Gymnasium's vector envs; or one seed for each.
            options: ``{"stagger": True}`` shortens the first episode of each environment by a number of steps that it
                draws, so that episodes end at different times from then on.

        Raises:
            ValueError: for a list of seeds of another length.
            UnknownNameError: for an unknown option.
        """
        settings = {_known("option", name, OPTIONS): value for name, value in (options or {}).items()}
        self._seed(seed)
        self._begin(self._everyone)
        if settings.get("stagger"):
            self._elapsed[:] = [generator.integers(self.horizon) for generator in self._generators]
        self._started = True
        return self._observe_now(self._everyone), self._info(self._unjudged)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every body by one control step of `substeps` physics steps.

        Raises:
            ValueError: for actions of a wrong shape, out of bounds or NaN.
            gymnasium.error.ResetNeeded: before the first reset.
        """
        observations, rewards, truncations, info = self._advance(actions)
        if truncations.any():
            info = self._autoreset(truncations, observations, info)
        return observations, rewards, np.zeros(self.num_envs, dtype=bool), truncations, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Pictures of all bodies [H, W, 3] uint8 for "rgb_array"; "human" shows the first body in a window."""
        if self.render_mode is None:
            gym.logger.warn("render() does nothing without a render_mode: pass render_mode='rgb_array' or 'human'.")
            return None
        if self._view is None:
            from prefgym.envs.view import make_view

            self._view = make_view(self, self._renderer, self._size)
        if self.render_mode == "human":
            self._view.show(0)
            return None
        return tuple(self._view.frame(number) for number in range(self.num_envs))

    def pose(self, number: int) -> tuple[np.ndarray, float]:
        """Joint positions [nq] of body `number`, and the seconds since its episode began."""
        return self._qpos[number].copy(), float(self._elapsed[number]) / self.metadata["render_fps"]

    def close_extras(self, **kwargs: Any) -> None:
        """Close the window, if one is open."""
        if self._view is not None:
            self._view.close()
            self._view = None

    @property
    def observation_names(self) -> tuple[str, ...]:
        """A name for each number of an observation, in the order of the table."""
        joints = [self.model.joint(number).name for number in range(3, self.model.njnt)]
        names = ["torso_sine", "torso_cosine", "torso_height", *joints, "torso_vx", "torso_vz", "torso_turning"]
        names += [f"{joint}_speed" for joint in joints] + [f"{name}_clearance" for name in self.kinematics.names]
        return (*names, *self.observed)

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generator of each environment."""
        return tuple(self._generators)

    # State, so that a run can be resumed and a moment be tried twice.

    def get_state(self) -> dict[str, Any]:
        """All that the next steps depend on: physics, judge, clocks and random generators.

        Returns:
            Copies of arrays, and the generators' states as a list of dicts that JSON can hold.
        """
        state: dict[str, Any] = {f"physics/{name}": array for name, array in self._physics.get_state().items()}
        state |= {f"judge/{name}": getattr(self, f"_{name}").copy() for name in self.judge_fields}
        generators = [generator.bit_generator.state for generator in self._generators]
        return state | {"elapsed": self._elapsed.copy(), "started": self._started, "generators": generators}

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Go back to a state from `get_state`; returns the observations [N, O].

        Raises:
            ValueError: for a state of another number of environments, or of another body.
        """
        if state["physics/qpos"].shape != self._qpos.shape:
            raise ValueError(f"`state` must have qpos of shape {self._qpos.shape}, got {state['physics/qpos'].shape}")
        self._physics.set_state({name: state[f"physics/{name}"] for name in self._physics.get_state()})
        for name in self.judge_fields:
            getattr(self, f"_{name}")[...] = state[f"judge/{name}"]
        self._elapsed[:], self._started = state["elapsed"], bool(state["started"])
        if not self._generators:
            self._seed(None)
        for generator, saved in zip(self._generators, state["generators"], strict=False):  # none before the first reset
            generator.bit_generator.state = saved
        self._forget(self._everyone)
        return self._observe_now(self._everyone)

    # The parts of a step.

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step without any reset: observations [N, O], rewards [N], truncations [N] and the info."""
        actions = self._checked(actions)
        qpos, failed = self._physics.step(actions, self.substeps)
        motion = self._motion(qpos, self._qvel, actions)
        info = self._info(self._judge(motion))
        chosen = self.rewards[self.reward_name]
        rewards = info["true_reward"].copy() if chosen is None else chosen(motion)
        if failed.any():
            rewards[failed] = info["true_reward"][failed] = 0.0
        self._elapsed += 1
        observations = self._observe(self._qpos, self._qvel, motion.clearances[:, -1], self._observed_states())
        return observations, rewards, (self._elapsed >= self.horizon) | failed, info

    def _autoreset(self, mask: np.ndarray, observations: np.ndarray, info: dict[str, Any]) -> dict[str, Any]:
        """Begin the episodes of the mask anew, writing their observations into `observations`; returns the info."""
        final_obs = np.full(self.num_envs, None, dtype=object)
        for number in np.flatnonzero(mask):
            final_obs[number] = observations[number].copy()
        final = {name: (mask if name.startswith("_") else values) for name, values in info.items()}
        self._begin(mask)
        observations[mask] = self._observe_now(mask)
        fresh = self._info({name: np.where(mask, 0, info[name]) for name in self._unjudged})
        return fresh | {"final_obs": final_obs, "_final_obs": mask, "final_info": final, "_final_info": mask}

    def _motion(self, qpos: np.ndarray, qvel: np.ndarray, actions: np.ndarray) -> Motion:
        """A motion through positions [N, S, nq], with what touches the floor on the way."""
        clearances = self.kinematics.clearances(qpos.swapaxes(0, 1))  # in memory [C, S, N]: numpy is quick along N
        touching = clearances <= 0
        feet, others = (_any_of(touching, capsules).T for capsules in (self._feet, self._others))
        return Motion(qpos, qvel, clearances.swapaxes(0, 1), actions, feet, others)

    def _observed_states(self) -> list[np.ndarray]:
        """The judge's states [N] that are observed."""
        return [getattr(self, f"_{name}") for name in self.observed]

    def _seed(self, seed: int | Sequence[int | None] | None) -> None:
        """Give every environment a generator; None keeps the one that it has."""
        if seed is None or isinstance(seed, int | np.integer):
            seed = [None if seed is None else int(seed) + number for number in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"`seed` must be an int or a list of {self.num_envs}, got a list of {len(seed)}")
        old: list[np.random.Generator | None] = [*self._generators] or [None] * self.num_envs
        self._generators = [
            np_random(number)[0] if generator is None or number is not None else generator
            for generator, number in zip(old, seed, strict=True)
        ]

    def _begin(self, mask: np.ndarray) -> None:
        """Put the bodies of the mask at rest, with a little noise on positions and velocities."""
        ids = np.flatnonzero(mask)
        self._physics.reset(ids)
        draws = np.array([self._generators[i].uniform(-1, 1, self.model.nq + self.model.nv) for i in ids])
        self._qpos[ids] += self.reset_noise * draws[:, : self.model.nq]
        self._qvel[ids] += self.reset_noise * draws[:, self.model.nq :]
        self._elapsed[ids] = 0
        self._judge_reset(mask)
        self._forget(mask)

    def _forget(self, mask: np.ndarray) -> None:
        """What was drawn so far of the bodies of the mask has nothing to do with what comes."""
        if self._view is not None:
            self._view.restart(np.flatnonzero(mask))

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        if not self._started:
            raise gym.error.ResetNeeded("call reset() before step()")
        actions = np.asarray(actions, dtype=np.float64)
        if actions.shape != self.action_space.shape:
            raise ValueError(f"`actions` must have the shape {self.action_space.shape}, got {actions.shape}")
        bounds: Any = self.action_space
        right = (actions >= bounds.low) & (actions <= bounds.high)
        if not right.all():
            env, number = wrong = tuple(np.argwhere(~right)[0])
            raise ValueError(
                f"`actions` must be numbers from {bounds.low[wrong]} to {bounds.high[wrong]}, got {actions[wrong]} as "
                f"action {number} of environment {env}; clip them first"
            )
        return actions

    def _judge_nothing(self) -> dict[str, np.ndarray]:
        """What the judge says, all zeros: the info of a reset."""
        qpos = np.repeat(self._qpos[:, None], self.substeps, axis=1)
        motion = self._motion(qpos, self._qvel, np.zeros(self.action_space.shape))  # type: ignore[arg-type]
        self._judge_reset(self._everyone)
        return {name: np.zeros_like(values) for name, values in self._judge(motion).items()}

    def _observe(
        self, qpos: np.ndarray, qvel: np.ndarray, clearances: np.ndarray, states: list[np.ndarray]
    ) -> np.ndarray:
        """Observations [n, O] float32 of n bodies, by the table above."""
        joints, capsules = qpos.shape[1] - 3, clearances.shape[1]
        angle = np.ascontiguousarray(qpos[:, 2])  # sines of a strided array may differ in the last bit
        bounds: Any = self.observation_space
        low, high = bounds.low[: len(qpos)], bounds.high[: len(qpos)]  # a row for each: numpy is slow at repeating one
        observations = np.empty_like(low)
        observations[:, 0], observations[:, 1], observations[:, 2] = np.sin(angle), np.cos(angle), qpos[:, 1]
        observations[:, 3 : 3 + joints] = qpos[:, 3:]
        end = 6 + 2 * joints
        observations[:, 3 + joints : end] = qvel
        observations[:, end : end + capsules] = clearances
        for column, state in enumerate(states, end + capsules):
            observations[:, column] = state
        np.maximum(observations, low, out=observations)
        return np.minimum(observations, high, out=observations)

    def _observe_now(self, mask: np.ndarray) -> np.ndarray:
        """Observations [n, O] of the bodies of the mask as they are."""
        qpos = self._qpos[mask]
        states = [state[mask] for state in self._observed_states()]
        return self._observe(qpos, self._qvel[mask], self.kinematics.clearances(qpos), states)

    def _info(self, judged: dict[str, np.ndarray]) -> dict[str, Any]:
        """The info as Gymnasium's vector envs give it, each key with its mask."""
        info = {"shown": self._qpos.astype(np.float32), "diverged": self._physics.diverged.copy()}
        info |= {name: values.copy() for name, values in judged.items()}
        return info | {f"_{name}": self._everyone for name in info}


class PlanarEnv(gym.Env):
    """One planar body: a batch of one behind Gymnasium's single-environment API.

    Takes the arguments of its `vector_class` but `num_envs`; observations and info are the same, for one body. It does
    not reset by itself: after ``truncated`` call `reset`.
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
        """Start an episode; `options` as `PlanarVectorEnv.reset` takes them."""
        super().reset(seed=seed)
        self.vector._generators = [self.np_random]
        self._over = False
        observations, info = self.vector.reset(options=options)
        if self.render_mode == "human":
            self.render()
        return observations[0], _first(info)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance by one control step; the errors of a wrong action are the vector environment's."""
        if self._over:
            raise gym.error.ResetNeeded("the episode is over (truncated): call reset() before step()")
        observations, rewards, truncations, info = self.vector._advance(np.asarray(action)[None])
        self._over = bool(truncations[0])
        if self.render_mode == "human":
            self.render()
        return observations[0], float(rewards[0]), False, self._over, _first(info)

    def render(self) -> np.ndarray | None:
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
        self._over = bool(state["over"])
        self.vector._generators = [self.np_random]
        return self.vector.set_state(state)[0]


def _first(info: dict[str, Any]) -> dict[str, Any]:
    """The info of a batch's only environment; a truth becomes Python's, since Gymnasium's batches take no other."""
    single = {name: values[0] for name, values in info.items() if not name.startswith("_")}
    return {name: bool(value) if isinstance(value, np.bool_) else value for name, value in single.items()}


def _any_of(touching: np.ndarray, capsules: list[int]) -> np.ndarray:
    """Whether any of these capsules [..., C] touches."""
    any_does = np.zeros(touching.shape[:-1], dtype=bool)
    for capsule in capsules:
        any_does |= touching[..., capsule]
    return any_does


def _known(kind: str, name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    if name not in known:
        raise UnknownNameError(kind, name, dict.fromkeys(known))
    return name


def _pixels(size: tuple[int, int]) -> tuple[int, int]:
    if len(size) != 2 or min(size) < 16:
        raise ValueError(f"`size` must be a width and a height of at least 16 pixels, got {size!r}")
    return int(size[0]), int(size[1])


def _at_least(name: str, value: int, least: int) -> int:
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}, got {value!r}")
    return int(value)
