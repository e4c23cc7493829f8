"""prefgym/Hop-v0: Gymnasium's one-legged hopper that is to hop forward."""

from __future__ import annotations

from typing import ClassVar

import mujoco
import numpy as np

from prefgym.envs.forward import GYMNASIUM, ForwardVectorEnv, quick_spec, share, upright
from prefgym.envs.planar import Motion, PlanarEnv

LIFT = 0.1  # metres between floor and body from which on a flight counts in full: less, and shuffling is hopping
MAX_SPEED = 3.0  # m/s: faster is not paid more
FALLEN_COST = 0.01  # metres charged per control step (0.02 s) while anything but the foot touches the floor


class HopVectorEnv(ForwardVectorEnv):
    """N hoppers that are to hop forward, upright, for 4 s.

    The body is Gymnasium's own `hopper.xml`, of torso, thigh, leg and foot, at 50 control steps per second; it starts
    upright on its foot, and no fall ends an episode.

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
    | 0, 1 | sine and cosine of the torso's angle (positive tips forward) | -1 | 1 | |
    | 2 | height of the torso's middle above the floor (rootz) | -1 | 5 | m |
    | 3 … 5 | angles of hip, knee and ankle | -π | π | rad |
    | 6, 7 | velocity of the torso along x (forward) and z (up) | -25 | 25 | m/s |
    | 8 | angular velocity of the torso | -25 | 25 | rad/s |
    | 9 … 11 | angular velocities of hip, knee and ankle | -25 | 25 | rad/s |
    | 12 … 15 | clearances of torso, thigh, leg and foot above the floor | -1 | 5 | m |
    | 16 | how far the torso is behind the foremost place it reached | 0 | 1 | m |

    ## Rewards
    `hop` (the judge's), in metres: new ground that the torso gains in flight. It counts in full while all of the body
    is 0.1 m and more above the floor, less below, and not at all on the floor; in full while the torso is within 20°
    of the vertical, less beyond, and not at all from 45° on; up to 3 m/s. Every moment in which anything but the foot
    touches the floor costs half as much as is gained at 1 m/s.

    ## Info
    `true_reward`; `metres` of ground gained in this episode, however; `shown` and `diverged` as in `PlanarVectorEnv`,
    which also says what the arguments mean.
    """

    asset = GYMNASIUM / "hopper.xml"
    feet = ("foot_geom",)
    rewards: ClassVar = {"hop": None}

    def _compile(self) -> mujoco.MjModel:
        return quick_spec(self.asset).compile()

    def _judge(self, motion: Motion) -> dict[str, np.ndarray]:
        lift = share(motion.clearances.min(axis=2), 0.0, LIFT)
        gained = np.minimum(self._gain(motion), MAX_SPEED * self.model.opt.timestep)
        hopped = (gained * lift * upright(motion)).sum(axis=1)
        return self._forward(hopped - FALLEN_COST * motion.others.any(axis=1))


class HopEnv(PlanarEnv):
    """One hopper that is to hop forward; see `HopVectorEnv` for actions, observations, rewards and info."""

    vector_class = HopVectorEnv
