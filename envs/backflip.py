"""prefgym/Backflip-v0: a one-legged body that is to do upright, landed backflips."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from prefgym.envs.planar import ASSETS, Motion, PlanarEnv, PlanarVectorEnv

TURN = 2 * np.pi
TILT = np.radians(45)  # of the torso, the greatest that counts as upright

# The judge's pay, in revolutions.
LANDED_SHARE = 0.4  # of a revolution's pay, given when it is landed cleanly; the rest is paid while it turns in the air
MAX_SPEED = 10.0  # rad/s: turning faster earns no more, it only blurs
TAKEN_BACK = 1.1  # of what an attempt was paid, if it ends standing where it began: more than 1, or rocking pays
DUE_SHARE = 0.1  # of what a landing is worth, paid or charged per control step: felt for a while, not for an instant
SPOILED_COST = 0.003  # charged per control step (0.02 s) while the attempt is spoiled
HEIGHT_PAY = 0.001  # paid per control step and metre of the torso's height


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
    nothing but the foot touches the floor, ended upright on the foot: with the torso within 45° of the vertical. An
    attempt is *spoiled* when another part touches, or when it turns past upright without having stood; the next one
    begins where it stands upright again.

    ## Actions
    Three torques, each from -1 to 1, times 200 N m.

    | Num | Action | Min | Max | Gear | Unit |
    | --- | --- | --- | --- | --- | --- |
    | 0 | hip (torso against thigh) | -1 | 1 | 200 | N m |
    | 1 | knee (thigh against leg) | -1 | 1 | 200 | N m |
    | 2 | ankle (leg against foot) | -1 | 1 | 200 | N m |

    ## Observations
    18 numbers, float32, clipped to these bounds.

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
    | 16 | whether the attempt is spoiled | 0 | 1 | |
    | 17 | what the last landing is still due: negative to be charged | -1 | 1 | revolutions |

    ## Rewards
    `clean`, the judge's own, in revolutions. Turning in the air pays 0.6 a turn backward, each angle once in an
    attempt, and costs as much forward, until the attempt is spoiled; a clean landing pays 0.4. An attempt that ends
    standing where it began gives back what it was paid and a tenth more, and every moment of a spoiled one costs. So a
    clean backflip earns about 1, and rolling and rocking earn less than standing. What a landing earns or costs comes
    over the next half second, a tenth of the rest at each step, so that it is seen for a while.
    `spin`, the hand-written formula of 2017 (see `spin_reward`).

    ## Info
    `true_reward` (the judge's, whatever `reward` is), `revolutions` (backward turns in this episode, a fraction),
    `clean_backflips` (their count), `shown` and `diverged` as in `PlanarVectorEnv`, which also says what the arguments
    mean.
    """

    asset = ASSETS / "backflip.xml"
    feet = ("foot",)
    rewards: ClassVar = {"clean": None, "spin": spin_reward}
    judge_fields = ("angle", "farthest", "paid", "due", "landed", "spoiled", "clean")
    observed: ClassVar = {"spoiled": (0.0, 1.0), "due": (-1.0, 1.0)}

    def caption(self, number: int) -> dict[str, Any]:
        """The dial of revolutions and the count of clean backflips."""
        return {"revolutions": float(self._angle[number]) / TURN, "clean_flips": int(self._clean[number])}

    def _judge_reset(self, mask: np.ndarray) -> None:
        if not hasattr(self, "_angle"):
            self._angle = np.zeros(self.num_envs)  # backward, unwrapped, rad
            self._farthest = np.zeros(self.num_envs)  # angle of the present attempt
            self._paid = np.zeros(self.num_envs)  # for the present attempt, revolutions
            self._due = np.zeros(self.num_envs)  # for the last landing, revolutions
            self._landed = np.zeros(self.num_envs)  # turns, whole
            self._clean = np.zeros(self.num_envs, dtype=np.int64)
            self._spoiled = np.zeros(self.num_envs, dtype=bool)
        self._angle[mask] = self._farthest[mask] = -self._qpos[mask, 2]
        for field in (self._paid, self._due, self._landed, self._clean, self._spoiled):
            field[mask] = 0

    def _judge(self, motion: Motion) -> dict[str, np.ndarray]:
        reward = HEIGHT_PAY * motion.qpos[:, -1, 1]
        angles = np.negative(motion.qpos[:, :, 2].T, order="C")  # [S, N], like all that follows the substeps
        turns, feet, others = np.rint(angles / TURN), motion.feet.T, motion.others.T
        stands = feet & ~others & (np.abs(angles - TURN * turns) < TILT)
        landed = self._land(turns, stands)
        onward = landed[1:] > landed[:-1]  # a turn further than they ever stood
        spoiled = self._spoil(others | (angles > TURN * (landed[:-1] + 1) + TILT), stands)
        landings = (onward & ~spoiled).sum(axis=0)
        pay = self._pay(angles, stands) * ~(feet | others | spoiled)
        for substep in zip(pay, stands, stands & ~onward, stands.any(axis=1), strict=True):
            reward += self._settle(*substep)
        self._clean += landings
        self._due += LANDED_SHARE * landings
        reward += DUE_SHARE * self._due - SPOILED_COST * self._spoiled
        self._due *= 1 - DUE_SHARE
        return {"revolutions": self._angle / TURN, "clean_backflips": self._clean, "true_reward": reward}

    def _land(self, turns: np.ndarray, stands: np.ndarray) -> np.ndarray:
        """Whole turns at which each body has stood, before the step and after its substeps [S + 1, N]; they only grow,
        so that going back forward gives no second try."""
        reached = np.concatenate([self._landed[None], np.where(stands, turns, -np.inf)])
        for before, now in pairwise(reached):
            np.maximum(before, now, out=now)
        self._landed[:] = reached[-1]
        return reached

    def _spoil(self, spoiling: np.ndarray, stands: np.ndarray) -> np.ndarray:
        """Whether the attempt at each substep is spoiled by then [S, N]; where a body stands, another one begins."""
        spoiled = np.empty_like(stands)
        for now, spoils, stood in zip(spoiled, spoiling, stands, strict=True):
            np.logical_or(self._spoiled, spoils, out=now)
            np.greater(now, stood, out=self._spoiled)  # spoiled and not stood
        return spoiled

    def _pay(self, angles: np.ndarray, stands: np.ndarray) -> np.ndarray:
        """Revolutions that turning in each substep is worth [S, N], whether it counts or not."""
        farthest, before = np.empty_like(angles), np.empty_like(angles)  # at the beginning of the substep
        before[0], before[1:], self._angle[:] = self._angle, angles[:-1], angles[-1]
        for start, angle, stood in zip(farthest, angles, stands, strict=True):
            start[:] = self._farthest
            np.maximum(start, angle, out=self._farthest)
            np.copyto(self._farthest, angle, where=stood)
        most = MAX_SPEED * self.model.opt.timestep
        turned = np.maximum(angles - farthest, 0) + np.minimum(angles - before, 0)
        return (1 - LANDED_SHARE) * (np.minimum(np.maximum(turned, -most), most) / TURN)

    def _settle(self, pay: np.ndarray, stands: np.ndarray, failed: np.ndarray, any_stands: np.bool_) -> np.ndarray:
        """Pay a substep [N]; take back what was paid for attempts that failed, ending where they began.

        Returns:
            What was paid.
        """
        self._paid += pay
        if any_stands:
            self._due -= TAKEN_BACK * np.maximum(self._paid, 0) * failed
            np.copyto(self._paid, 0, where=stands)
        return pay


class BackflipEnv(PlanarEnv):
    """One one-legged body that is to backflip; see `BackflipVectorEnv`."""

    vector_class = BackflipVectorEnv
