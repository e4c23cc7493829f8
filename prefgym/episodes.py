"""The episode log: what a policy came to in the episodes it finished while training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorWrapper

from prefgym.vector import PreferenceReward

RETURNS = ("true_return", "learned_return")


class EpisodeLog(VectorWrapper):
    """Sums up rewards, true and learned, and keeps them with the judge's last word when an episode ends.

    Args:
        env: gives ``info["true_reward"]`` and ``info["learned_reward"]``.
        judged: names in the final info to keep, such as "clean_backflips".
    """

    def __init__(self, env: PreferenceReward, judged: Sequence[str] = ()) -> None:
        super().__init__(env)
        self.judged = tuple(judged)
        self._sums = np.zeros((env.num_envs, len(RETURNS)))
        self._finished: list[list[float]] = []

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset all environments; unfinished episodes are dropped."""
        self._sums[:] = 0
        return self.env.reset(**kwargs)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step all environments."""
        result = self.env.step(actions)
        info = result[4]
        self._sums += np.stack([info["true_reward"], info["learned_reward"]], axis=1)
        dones = result[2] | result[3]
        if dones.any():
            self._finish(dones, info.get("final_info", {}))
        return result

    def _finish(self, dones: np.ndarray, final: dict[str, Any]) -> None:
        nothing = np.full(len(dones), np.nan)
        judged = [np.asarray(final.get(name, nothing), dtype=np.float64)[dones] for name in self.judged]
        self._finished.extend(np.column_stack([self._sums[dones], *judged]).tolist())
        self._sums[dones] = 0

    def drain(self) -> dict[str, float]:
        """Means over the episodes finished since the last call, by name; nan if there were none."""
        names = (*RETURNS, *self.judged)
        rows = np.array(self._finished or [[np.nan] * len(names)])
        self._finished.clear()
        return dict(zip(names, rows.mean(axis=0).tolist(), strict=True))

    def get_state(self) -> dict[str, Any]:
        """The sums so far and what was not drained yet."""
        return {"sums": self._sums.copy(), "finished": [list(row) for row in self._finished]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to a state from `get_state`."""
        self._sums[:] = state["sums"]
        self._finished = [list(row) for row in state["finished"]]
