"""What an SB3 algorithm needs to go on bit for bit, beside SB3's own zip; nothing is unpickled."""

from __future__ import annotations

import random
from collections import deque
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from prefgym.agents.relabel import RelabellingReplayBuffer

COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_num_timesteps_at_start", "_current_progress_remaining")
ARRAYS = ("_last_obs", "_last_episode_starts")
MOMENTS = ("mean", "var", "count")


def save_agent(agent: BaseAlgorithm, path: Path) -> None:
    """Writes SB3's zip: networks, optimizers and options; `PPO.load(path)` reads it too."""
    buffer = BytesIO()
    agent.save(buffer, exclude=["replay_buffer_kwargs", "rollout_buffer_kwargs"])
    path.write_bytes(buffer.getvalue())  # by itself, so that a full disk is an OSError


def load_parameters(agent: BaseAlgorithm, path: Path) -> None:
    """Loads networks and optimizers from SB3's zip into an agent made with the same options."""
    agent.set_parameters(str(path), exact_match=True, device="cpu")


def agent_state(agent: BaseAlgorithm) -> dict[str, Any]:
    """Counters, the last observations, the scale of the rewards, and SB3's running means of the last episodes."""
    state = {name: getattr(agent, name) for name in COUNTERS if hasattr(agent, name)}
    state |= {name: getattr(agent, name) for name in ARRAYS}
    buffer = getattr(agent, "replay_buffer", None)
    if isinstance(buffer, RelabellingReplayBuffer):
        state["replay"] = buffer.get_state()
    if (scale := agent.get_vec_normalize_env()) is not None:
        state["scale"] = {"returns": scale.returns.copy()} | {name: getattr(scale.ret_rms, name) for name in MOMENTS}
    return state | {"episodes": list(agent.ep_info_buffer or []), "variables": _variables(agent)}


def set_agent_state(agent: BaseAlgorithm, state: dict[str, Any]) -> None:
    """Go back to a state from `agent_state`."""
    for name in (*COUNTERS, *ARRAYS):
        if name in state:
            setattr(agent, name, state[name])
    if "replay" in state:
        agent.replay_buffer.set_state(state["replay"])  # type: ignore[attr-defined]
    if (scale := agent.get_vec_normalize_env()) is not None:
        scale.returns = state["scale"]["returns"].copy()
        for name in MOMENTS:
            setattr(scale.ret_rms, name, state["scale"][name])
    agent.ep_info_buffer = deque(state["episodes"], maxlen=agent._stats_window_size)
    agent.ep_success_buffer = deque(maxlen=agent._stats_window_size)
    for name, value in state["variables"].items():
        getattr(agent, name).data.copy_(torch.from_numpy(value))


def _variables(agent: BaseAlgorithm) -> dict[str, np.ndarray]:
    """Tensors outside the networks, which SB3's zip has but `set_parameters` leaves: SAC's entropy coefficient."""
    return {name: getattr(agent, name).detach().numpy().copy() for name in agent._get_torch_save_params()[1]}


def generator_states() -> dict[str, Any]:
    """States of the global generators, from which SB3 draws: Python's, NumPy's and torch's."""
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    return {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state().numpy()}


def set_generator_states(states: dict[str, Any]) -> None:
    """Go back to states from `generator_states`."""
    kind, numbers, gauss = states["python"]
    random.setstate((kind, tuple(numbers), gauss))
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(torch.from_numpy(states["torch"]))
