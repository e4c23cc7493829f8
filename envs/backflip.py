"""prefgym/Backflip-v0: a one-legged body that is to do upright, landed backflips."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from prefgym.envs.planar import ASSETS, Motion, PlanarEnv, PlanarVectorEnv

TURN = 2 * np.pi
UPRIGHT = np.cos(np.radians(30))  # cosine of the torso's greatest tilt that counts as upright
FAILED_SHARE = 0.5  # share of an attempt's rotation that is taken back when something but the foot touches the floor
TOUCH_COST = 0.03  # revolutions charged per control step (0.02 s) while something but the foot touches
AIR=0
HEIGHT=0.0
LAND=0.5
FORWARD_COST = 0.1  # surcharge on forward rotation, so that rocking loses


def spin_reward(motion: Motion) -> np.ndarray:
    """The hand-written reward published with the 2017 backflip (Christiano et al., appendix), from raw velocities [N].

    It pays for spin: kept as a peer, never as the judge.
    """
    vx, w, joints = motion.qvel[:, 0], motion.qvel[:, 2], motion.qvel[:, 3:]
    work = (motion.actions * joints).sum(axis=1)
    height = motion.qpos[:, -1, 1]
    return -w * (1 + 0.3 * height + 0.1 * work - 0.05 * vx)


class BackflipVectorEnv(PlanarVectorEnv):
    """N one-legged bodies that are to backflip."""

    asset = ASSETS / "backflip.xml"
    feet = ("foot",)
    rewards: ClassVar = {"clean": None, "spin": spin_reward}
    judge_fields = ("angle", "landed", "attempt", "spoiled", "clean")

    def _observe(self, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
        angle = qpos[:, 2]
        parts = (np.sin(angle), np.cos(angle), qpos[:, 1], *qpos[:, 3:].T, *qvel.T, *self.kinematics.clearances(qpos).T)
        return np.stack(parts, axis=1, dtype=np.float32, casting="same_kind")

    def _judge_reset(self, mask: np.ndarray) -> None:
        if not hasattr(self, "_angle"):
            self._angle, self._attempt = np.zeros((2, self.num_envs))
            self._landed, self._clean = np.zeros((2, self.num_envs), dtype=np.int64)
            self._spoiled = np.zeros(self.num_envs, dtype=bool)
        self._angle[mask] = -self._qpos[mask, 2]
        for field in (self._attempt, self._landed, self._clean, self._spoiled):
            field[mask] = 0

    def _judge(self, motion: Motion) -> dict[str, np.ndarray]:
        touching = motion.clearances <= 0
        others = touching[..., ~self._is_foot].any(axis=2)
        foot = touching[..., self._is_foot].any(axis=2)
        reward = np.where(others.any(axis=1), -TOUCH_COST, 0.0)+ HEIGHT*motion.qpos[:,-1,1]
        for substep in range(motion.qpos.shape[1]):
            angle = -motion.qpos[:, substep, 2]
            reward += self._rotate(angle, others[:, substep], foot[:, substep])
            reward += self._land(angle, foot[:, substep] & ~others[:, substep] & (np.cos(angle) > UPRIGHT))
        return {"revolutions": self._angle / TURN, "clean_backflips": self._clean, "true_reward": reward}

    def _rotate(self, angle: np.ndarray, touched: np.ndarray, foot) -> np.ndarray:
        """Pay for backward rotation while the attempt is clean; a touch takes a share of it back and spoils the rest [N]."""
        turned = (angle - self._angle) / TURN
        self._angle[:] = angle
        paid = np.where(self._spoiled, np.minimum(turned, 0), turned*(1-LAND)) + FORWARD_COST * np.minimum(turned, 0)
        if AIR: paid = np.where(foot|touched, FORWARD_COST*np.minimum(turned,0), np.where(self._spoiled, np.minimum(turned,0), turned)*(1-LAND))
        self._attempt += np.where(self._spoiled, 0, turned)
        paid -= np.where(touched, FAILED_SHARE * np.maximum(self._attempt, 0), 0)
        self._attempt[touched] = 0
        self._spoiled |= touched
        return paid

    def _land(self, angle: np.ndarray, landed: np.ndarray) -> None:
        """Count a clean backflip where the body stands a full turn further than when it last stood; begin a new attempt."""
        turns = np.rint(angle / TURN).astype(np.int64)
        flip = landed & ~self._spoiled & (turns > self._landed)
        self._clean += flip
        self._landed[landed] = turns[landed]
        self._attempt[landed] = (angle / TURN - turns)[landed]
        self._spoiled[landed] = False
        return flip*LAND


class BackflipEnv(PlanarEnv):
    """One one-legged body that is to backflip; see `BackflipVectorEnv`."""

    vector_class = BackflipVectorEnv
