"""Going forward: what the judges of hop, run and walk share, each metre counted once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np

from prefgym.envs.planar import Motion, PlanarVectorEnv

GYMNASIUM = Path(gymnasium.__file__).parent / "envs/mujoco/assets"
"""Gymnasium's own bodies."""


def quick_spec(asset: Path) -> mujoco.MjSpec:
    """A body at 0.005 s per physics step, implicitly integrated: RK4 would work out each step four times."""
    spec = mujoco.MjSpec.from_file(str(asset))
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.timestep = 0.005
    return spec


def share(values: np.ndarray, none: float, full: float) -> np.ndarray:
    """How far values lie on the way from what counts as nothing to what counts in full, 0 to 1; any shape."""
    return np.clip((values - none) / (full - none), 0.0, 1.0)


def upright(motion: Motion) -> np.ndarray:
    """1 while the torso is within 20° of where it starts, nothing from 45° on [N, S]; a somersault is so a while."""
    return share(np.cos(motion.qpos[:, :, 2]), np.cos(np.radians(45)), np.cos(np.radians(20)))


class ForwardVectorEnv(PlanarVectorEnv):
    """A planar body that is to get forward; a task says in `_judge` what of the ground that it gains counts.

    Ground is gained where the torso is further forward than it ever was in this episode, so that rocking to and fro
    gains nothing. How far behind that place it is, is observed as the last number, up to 1 m; it is what one who
    watches would remember.
    """

    judge_fields = ("start", "farthest", "behind")
    observed: ClassVar = {"behind": (0.0, 1.0)}

    def caption(self, number: int) -> dict[str, Any]:
        """How far it has got."""
        return {"caption": f"{self._farthest[number] - self._start[number]:.1f} m"}

    def _judge_reset(self, mask: np.ndarray) -> None:
        if not hasattr(self, "_start"):
            self._start, self._farthest, self._behind = (np.zeros(self.num_envs) for _ in range(3))  # metres
        self._start[mask] = self._farthest[mask] = self._qpos[mask, 0]
        self._behind[mask] = 0

    def _gain(self, motion: Motion) -> np.ndarray:
        """Metres of new ground that each substep gained [N, S], at least 0."""
        places = np.concatenate([self._farthest[:, None], motion.qpos[:, :, 0]], axis=1)
        reached = np.maximum.accumulate(places, axis=1)
        self._farthest[:] = reached[:, -1]
        self._behind[:] = np.minimum(reached[:, -1] - places[:, -1], 1.0)
        return np.diff(reached, axis=1)

    def _forward(self, reward: np.ndarray) -> dict[str, np.ndarray]:
        """What a judge says, with this reward [N]."""
        return {"metres": self._farthest - self._start, "true_reward": reward}
