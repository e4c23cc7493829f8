"""What every registered environment of prefgym promises, and what each body adds."""

import json
import logging

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from mujoco.batch import SimulationError
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import prefgym  # noqa: F401  (registers the environments)
from prefgym.envs.backflip import spin_reward
from prefgym.envs.clips import clip_frames
from prefgym.envs.planar import Motion
from prefgym.registry import UnknownNameError
from prefgym.scripts.train_config import BACKFLIP

IDS = sorted(name for name in gym.registry if name.startswith("prefgym/") and "Text" not in name)  # bodies
HORIZON = 7  # steps of an episode in most tests, so that several end


@pytest.fixture(params=IDS)
def env_id(request):
    return request.param


@pytest.fixture
def short(env_id, monkeypatch):
    """The id of an environment whose episodes are short."""
    monkeypatch.setattr(type(vector(env_id, 1)), "horizon", HORIZON)
    return env_id


def vector(env_id, count=3, **options):
    return gym.make_vec(env_id, num_envs=count, **options).unwrapped


def actions(env, steps, seed=0):
    shape = (steps, *env.action_space.shape)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def play(env, moves):
    """All that an environment says on these actions, as a flat list."""
    return [flat(env.step(move)) for move in moves]


def flat(value):
    """Nested tuples and dicts as a list of (path, array)."""
    if isinstance(value, dict):
        return [(f"{key}/{path}", leaf) for key in sorted(value) for path, leaf in flat(value[key])]
    if isinstance(value, tuple | list) or (isinstance(value, np.ndarray) and value.dtype == object):
        return [(f"{key}/{path}", leaf) for key, one in enumerate(value) for path, leaf in flat(one)]
    return [("", None if value is None else np.array(value))]


def assert_same(first, second):
    assert [path for path, _ in first] == [path for path, _ in second]
    for (path, one), (_, other) in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=path)


def test_both_checkers_pass_without_a_warning(env_id):
    check_env(gym.make(env_id).unwrapped, skip_render_check=True)
    sb3_check_env(gym.make(env_id))


def test_spaces_are_finite_and_the_same_for_one_and_for_many(env_id):
    single, many = gym.make(env_id), vector(env_id)
    assert many.single_observation_space == single.observation_space
    assert many.single_action_space == single.action_space
    assert many.observation_space.shape == (3, *single.observation_space.shape)
    assert many.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    for space in (single.observation_space, single.action_space):
        assert space.is_bounded()
        assert space.dtype == np.float32


def test_observations_stay_in_the_space_and_the_judge_keeps_raw_velocities(env_id):
    env = vector(env_id)
    env.reset(seed=0)
    env._physics.qvel[1, 3:] = 500.0
    env._physics.qpos[2, 1] += 50.0
    seen = []
    env._judge = lambda motion, judge=env._judge: seen.append(np.abs(motion.qvel).max()) or judge(motion)
    observations, *_ = env.step(np.zeros(env.action_space.shape))
    assert env.observation_space.contains(observations)
    high = env.single_observation_space.high
    clipped = (observations == high)[:, : high.size - len(env.observed)]  # what the judge shows stays within its bounds
    assert clipped.any(axis=1).tolist() == [False, True, True]
    assert seen[0] > 100


def test_a_reset_tells_what_a_step_tells_with_nothing_judged(env_id):
    env = vector(env_id)
    _, fresh = env.reset(seed=0)
    *_, info = env.step(np.zeros(env.action_space.shape))
    assert set(fresh) == set(info)
    assert {name: values.dtype for name, values in fresh.items()} == {
        name: values.dtype for name, values in info.items()
    }
    judged = set(env._unjudged)
    assert "true_reward" in judged
    assert all(not fresh[name].any() for name in judged)
    assert all(info[f"_{name}"].all() for name in judged)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(env_id):
    env = vector(env_id)
    moves = actions(env, 5)
    runs = [(flat(env.reset(seed=seed)), play(env, moves)) for seed in (1, 1, 2)]
    for first, second in zip([runs[0][0], *runs[0][1]], [runs[1][0], *runs[1][1]], strict=True):
        assert_same(first, second)
    assert (runs[0][0][0][1] != runs[2][0][0][1]).any()


def test_seeds_count_up_or_are_given_one_by_one_and_none_goes_on(env_id):
    env, other = vector(env_id), vector(env_id)
    first = env.reset(seed=5)[0]
    np.testing.assert_array_equal(other.reset(seed=[5, 6, 7])[0], first)
    second = env.reset()[0]
    assert (second != first).any(axis=1).all()
    np.testing.assert_array_equal(other.reset(seed=[None, 6, None])[0][[0, 2]], second[[0, 2]])
    np.testing.assert_array_equal(other.reset(seed=5)[0], first)


def test_threads_do_not_change_a_bit(short):
    runs = []
    for threads in (1, 2, 3):
        env = vector(short, 5, num_threads=threads)
        runs.append([flat(env.reset(seed=0)), *play(env, actions(env, 2 * HORIZON))])
    for run in runs[1:]:
        for first, second in zip(runs[0], run, strict=True):
            assert_same(first, second)


def test_environment_i_of_a_batch_is_the_single_environment_with_seed_plus_i_bit_for_bit(short):
    """Over several episodes; and all of it is what Gymnasium's own vector environment says of the single ones."""
    many = vector(short, 3)
    sync = SyncVectorEnv([lambda: gym.make(short)] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    assert_same(flat(many.reset(seed=9)), flat(sync.reset(seed=9)))
    for number, move in enumerate(actions(many, 3 * HORIZON), start=1):
        ours, theirs = many.step(move), sync.step(move)
        assert ours[3].all() == (number % HORIZON == 0)
        assert_same(flat(ours), flat(theirs))


def test_gymnasium_agrees_when_episodes_end_at_different_times(short):
    many = vector(short, 5)
    sync = SyncVectorEnv([lambda: gym.make(short)] * 5, autoreset_mode=AutoresetMode.SAME_STEP)
    options = {"stagger": True}
    assert_same(flat(many.reset(seed=3, options=options)), flat(sync.reset(seed=3, options=options)))
    ended = []
    for move in actions(many, 3 * HORIZON):
        ours, theirs = many.step(move), sync.step(move)
        ended.append(ours[3])
        finals = [
            {name: infos.pop(name, None) for name in ("final_info", "final_obs")} for infos in (ours[4], theirs[4])
        ]
        assert_same(flat(ours), flat(theirs))
        for number in np.flatnonzero(ours[3]):
            np.testing.assert_array_equal(*(final["final_obs"][number] for final in finals))
            for name, values in finals[1]["final_info"].items():
                np.testing.assert_array_equal(finals[0]["final_info"][name][number], values[number], err_msg=name)
    assert (np.array(ended).sum(axis=0) >= 3).all()
    assert not np.array(ended).all(axis=1).any()


def test_stagger_shortens_the_first_episodes_only(short):
    env = vector(short, 64)
    env.reset(seed=0, options={"stagger": True})
    ends = np.array([env.step(move)[3] for move in actions(env, 3 * HORIZON)])
    first = ends.argmax(axis=0) + 1
    assert set(first) == set(range(1, HORIZON + 1))
    for number, step in enumerate(first):
        assert np.flatnonzero(ends[:, number]).tolist() == list(range(step - 1, 3 * HORIZON, HORIZON))
    env.reset(options={"stagger": False})
    assert not np.array([env.step(move)[3] for move in actions(env, HORIZON - 1)]).any()


def test_a_saved_state_replays_bit_for_bit_in_another_environment(short):
    env = vector(short)
    env.reset(seed=4, options={"stagger": True})
    moves = actions(env, 3 * HORIZON)
    play(env, moves[:10])
    saved = env.get_state()
    after = play(env, moves[10:])
    arrays = {name: value for name, value in saved.items() if isinstance(value, np.ndarray)}
    others = json.loads(json.dumps({name: value for name, value in saved.items() if name not in arrays}))
    assert all(array.dtype.kind in "biuf" for array in arrays.values())
    other = vector(short)
    observations = other.set_state(arrays | others)
    assert observations.dtype == np.float32
    for first, second in zip(after, play(other, moves[10:]), strict=True):
        assert_same(first, second)
    for first, second in zip(after, [env.set_state(saved) is None] and play(env, moves[10:]), strict=True):
        assert_same(first, second)


def test_the_single_environment_saves_its_state_too(short):
    env, other = (gym.make(short).unwrapped for _ in range(2))
    env.reset(seed=4)
    moves = actions(env, 2 * HORIZON)
    play(env, moves[: HORIZON - 1])
    saved = env.get_state()
    runs = []
    for one in (env, other):
        one.set_state(saved)
        runs.append([flat(one.step(moves[HORIZON])), flat(one.reset()), flat(one.step(moves[0]))])
    for first, second in zip(*runs, strict=True):
        assert_same(first, second)


def test_a_state_of_another_size_is_refused(env_id):
    env = vector(env_id)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"`state` must have qpos of shape \(2, .*got \(3, "):
        vector(env_id, 2).set_state(env.get_state())


def test_what_is_returned_is_never_changed_later(short):
    env = vector(short)
    said = [env.reset(seed=0)]
    for move in actions(env, HORIZON + 2):
        kept = [flat(one) for one in said]
        said.append(env.step(move))
        for before, now in zip(kept, said, strict=False):
            assert_same(before, flat(now))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda a: a[:-1], r"`actions` must have the shape \(3, \d\), got \(2, \d\)"),
        (lambda a: a[0], r"`actions` must have the shape"),
        (lambda a: np.where(np.arange(a.size).reshape(a.shape) == 4, np.nan, a), "from -1.0 to 1.0, got nan as action"),
        (lambda a: a + 1.5, "got 1.5 as action 0 of environment 0; clip them first"),
        (lambda a: a - np.inf, "got -inf"),
    ],
)
def test_bad_actions_are_refused_and_change_nothing(env_id, spoil, words):
    env, other = vector(env_id), vector(env_id)
    env.reset(seed=0), other.reset(seed=0)
    good = np.zeros(env.action_space.shape)
    with pytest.raises(ValueError, match=words):
        env.step(spoil(good))
    assert_same(flat(env.step(good)), flat(other.step(good)))


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"num_envs": 0}, ValueError, "`num_envs` must be a whole number of at least 1, got 0"),
        ({"num_envs": 1.5}, ValueError, "`num_envs` .* got 1.5"),
        ({"num_threads": 0}, ValueError, "`num_threads` must be a whole number of at least 1, got 0"),
        ({"render_mode": "ansi"}, ValueError, "`render_mode` must be None or one of .*, got 'ansi'"),
        ({"renderer": "pianter"}, UnknownNameError, r"Unknown renderer 'pianter'.*'painter'"),
        ({"size": (4, 300)}, ValueError, r"`size` must be .* at least 16 pixels, got \(4, 300\)"),
        ({"reward": "nothing"}, UnknownNameError, "Unknown reward 'nothing'"),
    ],
)
def test_bad_arguments_are_refused_with_their_name_rule_and_value(env_id, options, kind, words):
    with pytest.raises(kind, match=words):
        type(vector(env_id))(**options)


def test_bad_seeds_options_and_orders_are_refused(env_id):
    env = vector(env_id)
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        env.step(np.zeros(env.action_space.shape))
    with pytest.raises(ValueError, match="`seed` must be an int or a list of 3, got a list of 2"):
        env.reset(seed=[1, 2])
    with pytest.raises(gym.error.Error, match="-4"):
        env.reset(seed=-4)
    with pytest.raises(UnknownNameError, match=r"Unknown option 'staggered'.*'stagger'"):
        env.reset(options={"staggered": True})


def test_the_single_environment_asks_for_a_reset_after_the_end(short):
    env = gym.make(short).unwrapped
    env.reset(seed=0)
    *_, truncated, _ = [env.step(move) for move in actions(env, HORIZON)][-1]
    assert truncated
    with pytest.raises(gym.error.ResetNeeded, match="truncated"):
        env.step(actions(env, 1)[0])


def spoil_nan(physics):
    physics.qvel[1] = np.nan


def spoil_huge(physics):
    physics.qvel[1, 3] = 1e9  # MuJoCo accepts it, and diverges


def spoil_error(physics):
    """MuJoCo raises in simulation 1, once; the others have been stepped by then."""
    rollout = physics._batch.rollout

    def once(substeps):
        physics._batch.rollout = rollout
        rollout(substeps, ids=np.delete(np.arange(len(physics.diverged)), 1))
        raise SimulationError(np.array([1]), "out of memory")

    physics._batch.rollout = once


@pytest.mark.parametrize("spoil", [spoil_nan, spoil_huge, spoil_error])
def test_a_simulation_that_diverges_is_reset_counted_and_logged_and_the_others_go_on(
    env_id, spoil, caplog, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes MUJOCO_LOG.TXT
    env, untouched = vector(env_id), vector(env_id)
    env.reset(seed=0), untouched.reset(seed=0)
    moves = actions(env, 8)
    play(env, moves[:4]), play(untouched, moves[:4])
    spoil(env._physics)
    with caplog.at_level(logging.WARNING, "prefgym"):
        observations, rewards, _, truncations, info = env.step(moves[4])
    expected = untouched.step(moves[4])
    assert truncations.tolist() == [False, True, False]
    assert info["diverged"].tolist() == [0, 1, 0]
    assert info["_final_obs"].tolist() == [False, True, False]
    assert env.single_observation_space.contains(info["final_obs"][1])
    assert env.observation_space.contains(observations)
    assert rewards[1] == info["final_info"]["true_reward"][1] == 0
    assert "diverged in environments [1]" in caplog.text
    for step in (5, 6, 7):
        np.testing.assert_array_equal(observations[[0, 2]], expected[0][[0, 2]])
        np.testing.assert_array_equal(rewards[[0, 2]], expected[1][[0, 2]])
        for name in env._unjudged:
            np.testing.assert_array_equal(info[name][[0, 2]], expected[4][name][[0, 2]])
        (observations, rewards, _, truncations, info), expected = env.step(moves[step]), untouched.step(moves[step])
        assert not truncations.any()
    assert info["diverged"].tolist() == [0, 1, 0]


def test_what_was_shown_can_be_drawn_again(env_id):
    env = vector(env_id, 1, render_mode="rgb_array", size=(160, 120))
    shown, rendered = [env.reset(seed=0)[1]["shown"][0]], env.render()
    for move in actions(env, 3):
        shown.append(env.step(move)[4]["shown"][0])
        rendered = env.render()
    frames = clip_frames(env.kinematics, np.array(shown), fps=50, size=(160, 120), clock=False)
    assert frames.shape == (4, 120, 160, 3)
    np.testing.assert_allclose(shown[-1], env._physics.qpos[0], rtol=1e-6)
    away = np.abs(rendered[0][40:110].astype(int) - frames[-1][40:110])  # between what is written above and below
    assert away.max() < 20, "the same body, but for rounding to float32"


def test_every_name_of_a_reward_gives_one_and_the_judges_stays_in_the_info(env_id):
    for name in type(vector(env_id)).rewards:
        env, usual = vector(env_id, reward=name), vector(env_id)
        env.reset(seed=0), usual.reset(seed=0)
        for move in actions(env, 5):
            (_, rewards, *_, info), (_, true, *_) = env.step(move), usual.step(move)
            np.testing.assert_array_equal(info["true_reward"], true)
            assert rewards.shape == (3,)
            assert np.isfinite(rewards).all()


def test_gymnasiums_wrappers_count_the_episodes(short):
    env = gym.wrappers.vector.RecordEpisodeStatistics(vector(short))
    env.reset(seed=0)
    for move in actions(env, HORIZON):
        *_, info = env.step(move)
    assert info["episode"]["l"].tolist() == [HORIZON] * 3


# Backflip


def test_the_hand_written_reward_of_2017_is_the_published_formula():
    """-w (1 + 0.3 z + 0.1 (a·v) - 0.05 vx), by hand: w = -2, z = 1.5, a·v = 0.5·4 - 1·1 + 0·7 = 1, vx = 3."""
    qpos = np.zeros((1, 4, 6))
    qpos[0, -1, 1] = 1.5
    qvel = np.array([[3.0, 9.0, -2.0, 4.0, 1.0, 7.0]])
    motion = vector("prefgym/Backflip-v0", 1)._motion(qpos, qvel, np.array([[0.5, -1.0, 0.0]]))
    assert spin_reward(motion) == pytest.approx(2 * (1 + 0.45 + 0.1 - 0.15))


@pytest.mark.parametrize("env_id", IDS)
def test_every_number_of_an_observation_has_a_name(env_id):
    env = gym.make_vec(env_id, num_envs=1).unwrapped
    assert len(set(env.observation_names)) == env.single_observation_space.shape[0]


def test_the_jumper_observes_what_the_table_says():
    env = vector("prefgym/Backflip-v0", 1)
    env.reset(seed=0)
    env._physics.qpos[0] = [7.0, 2.0, 13.0, -0.5, -1.0, 0.25]
    env._physics.qvel[0] = [1.0, 2.0, 3.0, 4.0, -26.0, 26.0]
    env._spoiled[0], env._due[0] = True, -0.25
    observed = env.set_state(env.get_state())[0]
    clearances = env.kinematics.clearances(env._physics.qpos[0])
    expected = [np.sin(13), np.cos(13), 2, -0.5, -1, 0.25, 1, 2, 3, 4, -25, 25, *clearances, 1, -0.25]
    np.testing.assert_allclose(observed, expected, rtol=1e-6)
    named = dict(zip(env.observation_names, expected, strict=True))
    assert [named[name] for name in BACKFLIP.inputs] == [2, 3, clearances[3], 1, -0.25]


# CheetahStand


def test_the_cheetah_weighs_what_gymnasiums_does_and_says_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    env = vector("prefgym/CheetahStand-v0", 1)
    assert not list(tmp_path.iterdir()), "MuJoCo wrote a log"
    assert capfd.readouterr() == ("", "")
    theirs = mujoco.MjModel.from_xml_path(str(type(env).asset))
    np.testing.assert_allclose(env.model.body_mass, theirs.body_mass, rtol=1e-12)
    np.testing.assert_allclose(env.model.body_inertia, theirs.body_inertia, rtol=1e-9)
    np.testing.assert_allclose(env.model.body_invweight0, theirs.body_invweight0, rtol=1e-9)
    assert env.model.body_mass.sum() == pytest.approx(14)


@pytest.mark.parametrize(
    ("angle", "fore", "hind", "reward", "standing"),
    [
        (-90, 0.1, 0.0, 1.0, True),  # nose to the sky, on its hind foot
        (-90, 0.0, 0.0, 0.2, False),  # something else touches
        (-50, 0.1, 0.1, np.sin(np.radians(50)), True),
        (-40, 0.1, 0.1, np.sin(np.radians(40)), False),
        (0, 0.1, 0.1, 0.0, False),
        (90, 0.1, 0.1, -1.0, False),
        (270, 0.1, 0.0, 1.0, True),  # after a somersault
    ],
)
def test_the_cheetah_is_paid_for_standing_on_its_hind_leg(angle, fore, hind, reward, standing):
    env = vector("prefgym/CheetahStand-v0", 1)
    env.reset(seed=0)
    qpos = np.zeros((1, 2, 9))
    qpos[..., 2] = np.radians(angle)
    touching = (np.full((1, 2), height <= 0) for height in (hind, fore))
    judged = env._judge(Motion(qpos, np.zeros((1, 9)), np.zeros((1, 2, 8)), np.zeros((1, 6)), *touching))
    assert judged["true_reward"][0] == pytest.approx(reward)
    assert judged["standing"][0] == standing
    assert judged["standing_seconds"][0] == pytest.approx(0.02 * standing)
