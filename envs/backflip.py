"""prefgym/Backflip-v0: a one-legged body that is to do upright, landed backflips."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from prefgym.envs.planar import ASSETS, Motion, PlanarEnv, PlanarVectorEnv

TURN = 2 * np.pi
UPRIGHT = np.cos(np.radians(30))  # cosine of the torso's greatest tilt that counts as upright

# The judge's pay, in revolutions.
LANDED_SHARE = 0.3  # of a revolution's pay, given when it is landed cleanly; the rest is paid while it turns in the air
MAX_SPEED = 12.0  # rad/s: turning faster earns no more, it only blurs
FORWARD_COST = 0.8  # charged per forward revolution on the floor: more than is paid in the air, or rocking pays
ROLL_COST = 5.0  # charged per backward revolution while something but the foot touches the floor,
TOUCH_COST = 0.005  # and per control step (0.02 s)
HEIGHT_PAY = 0.001  # paid per control step and metre of the torso's height,
HIGH = 1.0  # metres, up to which it is paid


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
    17 numbers, float32, clipped to these bounds.

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
    | 16 | time since another part than the foot touched the floor | 0 | 1 | s |

    ## Rewards
    `clean`, the judge's own, in revolutions: turning backward pays in the air (0.7 per revolution, and 0.3 more when it
    is landed cleanly) and costs five times as much while another part than the foot touches the floor; touching at
    all, and turning forward on the floor, cost too. So a clean backflip earns about 1, and rolling and rocking earn
    less than standing still.
    `spin`, the hand-written formula of 2017 (see `spin_reward`).

    ## Info
    `true_reward` (the judge's, whatever `reward` is), `revolutions` (backward turns in this episode, a fraction),
    `clean_backflips` (their count), `shown` and `diverged` as in `PlanarVectorEnv`, which also says what the arguments
    mean.
    """

    asset = ASSETS / "backflip.xml"
    feet = ("foot",)
    rewards: ClassVar = {"clean": None, "spin": spin_reward}
    judge_fields = ("angle", "landed", "spoiled", "clean")

    def caption(self, number: int) -> dict[str, Any]:
        """The dial of revolutions and the count of clean backflips."""
        return {"revolutions": float(self._angle[number]) / TURN, "clean_flips": int(self._clean[number])}

    def _judge_reset(self, mask: np.ndarray) -> None:
        if not hasattr(self, "_angle"):
            self._angle = np.zeros(self.num_envs)  # backward, unwrapped, rad
            self._landed, self._clean = np.zeros((2, self.num_envs), dtype=np.int64)
            self._spoiled = np.zeros(self.num_envs, dtype=bool)
        self._angle[mask] = -self._qpos[mask, 2]
        for field in (self._landed, self._clean, self._spoiled):
            field[mask] = 0

    def _judge(self, motion: Motion) -> dict[str, np.ndarray]:
        angles = -motion.qpos[:, :, 2]  # [N, S]
        others = np.any(motion.clearances[..., ~self._is_foot] <= 0, axis=2)
        foot = np.any(motion.clearances[..., self._is_foot] <= 0, axis=2)
        turned = np.diff(angles, prepend=self._angle[:, None])
        self._angle[:] = angles[:, -1]
        reward = self._pay(turned, foot, others).sum(axis=1) - TOUCH_COST * others.any(axis=1)
        reward += HEIGHT_PAY * np.minimum(motion.qpos[:, -1, 1], HIGH)
        reward += LANDED_SHARE * self._land(angles, foot & ~others & (np.cos(angles) > UPRIGHT), others)
        return {"revolutions": self._angle / TURN, "clean_backflips": self._clean, "true_reward": reward}

    def _pay(self, turned: np.ndarray, foot: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Revolutions paid for having turned backward [N, S], rad: in the air, on the foot, on something else."""
        most = MAX_SPEED * self.model.opt.timestep
        turned = np.clip(turned, -most, most) / TURN
        backward, forward = np.maximum(turned, 0), np.minimum(turned, 0)
        grounded = FORWARD_COST * forward - ROLL_COST * backward * others
        return np.where(foot | others, grounded, (1 - LANDED_SHARE) * turned)

    def _land(self, angles: np.ndarray, standing: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Count a clean backflip where a body stands a full turn further than when it last stood; how many now [N]."""
        before, turns = self._clean.copy(), np.rint(angles / TURN).astype(np.int64)
        for substep in range(angles.shape[1]):
            stands = standing[:, substep]
            self._spoiled |= others[:, substep]
            self._clean += stands & ~self._spoiled & (turns[:, substep] > self._landed)
            np.copyto(self._landed, turns[:, substep], where=stands)
            self._spoiled &= ~stands
        return self._clean - before


class BackflipEnv(PlanarEnv):
    """One one-legged body that is to backflip; see `BackflipVectorEnv`."""

    vector_class = BackflipVectorEnv
