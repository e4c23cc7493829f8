"""The recorder: a piece is always a run of consecutive steps of one episode, whatever the ring has been through."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefgym.recorder import FIELDS, Recorder


def record(recorder, dones, first=0):
    """Record steps whose contents say where they come from: (environment, vector step); dones [T, N]."""
    dones = np.asarray(dones, dtype=bool)
    for step, ended in enumerate(dones, start=first):
        where = np.stack([np.arange(len(ended)), np.full(len(ended), step)], axis=1)
        recorder.add(where, where[:, :1] + 0.5, np.zeros((len(ended), 0)), where[:, 1] * 1.0, ended)


def episodes(dones):
    """The number of the episode of each step [T, N]."""
    return np.cumsum(dones, axis=0) - np.asarray(dones, dtype=int)


runs = st.integers(1, 4).flatmap(
    lambda count: st.lists(st.lists(st.booleans(), min_size=count, max_size=count), min_size=1, max_size=40)
)


@settings(deadline=None, derandomize=True)
@given(runs, st.integers(1, 25), st.integers(1, 8), st.one_of(st.none(), st.integers(1, 30)), st.integers(0, 99))
def test_pieces_lie_within_one_episode_of_what_is_kept(dones, capacity, length, last, seed):
    recorder, of = Recorder(capacity), episodes(dones)
    record(recorder, dones)
    kept = min(len(dones), capacity, last or capacity)
    starts = range(len(dones) - kept, len(dones) - length + 1)
    whole = {(env, s) for s in starts for env in range(of.shape[1]) if of[s, env] == of[s + length - 1, env]}
    assert len(recorder) == min(len(dones), capacity)
    rng = np.random.default_rng(seed)
    if not whole:
        with pytest.raises(ValueError, match=f"no piece of {length} steps lies within one episode of the {kept} steps"):
            recorder.draw(3, length, rng, last)
        return
    pieces = recorder.draw(2 * len(whole), length, rng, last)
    assert len(pieces) == 2 * len(whole)
    envs, steps = pieces.observations[..., 0], pieces.observations[..., 1]
    assert (envs == envs[:, :1]).all()
    assert (np.diff(steps, axis=1) == 1).all()
    np.testing.assert_array_equal(pieces.rewards, steps)
    np.testing.assert_array_equal(pieces.actions[..., 0], envs + 0.5)
    np.testing.assert_array_equal(pieces.steps, steps[:, 0] * of.shape[1])
    assert set(zip(envs[:, 0].astype(int).tolist(), steps[:, 0].astype(int).tolist(), strict=True)) <= whole


@settings(deadline=None, derandomize=True)
@given(runs, st.integers(1, 10), st.integers(0, 40), st.integers(1, 5))
def test_a_saved_recorder_goes_on_as_if_nothing_had_happened(dones, capacity, split, length):
    dones = np.array(dones)
    whole, before, after = Recorder(capacity), Recorder(capacity), Recorder(capacity)
    record(whole, dones)
    record(before, dones[:split])
    state = before.get_state()
    assert all(isinstance(value, int | np.ndarray) for value in state.values())
    after.set_state(state)
    record(before, dones[split:], split)  # must not reach the copy
    record(after, dones[split:], split)
    for name, value in whole.get_state().items():
        np.testing.assert_array_equal(after.get_state()[name], value, err_msg=name)
    draws = []
    for recorder in (whole, after):
        try:
            draws.append(recorder.draw(5, length, np.random.default_rng(0)).observations)
        except ValueError as error:
            draws.append(str(error))
    np.testing.assert_array_equal(*draws)


def test_pieces_are_drawn_without_repeats_while_there_are_enough_and_evenly():
    recorder = Recorder(20)
    record(recorder, np.zeros((20, 3)))
    pieces = recorder.draw(3 * 16, 5, np.random.default_rng(0))
    assert len({tuple(piece[0]) for piece in pieces.observations}) == 48
    rng = np.random.default_rng(0)
    counts = np.bincount(np.concatenate([recorder.draw(10, 5, rng).steps for _ in range(480)]) // 3, minlength=16)
    assert counts.sum() == 4800
    assert (np.abs(counts - 300) < 5 * np.sqrt(300)).all()


def test_an_interruption_ends_every_episode():
    recorder = Recorder(20)
    recorder.interrupt()  # nothing recorded yet
    record(recorder, np.zeros((4, 2)))
    recorder.interrupt()
    record(recorder, np.zeros((4, 2)), 4)
    with pytest.raises(ValueError, match="no piece of 5 steps lies within one episode of the 8 steps recorded"):
        recorder.draw(1, 5, np.random.default_rng(0))
    starts = recorder.draw(50, 4, np.random.default_rng(0)).observations[:, 0, 1]
    assert set(starts) == {0.0, 4.0}


def test_memory_is_bounded_and_a_piece_pins_none_of_it():
    recorder = Recorder(8)
    record(recorder, np.zeros((1, 3)))
    rings = dict(recorder._rings)
    record(recorder, np.zeros((100, 3)), 1)
    assert all(recorder._rings[name] is ring for name, ring in rings.items())
    assert rings["observations"].shape == (8, 3, 2)
    pieces = recorder.draw(2, 4, np.random.default_rng(0))
    segment = pieces.segment(1, env_id="x")
    for name in FIELDS:
        assert not np.shares_memory(getattr(pieces, name), rings[name])
        assert getattr(segment, name).base is None
    assert segment.step == pieces.steps[1]
    assert segment.env_id == "x"
    assert segment.true_return == pytest.approx(pieces.rewards[1].sum())


def test_the_last_steps_are_given_flat():
    recorder = Recorder(5)
    record(recorder, np.zeros((7, 2)))
    observations, actions = recorder.recent(3)
    assert observations[:, 1].tolist() == [4, 4, 5, 5, 6, 6]
    assert actions[:, 0].tolist() == [0.5, 1.5] * 3
    assert len(recorder.recent(99)[0]) == 10


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda r: Recorder(0), "`capacity` must be at least 1 step, got 0"),
        (lambda r: Recorder(3).recent(2), "at least 1 step must be asked for and recorded, got 2 of 0"),
        (lambda r: r.recent(0), "got 0 of 4"),
        (lambda r: r.draw(0, 2, np.random.default_rng(0)), "`count` must be at least 1, got 0"),
        (lambda r: r.draw(1, 0, np.random.default_rng(0)), "`length` must be at least 1, got 0"),
        (lambda r: Recorder(3).draw(1, 2, np.random.default_rng(0)), "no piece of 2 steps lies within .* 0 steps"),
        (lambda r: record(r, np.zeros((1, 1))), r"`observations` must have the shape \(2, 2\) as before, got \(1, 2\)"),
        (lambda r: Recorder(5).set_state(r.get_state()), "`state` must be of a recorder with the capacity 5, got 4"),
    ],
)
def test_bad_orders_are_refused(act, words):
    recorder = Recorder(4)
    record(recorder, np.zeros((4, 2)))
    with pytest.raises(ValueError, match=words):
        act(recorder)
