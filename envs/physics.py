"""The physics of N bodies: `mujoco.batch`, with simulations that diverge set aside and a state that can be saved."""

from __future__ import annotations

import logging

import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError

logger = logging.getLogger(__name__)

STATE_FIELDS = ("time", "qpos", "qvel", "act", "qacc_warmstart", "ctrl")
BAD = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADQACC) + 1)
LIMIT = mujoco.mjMAXVAL  # beyond it MuJoCo calls a number bad


class Physics:
    """N simulations of one model, stepped together; results do not depend on the number of threads.

    Args:
        model: the compiled model.
        count: number of simulations, N.
        num_threads: threads that simulate.

    Attributes:
        qpos: [N, nq] live positions, metres and radians; writing to it moves the bodies.
        qvel: [N, nv] live velocities, m/s and rad/s.
        diverged: [N] how often each simulation has diverged so far.
    """

    def __init__(self, model: mujoco.MjModel, count: int, num_threads: int) -> None:
        self._batch = Batch(model, count, num_threads)
        self.qpos, self.qvel, self._ctrl = (self._batch.bind(name) for name in ("qpos", "qvel", "ctrl"))
        self._state, self._warnings = self._batch.state, self._batch.warning[:, BAD, 1]  # live, too
        self.diverged = np.zeros(count, dtype=np.int64)

    def reset(self, ids: np.ndarray) -> None:
        """Put the simulations `ids` (sorted) at the model's resting pose."""
        self._batch.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE)

    def step(self, controls: np.ndarray, substeps: int) -> tuple[np.ndarray, np.ndarray]:
        """Advance all by `substeps` steps under controls [N, A].

        Returns:
            qpos after each substep [N, S, nq], and which simulations diverged [N]: these are counted, logged, and stand
            where they were (at the resting pose if that was bad too). The others do not notice.
        """
        self._ctrl[:] = controls
        before, warned = self._state.copy(), self._warnings.copy()
        qpos, failed = self._rollout(substeps, before)
        risen = self._warnings != warned  # how often MuJoCo found a state bad
        if risen.any() or not _all_sound(self._state):
            failed |= risen.any(axis=1) | ~_sound(self._state)
        if failed.any():
            self._put_back(failed, before)
            qpos[failed] = self.qpos[failed, None]
        return qpos, failed

    def _rollout(self, substeps: int, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        failed = np.zeros(len(before), dtype=bool)
        try:
            return self._batch.rollout(substeps)["qpos"], failed
        except SimulationError as error:  # what was recorded is lost with it: once more, without those that raised
            failed[error.ids] = True
        qpos = np.repeat(self.qpos[:, None], substeps, axis=1)
        self._state[~failed] = before[~failed]
        if not failed.all():
            qpos[~failed] = self._batch.rollout(substeps, ids=np.flatnonzero(~failed))["qpos"]
        return qpos, failed

    def _put_back(self, failed: np.ndarray, before: np.ndarray) -> None:
        self._state[failed] = before[failed]
        hopeless = np.flatnonzero(failed & ~_sound(before))
        if len(hopeless):
            self.reset(hopeless)
        self.diverged += failed
        logger.warning("The simulation diverged in environments %s: their episodes end here", np.flatnonzero(failed))

    def get_state(self) -> dict[str, np.ndarray]:
        """Copies of all arrays that the next steps depend on."""
        return {name: np.array(self._batch.bind(name)) for name in STATE_FIELDS} | {"diverged": self.diverged.copy()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go back to a state from `get_state`."""
        for name in STATE_FIELDS:
            self._batch.bind(name)[...] = state[name]
        self.diverged[:] = state["diverged"]


def _sound(state: np.ndarray) -> np.ndarray:
    """Which rows hold only numbers that MuJoCo accepts [N]; NaN is not."""
    return (np.abs(state) < LIMIT).all(axis=1)


def _all_sound(state: np.ndarray) -> bool:
    """Whether all rows do: two reductions, for the step in which nothing is wrong."""
    return bool(state.max() < LIMIT and state.min() > -LIMIT)
