"""The judge of Backflip, on motions written by hand: what counts, and what must not pay."""

from dataclasses import replace

import numpy as np
import pytest

from prefgym.envs.backflip import TURN, BackflipVectorEnv, spin_reward

STEPS, SUBSTEPS = 100, 4  # two seconds
TOUCHING = -0.001  # metres: the floor gives a little


@pytest.fixture(scope="module")
def env():
    return BackflipVectorEnv(1)


def motion(env, angles, lows, knees=0.0):
    """Positions [T, S, nq] turned backward by `angles` [rad], the body's lowest point at the heights `lows` [m]."""
    count = STEPS * SUBSTEPS
    qpos = np.tile(env.model.qpos0, (count, 1))
    qpos[:, 2] = -np.broadcast_to(angles, count)
    qpos[:, 4] = knees
    qpos[:, 1] += np.broadcast_to(lows, count) - env.kinematics.clearances(qpos).min(axis=1)
    return qpos.reshape(STEPS, SUBSTEPS, -1)


def judge(env, path, *, on_foot=False):
    """The true return of a path, and what the judge says at its end; `on_foot`: whatever touches is called the foot."""
    env.reset(seed=0)
    env._qpos[:] = path[0, 0]
    env._judge_reset(np.array([True]))
    total = 0.0
    for qpos in path[:, None]:
        moved = env._motion(qpos, np.zeros((1, 6)), np.zeros((1, 3)))
        if on_foot:
            moved = replace(moved, feet=moved.feet | moved.others, others=np.zeros_like(moved.others))
        said = env._judge(moved)
        total += float(said["true_reward"][0])
    return total, int(said["clean_backflips"][0]), float(said["revolutions"][0])


def flight(turns=1.0, start=0.2, end=0.7):
    """Angles and heights of one flight between two shares of the time, on the foot before and after."""
    time = np.linspace(0, 1, STEPS * SUBSTEPS)
    share = np.clip((time - start) / (end - start), 0, 1)
    return TURN * turns * share, np.where((share > 0) & (share < 1), 0.3, TOUCHING)


@pytest.fixture(scope="module")
def standing(env):
    return judge(env, motion(env, 0.0, TOUCHING))[0]


def test_standing_earns_its_height_and_nothing_else(standing):
    assert standing == pytest.approx(STEPS * 0.001 * 1.25, rel=0.01)


def test_a_landed_backflip_counts_once_and_earns_about_one(env, standing):
    total, clean, revolutions = judge(env, motion(env, *flight()))
    assert (clean, revolutions) == (1, pytest.approx(1.0))
    assert 0.9 < total - standing < 1.05


def test_turning_faster_than_the_eye_earns_less(env):
    slow, fast = (judge(env, motion(env, *flight(end=end)))[0] for end in (0.7, 0.3))
    assert fast < slow


def test_a_touch_on_the_way_spoils_it_and_costs(env, standing):
    angles, heights = flight()
    heights[(angles > 2.0) & (angles < 2.6)] = TOUCHING  # the torso's end is lowest there
    total, clean, _ = judge(env, motion(env, angles, heights))
    assert clean == 0
    assert total < judge(env, motion(env, *flight()))[0] - 0.5


def test_a_flip_that_does_not_end_upright_does_not_count(env):
    assert judge(env, motion(env, *flight(turns=0.85)))[1] == 0


def test_a_forward_flip_counts_for_nothing(env, standing):
    total, clean, revolutions = judge(env, motion(env, *flight(turns=-1.0)))
    assert (clean, revolutions) == (0, pytest.approx(-1.0))
    assert total < standing - 0.5


def test_a_double_turn_without_a_landing_between_is_spoiled(env):
    total, clean, revolutions = judge(env, motion(env, *flight(turns=2.0)))
    assert (clean, revolutions) == (0, pytest.approx(2.0))
    assert total < judge(env, motion(env, *flight()))[0]


@pytest.mark.parametrize(("degrees", "clean"), [(-50, 0), (-40, 1), (40, 1), (50, 0)])
def test_a_landing_is_upright_within_45_degrees(env, degrees, clean):
    assert judge(env, motion(env, *flight(turns=1 + degrees / 360)))[1] == clean


def test_a_spoiled_attempt_ends_where_it_stands(env):
    angles, heights = flight(end=0.5)
    heights[(angles > 2.0) & (angles < 2.6)] = TOUCHING
    next_angles, next_heights = flight()
    paths = [motion(env, angles, heights), motion(env, TURN + next_angles, next_heights)]
    assert judge(env, np.concatenate(paths))[1] == 1


def test_the_pay_stops_where_the_attempt_is_spoiled(env):
    """Half a turn is paid 0.3; then the head touches, and the rest of the flight is for nothing."""
    angles, heights = flight(start=0.0, end=1.0)
    heights[(angles > 3.1) & (angles < 3.2)] = TOUCHING
    with_height = judge(env, motion(env, angles, heights))[0]
    height = 0.001 * motion(env, angles, heights)[:, -1, 1].sum()
    assert with_height - height == pytest.approx(0.3 - 0.003 * STEPS / 2, abs=0.02)


def test_going_back_forward_gives_no_second_try(env):
    angles, heights = flight()
    path = motion(env, angles, heights)
    back = motion(env, angles[::-1], heights)
    assert judge(env, np.concatenate([path, back, path]))[1] == 1


def test_a_new_flip_needs_a_new_turn(env):
    angles, heights = flight()
    angles = np.where(np.arange(len(angles)) > 320, TURN - 0.4 * np.sin(np.arange(len(angles))), angles)
    assert judge(env, motion(env, angles, heights))[1] == 1


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0, 4.0])
def test_rocking_earns_less_than_standing(env, standing, width):
    swing = width * (1 - np.cos(np.linspace(0, 10 * TURN, STEPS * SUBSTEPS))) / 2
    rising = np.gradient(swing) > 0  # backward in the air, forward on the foot
    path = motion(env, swing, np.where(rising, 0.01, TOUCHING))
    assert judge(env, path)[0] < standing


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.4), (0.9, 2.0), (1.5, 2.5)])
def test_rocking_without_ever_standing_earns_less_than_standing(env, standing, low, high):
    """Backward in the air, forward on the foot, always leaning so far that it never counts as upright."""
    swing = low + (high - low) * (1 - np.cos(np.linspace(0, 10 * TURN, STEPS * SUBSTEPS))) / 2
    path = motion(env, swing, np.where(np.gradient(swing) > 0, 0.01, TOUCHING))
    assert judge(env, path, on_foot=True)[0] < standing


def test_turning_too_far_and_coming_back_on_the_foot_earns_less_than_landing(env):
    """What the robots of earlier judges did: 1.4 turns in the air, then forward on the foot until they stood."""
    there = motion(env, *flight(turns=1.4))
    back = motion(env, TURN * np.linspace(1.4, 1.05, STEPS * SUBSTEPS), TOUCHING)
    earned = judge(env, np.concatenate([there, back]), on_foot=True)
    landed = judge(env, motion(env, *flight()))[0]
    assert earned[1] == 0
    assert earned[0] < landed - 0.4


def test_an_attempt_that_ends_where_it_began_gives_back_more_than_it_was_paid(env):
    """A tenth of a turn backward in the air pays 0.06; standing again, the torso 36° back, it costs 0.066."""
    there = np.linspace(0, TURN / 10, STEPS * SUBSTEPS)
    air, landing = motion(env, there, 0.01), motion(env, TURN / 10, TOUCHING)
    paths = [air, np.concatenate([air, landing]), np.concatenate([air, landing, landing])]
    earned = [judge(env, path)[0] - 0.001 * path[:, -1, 1].sum() for path in paths]
    assert earned == pytest.approx([0.06, -0.006, -0.006], abs=0.001)


def test_rolling_earns_less_than_standing(env, standing):
    angles = np.linspace(0, 2 * TURN, STEPS * SUBSTEPS)
    assert judge(env, motion(env, angles, TOUCHING, knees=-2.5))[0] < standing - 0.2


def test_lying_earns_less_than_standing(env, standing):
    assert judge(env, motion(env, 1.9, TOUCHING))[0] < standing - 0.3


def test_the_reward_of_2017_pays_for_rolling(env):
    """Its hole, which the judge must not have: the same motion, scored by the published formula."""
    qvel = np.array([[0.0, 0.0, -5.0, 0.0, 0.0, 0.0]])
    qpos = motion(env, 1.0, TOUCHING)[:1]
    rolling = spin_reward(env._motion(qpos, qvel, np.zeros((1, 3))))
    assert rolling[0] == pytest.approx(5.0 * (1 + 0.3 * qpos[0, -1, 1]))
