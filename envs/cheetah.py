"""prefgym/CheetahStand-v0 and CheetahRun-v0: Gymnasium's half-cheetah, to stand up on its hind leg or to run."""

from __future__ import annotations

from typing import Any, ClassVar

import mujoco
import numpy as np

from prefgym.envs.forward import GYMNASIUM, ForwardVectorEnv, upright
from prefgym.envs.planar import Motion, PlanarEnv, PlanarVectorEnv

MASS = 14.0  # kilograms, as in Gymnasium's HalfCheetah
STEP = 0.02  # seconds per control step

UPRIGHT = np.cos(np.radians(45))  # cosine of the torso's greatest tilt from the vertical that counts as standing

MAX_SPEED = 10.0  # m/s: faster is not paid more
FALLEN_COST = 0.01  # metres charged per control step while anything but shins and feet touches the floor


class CheetahVectorEnv(PlanarVectorEnv):
    """N half-cheetahs, whatever they are to do: Gymnasium's own `half_cheetah.xml` at 50 control steps per second.

    ## Actions
    Six torques, each from -1 to 1, times the motor's gear: N m on a hinge.

    | Num | Action | Min | Max | Gear | Unit |
    | --- | --- | --- | --- | --- | --- |
    | 0 | hind thigh (bthigh) | -1 | 1 | 120 | N m |
    | 1 | hind shin (bshin) | -1 | 1 | 90 | N m |
    | 2 | hind foot (bfoot) | -1 | 1 | 60 | N m |
    | 3 | front thigh (fthigh) | -1 | 1 | 120 | N m |
    | 4 | front shin (fshin) | -1 | 1 | 60 | N m |
    | 5 | front foot (ffoot) | -1 | 1 | 30 | N m |

    ## Observations
    26 numbers, float32, clipped to these bounds; the torso's angle is 0 at rest and -90° when the nose points up.

    | Num | Observation | Min | Max | Unit |
    | --- | --- | --- | --- | --- |
    | 0, 1 | sine and cosine of the torso's angle (positive tips forward) | -1 | 1 | |
    | 2 | height of the torso's middle above where it starts (rootz) | -1 | 5 | m |
    | 3 … 8 | angles of the six joints, in the order of the actions | -π | π | rad |
    | 9, 10 | velocity of the torso along x (forward) and z (up) | -25 | 25 | m/s |
    | 11 | angular velocity of the torso | -25 | 25 | rad/s |
    | 12 … 17 | angular velocities of the six joints | -25 | 25 | rad/s |
    | 18, 19 | clearance of torso and head above the floor | -1 | 5 | m |
    | 20 … 25 | clearances of hind thigh, shin, foot, front thigh, shin, foot | -1 | 5 | m |
    """

    asset = GYMNASIUM / "half_cheetah.xml"
    substeps = 2

    def _compile(self) -> mujoco.MjModel:
        spec = mujoco.MjSpec.from_file(str(self.asset))
        spec.compiler.settotalmass = -1  # deprecated: MuJoCo would warn and write a file
        model = spec.compile()
        mujoco.mj_setTotalmass(model, MASS)
        mujoco.mj_setConst(model, mujoco.MjData(model))
        return model


class CheetahStandVectorEnv(CheetahVectorEnv):
    """N half-cheetahs that are to rear up and stand: nose to the sky, nothing but the hind shin and foot on the ground.

    Episodes are 4 s long; the reward is hidden, to be learned from comparisons. Actions and observations are those of
    `CheetahVectorEnv`.

    ## Rewards
    `stand` (the judge's), per step: how far the nose points up, the sine of its angle from -1 to 1, of which a fifth is
    paid while anything but the hind shin and foot touches the floor.

    ## Info
    `true_reward`; `standing`: the torso is within 45° of the vertical and nothing but the hind shin and foot touches
    the floor; `standing_seconds`, for how long it has done so in this episode; `shown` and `diverged` as in
    `PlanarVectorEnv`, which also says what the arguments mean.
    """

    feet = ("bshin", "bfoot")
    rewards: ClassVar = {"stand": None}
    judge_fields = ("stood",)

    def caption(self, number: int) -> dict[str, Any]:
        """How long it has stood."""
        return {"caption": f"stood {self._stood[number] * STEP:.1f} s"}

    def _judge_reset(self, mask: np.ndarray) -> None:
        if not hasattr(self, "_stood"):
            self._stood = np.zeros(self.num_envs, dtype=np.int64)
        self._stood[mask] = 0

    def _judge(self, motion: Motion) -> dict[str, np.ndarray]:
        up = np.sin(-motion.qpos[:, -1, 2])
        reared = ~motion.others.any(axis=1)
        standing = (up > UPRIGHT) & reared
        self._stood += standing
        reward = up * np.where(reared, 1.0, 0.2)
        return {"standing_seconds": self._stood * STEP, "standing": standing, "true_reward": reward}


class CheetahStandEnv(PlanarEnv):
    """One half-cheetah that is to stand up; see `CheetahStandVectorEnv` for actions, observations, rewards and info."""

    vector_class = CheetahStandVectorEnv


class CheetahRunVectorEnv(ForwardVectorEnv, CheetahVectorEnv):
    """N half-cheetahs that are to run: forward on their legs, as fast as they can, for 4 s.

    Actions and observations are those of `CheetahVectorEnv`, and one more number:

    | Num | Observation | Min | Max | Unit |
    | --- | --- | --- | --- | --- |
    | 26 | how far the torso is behind the foremost place it reached | 0 | 1 | m |

    ## Rewards
    `run` (the judge's), in metres: new ground that the torso gains while nothing but shins and feet touches the floor,
    up to 10 m/s. It counts in full while the torso is within 20° of the horizontal, less beyond, and not at all from
    45° on. Every moment in which anything else touches the floor costs half as much as is gained at 1 m/s.

    ## Info
    `true_reward`; `metres` of ground gained in this episode, however; `shown` and `diverged` as in `PlanarVectorEnv`,
    which also says what the arguments mean.
    """

    feet = ("bshin", "bfoot", "fshin", "ffoot")
    rewards: ClassVar = {"run": None}

    def _judge(self, motion: Motion) -> dict[str, np.ndarray]:
        gained = np.minimum(self._gain(motion), MAX_SPEED * self.model.opt.timestep)
        run = (gained * upright(motion) * ~motion.others).sum(axis=1)
        return self._forward(run - FALLEN_COST * motion.others.any(axis=1))


class CheetahRunEnv(PlanarEnv):
    """One half-cheetah that is to run; see `CheetahRunVectorEnv` for actions, observations, rewards and info."""

    vector_class = CheetahRunVectorEnv
