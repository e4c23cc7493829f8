"""The judges of Hop, CheetahRun and WalkerWalk, on motions written by hand: what counts, and what must not pay."""

import numpy as np
import pytest

from prefgym.envs.cheetah import CheetahRunVectorEnv
from prefgym.envs.hop import HopVectorEnv
from prefgym.envs.walker import WalkerWalkVectorEnv

STEPS = 100  # two seconds
TOUCHING = -0.001  # metres: the floor gives a little


class Stage:
    """A body that is put through motions, and what its judge says of them."""

    def __init__(self, made):
        self.env = made(1)
        self.time = np.linspace(0, 2, STEPS * self.env.substeps)  # seconds
        self.wave = np.sin(4 * np.pi * self.time)  # two a second

    def motion(self, x=0.0, low=TOUCHING, angle=0.0, **joints):
        """Positions [T, S, nq]: places along x, the body's lowest point, the torso's angle, and angles of joints."""
        qpos = np.tile(self.env.model.qpos0, (len(self.time), 1))
        qpos[:, 0], qpos[:, 2] = x, angle
        for name, angles in joints.items():
            qpos[:, self.env.model.joint(name).qposadr[0]] = angles
        qpos[:, 1] += low - self.env.kinematics.clearances(qpos).min(axis=1)
        return qpos.reshape(STEPS, self.env.substeps, -1)

    def judge(self, *paths):
        """True return of motions, one after the other, and the metres gained."""
        env, total = self.env, 0.0
        env.reset(seed=0)
        env._qpos[:] = paths[0][0, 0]
        env._judge_reset(np.array([True]))
        for qpos in np.concatenate(paths)[:, None]:
            said = env._judge(env._motion(qpos, np.zeros((1, env.model.nv)), np.zeros((1, env.model.nu))))
            total += float(said["true_reward"][0])
        return total, float(said["metres"][0])

    def earns(self, *args, **kwargs):
        """True return of one motion."""
        return self.judge(self.motion(*args, **kwargs))[0]


# Hop


@pytest.fixture(scope="module")
def hopper():
    return Stage(HopVectorEnv)


def hops(stage, height=0.3):
    """Lowest points of a body that is in the air half of the time."""
    return np.where(stage.wave > 0, height * stage.wave, TOUCHING)


HOP_TRICKS = {
    "standing": lambda s: s.motion(),
    "hopping on the spot": lambda s: s.motion(0.0, hops(s)),
    "hopping to and fro": lambda s: s.motion(0.2 * s.wave, hops(s)),
    "hopping backward": lambda s: s.motion(-2 * s.time, hops(s)),
    "sliding on its foot": lambda s: s.motion(2 * s.time),
    "skimming over the floor": lambda s: s.motion(2 * s.time, hops(s, 0.01)),
    "hopping bent over": lambda s: s.motion(2 * s.time, hops(s), 0.9),
    "turning somersaults": lambda s: s.motion(2 * s.time, hops(s), np.pi * s.time),
    "sliding on its back": lambda s: s.motion(2 * s.time, TOUCHING, -1.8),
}


def test_hopping_earns_the_ground_gained_in_flight(hopper):
    """Of 4 m at 2 m/s half are gained in the air, a little of it less than 0.1 m above the floor."""
    total, metres = hopper.judge(hopper.motion(2 * hopper.time, hops(hopper)))
    assert metres == pytest.approx(4)
    assert 1.6 < total < 2.0


@pytest.mark.parametrize("trick", HOP_TRICKS)
def test_what_is_no_hopping_forward_hardly_pays(hopper, trick):
    hopping = hopper.earns(2 * hopper.time, hops(hopper))
    assert hopper.judge(HOP_TRICKS[trick](hopper))[0] < 0.25 * hopping


def test_lying_costs_a_hopper(hopper):
    assert hopper.earns(0.0, TOUCHING, -1.8) == pytest.approx(-0.01 * STEPS)


def test_each_metre_counts_once_for_all_who_are_to_get_forward(hopper):
    there, back = (hopper.motion(x, 0.2) for x in (2 * hopper.time, 4 - 2 * hopper.time))
    assert hopper.judge(there, back, there) == pytest.approx(hopper.judge(there))


def test_a_hopper_is_paid_up_to_its_greatest_speed(hopper):
    """Flying, so that all of it counts: 3 m/s for 2 s."""
    assert hopper.earns(3 * hopper.time, 0.2) == pytest.approx(6, abs=0.05)
    assert hopper.earns(9 * hopper.time, 0.2) == pytest.approx(6, abs=0.05)


# CheetahRun


@pytest.fixture(scope="module")
def cheetah():
    return Stage(CheetahRunVectorEnv)


RUN_TRICKS = {
    "standing": lambda s: s.motion(),
    "leaping on the spot": lambda s: s.motion(0.0, hops(s)),
    "rocking": lambda s: s.motion(0.5 * s.wave),
    "running backward": lambda s: s.motion(-5 * s.time, hops(s)),
    "sliding on its back": lambda s: s.motion(5 * s.time, TOUCHING, np.pi),
    "running on its hands": lambda s: s.motion(5 * s.time, TOUCHING, 1.3),
    "running reared up": lambda s: s.motion(5 * s.time, hops(s), -0.9),
    "turning somersaults": lambda s: s.motion(5 * s.time, hops(s), -2 * np.pi * s.time),
}


def test_running_earns_the_ground_it_gains(cheetah):
    total, metres = cheetah.judge(cheetah.motion(5 * cheetah.time, hops(cheetah)))
    assert metres == pytest.approx(10)
    assert total == pytest.approx(10)


@pytest.mark.parametrize("trick", RUN_TRICKS)
def test_what_is_no_running_hardly_pays(cheetah, trick):
    assert cheetah.judge(RUN_TRICKS[trick](cheetah))[0] < 2.5


def test_lying_costs_a_cheetah(cheetah):
    assert cheetah.earns(0.0, TOUCHING, np.pi) == pytest.approx(-0.01 * STEPS)


def test_a_cheetah_is_paid_up_to_its_greatest_speed(cheetah):
    assert cheetah.earns(30 * cheetah.time) == pytest.approx(20, abs=0.2)


# WalkerWalk


@pytest.fixture(scope="module")
def walker():
    return Stage(WalkerWalkVectorEnv)


def gait(stage, speed=1.5, **others):
    """A walk: each leg is bent while it swings forward, the other is on the floor, and feet are level."""
    legs = {}
    for side, phase in (("", 0.0), ("_left", np.pi)):
        turn = 2 * np.pi * stage.time + phase
        thigh, knee = 0.3 * np.sin(turn), -0.6 * np.maximum(np.cos(turn), 0.0)
        legs |= {f"thigh{side}_joint": thigh, f"leg{side}_joint": knee, f"foot{side}_joint": -thigh - knee}
    return stage.motion(**{"x": speed * stage.time, **legs, **others})


def squat():
    """Both knees bent as far as the feet stay under the torso."""
    legs = {"thigh": 1.7, "leg": -2.2, "foot": 0.5}
    return {f"{part}{side}_joint": angle for part, angle in legs.items() for side in ("", "_left")}


def toppling(stage):
    """Stiff and straight, about its feet, until it lies."""
    angle = np.minimum(stage.time, 1.0) ** 2 * np.pi / 2
    return stage.motion(1.25 * np.sin(angle), TOUCHING, angle)


WALK_TRICKS = {
    "standing": lambda s: s.motion(),
    "stepping on the spot": lambda s: gait(s, 0.0),
    "walking backward": lambda s: gait(s, -1.5),
    "rocking": lambda s: s.motion(0.1 * s.wave),
    "toppling": toppling,
    "sliding on its knees": lambda s: s.motion(s.time, leg_joint=-2.6, leg_left_joint=-2.6),
    "creeping in a squat": lambda s: s.motion(1.5 * s.time, **squat()),
    "walking bent over": lambda s: gait(s, angle=0.9),
    "sliding on its back": lambda s: s.motion(s.time, TOUCHING, -1.8),
    "standing on its head": lambda s: s.motion(s.time, TOUCHING, np.pi),
}


def test_walking_earns_one_a_step(walker):
    total, metres = walker.judge(gait(walker))
    assert metres == pytest.approx(3)
    assert 0.95 * STEPS < total <= STEPS


@pytest.mark.parametrize("trick", WALK_TRICKS)
def test_what_is_no_walking_pays_a_quarter_of_it_at_most(walker, trick):
    assert walker.judge(WALK_TRICKS[trick](walker))[0] <= 0.25 * walker.judge(gait(walker))[0]


def test_a_walker_is_paid_in_proportion_up_to_a_walking_speed(walker):
    half, full, running = (walker.judge(gait(walker, speed))[0] for speed in (0.75, 1.5, 6.0))
    assert half == pytest.approx(0.55 * full, rel=0.01)
    assert running == pytest.approx(full, rel=0.01)


def test_lying_costs_a_walker(walker):
    assert walker.earns(0.0, TOUCHING, -1.8) == pytest.approx(-0.1 * STEPS)


# All of them


@pytest.mark.parametrize("body", ["hopper", "cheetah", "walker"])
def test_how_far_behind_its_best_a_body_is_is_observed_up_to_a_metre(body, request):
    env = request.getfixturevalue(body).env
    env.reset(seed=0)
    seen = []
    for x in (0.5, 0.3, -2.0, 0.7):
        qpos = np.tile(env._qpos[:, None], (1, env.substeps, 1))
        qpos[..., 0] = x
        env._judge(env._motion(qpos, env._qvel, np.zeros((1, env.model.nu))))
        seen.append(env.set_state(env.get_state())[0, -1])
    np.testing.assert_allclose(seen, [0.0, 0.2, 1.0, 0.0], atol=1e-6)
    assert env.caption(0) == {"caption": "0.7 m"}
