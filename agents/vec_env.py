"""Gymnasium's native vector environments under stable-baselines3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices


class VectorAdapter(VecEnv):
    """A `gymnasium.vector.VectorEnv` as stable-baselines3's `VecEnv`, without copying it N times.

    The environment must reset within the same step (`AutoresetMode.SAME_STEP`), as SB3 expects. To be quick, the infos of
    single environments are filled when their episode ends: SB3's ``terminal_observation`` and ``TimeLimit.truncated``, the
    monitor's ``episode`` (``r`` the sum of the rewards given, ``l`` the length), and what the environment said last. The
    infos of every step are in `info`, as arrays.

    Args:
        env: the vector environment.
        seed: of the first reset.

    Raises:
        ValueError: for an environment with another autoreset mode.
    """

    def __init__(self, env: VectorEnv, seed: int | None = None) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(f"`env` must have the autoreset mode {AutoresetMode.SAME_STEP}, got {mode}")
        self.env = env
        self.info: dict[str, Any] = {}
        self._returns, self._lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, dtype=np.int64)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        if seed is not None:
            self.seed(seed)

    def reset(self) -> np.ndarray:
        """Start every episode; uses the seed given last, once."""
        observations, self.info = self.env.reset(seed=self._seeds[0])
        self._returns[:], self._lengths[:] = 0, 0
        self._reset_seeds()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:  # type: ignore[override]
        """Step all environments."""
        observations, rewards, terminations, truncations, self.info = self.env.step(self._actions)
        self._returns += rewards
        self._lengths += 1
        dones = terminations | truncations
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for number in np.flatnonzero(dones):
            infos[number] = self._final_info(number, not terminations[number])
        self._returns[dones], self._lengths[dones] = 0, 0
        return observations, rewards.astype(np.float32), dones, infos

    def _final_info(self, number: int, truncated: bool) -> dict[str, Any]:
        final = self.info.get("final_info", {})
        info = {name: values[number] for name, values in final.items() if not name.startswith("_")}
        info["episode"] = {"r": float(self._returns[number]), "l": int(self._lengths[number]), "t": 0.0}
        info["terminal_observation"] = self.info["final_obs"][number]
        info["TimeLimit.truncated"] = truncated
        return info

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Pictures of all environments."""
        return list(self.env.render() or [])

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the vector environment, once per environment."""
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the vector environment: it is one for all."""
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the vector environment once; its result is given for each environment."""
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Whether a vector wrapper of this class is around the environment."""
        env, wrapped = self.env, False
        while not wrapped and isinstance(env, gym.vector.VectorWrapper):
            wrapped = isinstance(env, wrapper_class)
            env = env.env
        return [wrapped for _ in self._get_indices(indices)]
