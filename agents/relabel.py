"""A replay buffer whose rewards are always those of the present reward model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from prefgym.vector import PreferenceReward

FIELDS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class RelabellingReplayBuffer(ReplayBuffer):
    """SB3's replay buffer, which asks for the rewards when it is sampled, so that none is ever out of date.

    Pass it to SAC, TD3, ... as ``replay_buffer_class``, with ``replay_buffer_kwargs={"source": env}``.

    Args:
        args: of SB3's `ReplayBuffer`.
        source: its `reward`, when a batch is sampled, gives the batch's rewards; None leaves them as they were.
        kwargs: of SB3's `ReplayBuffer`.

    Raises:
        ValueError: without a source, or for actions that are no Box.
    """

    def __init__(self, *args: Any, source: PreferenceReward | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if source is None:
            raise ValueError("`source` must be the PreferenceReward that the agent learns from, got None")
        if not isinstance(self.action_space, spaces.Box):
            raise ValueError(f"the actions must be a Box, got {self.action_space}")
        self.source = source

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """A batch, its rewards [B, 1] by the present model."""
        samples = super().sample(batch_size, env)
        if self.source.reward is None:
            return samples
        rewards = self.source.reward(samples.next_observations.numpy(), self._taken(samples.actions.numpy()))
        return samples._replace(rewards=torch.as_tensor(rewards, dtype=torch.float32).reshape(-1, 1))

    def _taken(self, actions: np.ndarray) -> np.ndarray:
        """Actions in the environment's units: SB3 stores them scaled to [-1, 1]."""
        low, high = self.action_space.low, self.action_space.high  # type: ignore[attr-defined]
        return low + (actions + 1) / 2 * (high - low)

    def get_state(self) -> dict[str, Any]:
        """What is kept, as arrays, for a checkpoint."""
        rows = self.buffer_size if self.full else self.pos
        return {"pos": self.pos, "full": self.full} | {name: getattr(self, name)[:rows].copy() for name in FIELDS}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to a state from `get_state`."""
        self.pos, self.full = state["pos"], state["full"]
        for name in FIELDS:
            getattr(self, name)[: len(state[name])] = state[name]
