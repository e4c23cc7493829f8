"""prefgym/WalkerWalk-v0: Gymnasium's two-legged walker that is to walk."""

from __future__ import annotations

from typing import ClassVar

import mujoco
import numpy as np

from prefgym.envs.forward import GYMNASIUM, ForwardVectorEnv, quick_spec, share, upright
from prefgym.envs.planar import Motion, PlanarEnv

LOW, HIGH = 0.8, 1.15  # metres from the floor to the torso's middle: kneeling, and standing
WALKING = 1.5  # m/s: faster is not paid more
STANDING_SHARE = 0.1  # of the pay, for standing upright where it is
FALLEN_COST = 0.1  # charged per control step (0.02 s) while anything but a foot touches the floor
HEEL = 0.1  # metres that the feet reach back behind the ankle; Gymnasium's end there, and fall over backward at once
HIPS = (-20, 100)  # degrees back and forward, as dm_control's; Gymnasium's, from -150 to 0, cannot step forward
TORQUES = (100, 50, 20)  # N m of hip, knee and ankle, as dm_control's walker has them


class WalkerWalkVectorEnv(ForwardVectorEnv):
    """N walkers that are to walk upright at a walking speed, for 4 s.

    The body is Gymnasium's `walker2d_v5.xml`, a torso on two legs of thigh, leg and foot, at 50 control steps per
    second; but like dm_control's walker it has hips that turn from 20° back to 100° forward (Gymnasium's cannot put a
    leg in front of the torso), feet with a heel, and weaker knees and ankles. It starts upright on both feet, and no
    fall ends an episode.

    ## Actions
    Six torques, each from -1 to 1, times the motor's gear.

    | Num | Action | Min | Max | Gear | Unit |
    | --- | --- | --- | --- | --- | --- |
    | 0, 3 | right and left hip (torso against thigh) | -1 | 1 | 100 | N m |
    | 1, 4 | right and left knee (thigh against leg) | -1 | 1 | 50 | N m |
    | 2, 5 | right and left ankle (leg against foot) | -1 | 1 | 20 | N m |

    ## Observations
    26 numbers, float32, clipped to these bounds.

    | Num | Observation | Min | Max | Unit |
    | --- | --- | --- | --- | --- |
    | 0, 1 | sine and cosine of the torso's angle (positive tips forward) | -1 | 1 | |
    | 2 | height of the torso's middle above the floor (rootz) | -1 | 5 | m |
    | 3 … 8 | angles of the six joints, in the order of the actions | -π | π | rad |
    | 9, 10 | velocity of the torso along x (forward) and z (up) | -25 | 25 | m/s |
    | 11 | angular velocity of the torso | -25 | 25 | rad/s |
    | 12 … 17 | angular velocities of the six joints | -25 | 25 | rad/s |
    | 18 | clearance of the torso above the floor | -1 | 5 | m |
    | 19 … 24 | clearances of right thigh, leg and foot, left thigh, leg and foot | -1 | 5 | m |
    | 25 | how far the torso is behind the foremost place it reached | 0 | 1 | m |

    ## Rewards
    `walk` (the judge's), at most 1 per step: the product of *upright* (1 while the torso is within 20° of the vertical,
    0 from 45° on), *height* (0 where the torso's middle is 0.8 m above the floor, 1 from 1.15 m on) and *speed* (0.1
    for standing, 1 from 1.5 m/s of new ground on). While anything but a foot touches the floor it is nothing, and each
    step with such a moment costs 0.1.

    ## Info
    `true_reward`; `metres` of ground gained in this episode, however; `shown` and `diverged` as in `PlanarVectorEnv`,
    which also says what the arguments mean.
    """

    asset = GYMNASIUM / "walker2d_v5.xml"
    feet = ("foot_geom", "foot_left_geom")
    rewards: ClassVar = {"walk": None}

    def _compile(self) -> mujoco.MjModel:
        spec = quick_spec(self.asset)
        for foot in map(spec.geom, self.feet):
            foot.size[1] += HEEL / 2
            foot.pos[0] -= HEEL / 2
        for hip in ("thigh_joint", "thigh_left_joint"):
            spec.joint(hip).range = HIPS
        for motor, torque in zip(spec.actuators, 2 * TORQUES, strict=True):
            motor.gear[0] = torque
        return spec.compile()

    def _judge(self, motion: Motion) -> dict[str, np.ndarray]:
        walks = share(self._gain(motion).sum(axis=1), 0.0, WALKING * self.substeps * self.model.opt.timestep)
        stands = share(motion.qpos[:, :, 1], LOW, HIGH) * upright(motion) * ~motion.others
        pay = stands.mean(axis=1) * (STANDING_SHARE + (1 - STANDING_SHARE) * walks)
        return self._forward(pay - FALLEN_COST * motion.others.any(axis=1))


class WalkerWalkEnv(PlanarEnv):
    """One walker that is to walk; see `WalkerWalkVectorEnv` for actions, observations, rewards and info."""

    vector_class = WalkerWalkVectorEnv
