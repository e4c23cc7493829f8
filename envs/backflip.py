"""prefgym/Backflip-v0: a one-legged body that is to do upright, landed backflips."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from prefgym.envs.planar import ASSETS, Motion, PlanarEnv, PlanarVectorEnv

TURN = 2 * np.pi
UPRIGHT = np.cos(np.radians(30))  # cosine of the torso's greatest tilt that counts as upright
MAX_SPEED = 10.0  # rad/s; turning faster than this earns no more: it only blurs
LANDED_SHARE = 0.3  # of a revolution's pay that is given when it is landed; the rest while it turns in the air
FAILED_SHARE = 0.5  # of an attempt's pay that is taken back when something but the foot touches the floor
TOUCH_COST = 0.01  # revolutions charged per control step (0.02 s) while something but the foot touches
FORWARD_COST = 0.5  # charged per forward revolution on the ground, so that rocking loses
HIGH = 0.9
HEIGHT_PAY = 0.01  # revolutions paid per control step and metre of the torso's height


def spin_reward(motion: Motion) -> np.ndarray:
    """The hand-written reward published with the 2017 backflip (Christiano et al., appendix), from raw velocities [N].

    It pays for spin: kept as a peer, never as the judge.
    """
    vx, w, joints = motion.qvel[:, 0], motion.qvel[:, 2], motion.qvel[:, 3:]
    work = (motion.actions * joints).sum(axis=1)
    height = motion.qpos[:, -1, 1]
    return -w * (1 + 0.3 * height + 0.1 * work - 0.05 * vx)


class BackflipVectorEnv(PlanarVectorEnv):
    """N one-legged bodies that are to do backflips: one clean backflip after another, 4 s long.

    A planar body of torso, thigh, leg and foot, 1.5 m tall, on three motors; 50 control steps per second. It starts
    upright on its foot and can turn without limit. A *clean backflip* is one full backward revolution during which
    nothing but the foot touches the floor, ended upright on the foot.

    ## Actions
    Three torques, each from -1 to 1, times 200 N m.

    | Num | Action | Min | Max | Gear | Unit |
    | --- | --- | --- | --- | --- | --- |
    | 0 | hip (torso against thigh) | -1 | 1 | 200 | N m |
    | 1 | knee (thigh against leg) | -1 | 1 | 200 | N m |
    | 2 | ankle (leg against foot) | -1 | 1 | 200 | N m |

    ## Observations
    16 numbers, float32, clipped to these bounds.

    | Num | Observation | Min | Max | Unit |
    | --- | --- | --- | --- | --- |
    | 0 | sine of the torso's angle (positive tips forward) | -1 | 1 | |
    | 1 | cosine of the torso's angle: 1 is upright | -1 | 1 | |
    | 2 | height of the torso's middle above the floor (rootz) | -1 | 5 | m |
    | 3 | angle of the hip | -π | π | rad |
    | 4 | angle of the knee | -π | π | rad |
    | 5 | angle of the ankle | -π | π | rad |
    | 6 | velocity of the torso along x (forward) | -25 | 25 | m/s |
    | 7 | velocity of the torso along z (up) | -25 | 25 | m/s |
    | 8 | angular velocity of the torso (backward is negative) | -25 | 25 | rad/s |
    | 9 | angular velocity of the hip | -25 | 25 | rad/s |
    | 10 | angular velocity of the knee | -25 | 25 | rad/s |
    | 11 | angular velocity of the ankle | -25 | 25 | rad/s |
    | 12 | clearance of the torso's lowest point above the floor | -1 | 5 | m |
    | 13 | clearance of the thigh | -1 | 5 | m |
    | 14 | clearance of the leg | -1 | 5 | m |
    | 15 | clearance of the foot | -1 | 5 | m |

    ## Rewards
    `clean`, the judge's own, in revolutions; `spin`, the hand-written formula of 2017 (see `spin_reward`).

    ## Info
    `true_reward` (the judge's, whatever `reward` is), `revolutions` (backward turns in this episode, a fraction),
    `clean_backflips` (their count), `shown` and `diverged` as in `PlanarVectorEnv`, which also says what the arguments
    mean.
    """

    asset = ASSETS / "backflip.xml"
    feet = ("foot",)
    rewards: ClassVar = {"clean": None, "spin": spin_reward}
    judge_fields = ("angle", "landed", "attempt", "spoiled", "clean")

    def caption(self, number: int) -> dict[str, Any]:
        """The dial of revolutions and the count of clean backflips."""
        return {"revolutions": float(self._angle[number]) / TURN, "clean_flips": int(self._clean[number])}

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
        reward = np.where(others.any(axis=1), -TOUCH_COST, 0.0) + HEIGHT_PAY * np.minimum(motion.qpos[:, -1, 1], HIGH)
        for substep in range(motion.qpos.shape[1]):
            angle = -motion.qpos[:, substep, 2]
            reward += self._rotate(angle, foot[:, substep], others[:, substep])
            reward += self._land(angle, foot[:, substep] & ~others[:, substep] & (np.cos(angle) > UPRIGHT))
        return {"revolutions": self._angle / TURN, "clean_backflips": self._clean, "true_reward": reward}

    def _rotate(self, angle: np.ndarray, foot: np.ndarray, touched: np.ndarray) -> np.ndarray:
        """Pay for backward rotation in the air; a touch takes a share of the attempt's pay back and spoils it [N]."""
        turned = (angle - self._angle) / TURN
        self._angle[:] = angle
        turned = np.clip(turned, -MAX_SPEED*0.005/TURN, MAX_SPEED*0.005/TURN)
        paid = np.where(foot | touched, FORWARD_COST * np.minimum(turned, 0), (1 - LANDED_SHARE) * turned)
        self._attempt += paid
        paid -= np.where(touched, FAILED_SHARE * np.maximum(self._attempt, 0), 0)
        self._attempt[touched] = 0
        self._spoiled |= touched
        return paid

    def _land(self, angle: np.ndarray, landed: np.ndarray) -> np.ndarray:
        """Count a clean backflip where the body stands a full turn further than when it last stood, and pay for it [N]."""
        turns = np.rint(angle / TURN).astype(np.int64)
        flipped = landed & ~self._spoiled & (turns > self._landed)
        self._clean += flipped
        self._landed[landed] = turns[landed]
        self._attempt[landed] = 0
        self._spoiled[landed] = False
        return LANDED_SHARE * flipped



class BackflipEnv(PlanarEnv):
    """One one-legged body that is to backflip; see `BackflipVectorEnv`."""

    vector_class = BackflipVectorEnv
